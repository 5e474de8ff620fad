"""A picture as a host sends it."""

import io

from PIL import Image


def encoded() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), "red").save(buffer, "PNG")
    return buffer.getvalue()
