"""What annotators draw, as masks: the regions of an annotation that cover an area.

A stroke's edge is anti-aliased, so that a pixel counts from half its opacity. Where a tool takes
its labels from a `<Labels>` tag, a region comes twice under one id: the area, and its labels.
"""

from __future__ import annotations

import io
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import BadRequest
from backend.labelstudio import brush
from backend.labelstudio.geometry import Ellipse, Polygon, Rectangle, Size

OPAQUE = 128  # alpha from which a pixel counts
OUTLINES = ("polygon", "rectangle", "ellipse")
FORMS = ("brush", "bitmask", *OUTLINES)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Area:
    """A region that covers an area of an image."""

    control: str
    to_name: str
    form: str  # one of FORMS
    labels: tuple[str, ...]
    size: Size  # of the image as it was displayed
    turned: bool  # by the editor's own rotation tool
    value: Mapping[str, Any]
    id: str = ""
    origin: str = ""  # "manual", "prediction", or "prediction-changed"
    score: float | None = None  # of who predicted it

    def mask(self) -> Mask:
        """Its pixels, (H, W), on the image as displayed; there may be none.

        Raises:
            ValueError: it cannot be read; the message says why.
        """
        if self.turned:
            raise ValueError("the image was turned with the editor's rotation tool")
        if min(self.size) < 1:
            raise ValueError("the size of its image is not told")
        try:
            return self._mask()
        except (KeyError, TypeError, OSError) as error:
            raise ValueError(f"its {self.form} is malformed ({error})") from error
        except BadRequest:  # a rectangle between the pixels
            return np.zeros(self.size, bool)

    def _mask(self) -> Mask:
        value = self.value
        match self.form:
            case "brush":
                rle = value["rle"]
                stream = b64decode(rle) if isinstance(rle, str) else rle
                return brush.decode(stream, *self.size) >= OPAQUE
            case "bitmask":
                return _bitmask(value["imageDataURL"], self.size)
            case "polygon":
                return Polygon(tuple((float(x), float(y)) for x, y in value["points"])).mask(
                    self.size
                )
            case "ellipse":
                x, y, across, along = (float(value[k]) for k in ("x", "y", "radiusX", "radiusY"))
                return Ellipse(x, y, across, along, _rotation(value)).mask(self.size)
            case _:
                x, y, across, along = (float(value[k]) for k in ("x", "y", "width", "height"))
                return Rectangle(x, y, across, along, _rotation(value)).mask(self.size)


def areas(result: Sequence[Mapping[str, Any]]) -> Iterator[Area]:
    """The areas of an annotation's `result`; keypoints, texts and the like are left out."""
    separate = {
        region.get("id"): _labels(region) for region in result if region.get("type") == "labels"
    }
    for region in result:
        kind = str(region.get("type"))
        form = kind.removesuffix("labels")
        value = region.get("value")
        if form not in FORMS or not isinstance(value, Mapping):
            continue
        own = _labels(region) if form != kind else separate.get(region.get("id"), ())
        yield Area(
            control=str(region.get("from_name")),
            to_name=str(region.get("to_name")),
            form=form,
            labels=own,
            size=(_pixels(region, "original_height"), _pixels(region, "original_width")),
            turned=bool(region.get("image_rotation")),
            value=value,
            id=str(region.get("id")),
            origin=str(region.get("origin")),
            score=score if isinstance(score := region.get("score"), int | float) else None,
        )


def _labels(region: Mapping[str, Any]) -> tuple[str, ...]:
    value = region.get("value")
    named = value.get(region["type"]) if isinstance(value, Mapping) else None
    return tuple(label for label in named if isinstance(label, str)) if named else ()


def _pixels(region: Mapping[str, Any], key: str) -> int:
    length = region.get(key)
    return length if isinstance(length, int) else 0


def _rotation(value: Mapping[str, Any]) -> float:
    return float(value.get("rotation") or 0)


def _bitmask(url: str, size: Size) -> Mask:
    """The opaque pixels of a PNG in a data URL."""
    with Image.open(io.BytesIO(b64decode(url.partition(",")[2])), formats=["PNG"]) as picture:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    if alpha.shape != size:
        raise ValueError(
            f"its mask has {alpha.shape[1]} x {alpha.shape[0]} pixels, not the image's"
        )
    return alpha >= OPAQUE
