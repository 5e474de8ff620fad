"""Bitmasks as Label Studio writes them: a PNG in a data URL, opaque where the mask is."""

import io
from base64 import b64decode, b64encode

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PNG = "data:image/png;base64,"


def encode(mask: NDArray[np.bool_]) -> str:
    """A mask, (H, W), black on transparent as the editor saves it."""
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette([0, 0, 0] * 2)
    file = io.BytesIO()
    picture.save(file, "PNG", bits=1, transparency=0)
    return PNG + b64encode(file.getvalue()).decode()


def decode(url: str, height: int, width: int) -> NDArray[np.uint8]:
    """Alpha, (H, W), 0 to 255, of a bitmask in a data URL of any kind.

    Raises:
        ValueError: It is no PNG, or belongs to another image size.
    """
    Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which no setting raises; ours is the size
    try:
        encoded = b64decode(url.partition(",")[2])
        with Image.open(io.BytesIO(encoded), formats=["PNG"]) as picture:
            # before it is decoded: a few bytes may say that they are a picture of gigabytes
            fits = (picture.height, picture.width) == (height, width)
            alpha = np.asarray(picture.convert("RGBA").getchannel("A")) if fits else None
    except Exception as error:  # broken files make Pillow's decoders raise nearly anything
        raise ValueError('its "imageDataURL" is no PNG that can be read') from error
    if alpha is None:
        raise ValueError(f"its mask has {picture.width} x {picture.height} pixels, not the image's")
    return alpha
