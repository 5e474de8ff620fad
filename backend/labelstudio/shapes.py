"""What annotators draw, as masks: the regions of an annotation that cover an area.

A stroke's edge is anti-aliased, so that a pixel counts from half its opacity. Where a tool takes
its labels from `<Labels>` tags, a region comes under one id: the area, and its labels of each.
Places are those of the upright image, also where the editor's rotation tool had turned it while
somebody drew (`image_rotation`).

Label Studio checks nothing of what an import or a script writes into a region. What is read of one
is checked here, and only here: its `fault`, or the ValueError of its mask, says what is wrong.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import BadRequest
from backend.labelstudio import bitmask, brush
from backend.labelstudio.geometry import Ellipse, Polygon, Rectangle, Size

OPAQUE = 128  # alpha from which a pixel counts
FARTHEST = 1e6  # percent of an image, or degrees: what is beyond was not drawn
LONGEST_SIDE = 2**31  # pixels
MOST_PIXELS = 2**28  # of an image that nobody has seen: a mask takes a byte each, and more to draw
OUTLINES = ("polygon", "rectangle", "ellipse")
FORMS = ("brush", "bitmask", *OUTLINES, "vector")

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Area:
    """A region that covers an area of an image."""

    control: str
    to_name: str
    form: str  # one of FORMS
    labels: tuple[str, ...]
    size: Size  # of the image as it was displayed
    value: Mapping[str, Any]
    id: str = ""
    origin: str = ""  # "manual", "prediction", or "prediction-changed"
    score: float | None = None  # of who predicted it, in [0, 1]
    fault: str = ""  # why it cannot be read, whatever its pixels
    later: bool = False  # on another than the first image, of a tag that shows a list

    def mask(self, size: Size | None = None) -> Mask:
        """Its pixels, (H, W), on the image as displayed; there may be none.

        Args:
            size: Of the image, which it has to be drawn on; None believes the region.

        Raises:
            ValueError: it cannot be read, or is of another image; the message says why.
        """
        if self.fault:
            raise ValueError(self.fault)
        height, width = self.size
        if min(self.size) < 1:
            raise ValueError("the size of its image is not told")
        if size is not None and size != self.size:
            raise ValueError(
                f"it was drawn on {width} x {height} pixels, "
                f"and the image has {size[1]} x {size[0]}"
            )
        if size is None and height * width > MOST_PIXELS:
            raise ValueError(f"it says that its image has {width} x {height} pixels")
        try:
            return self._mask()
        except BadRequest:  # a rectangle between the pixels
            return np.zeros(self.size, bool)

    def _mask(self) -> Mask:
        value = self.value
        match self.form:
            case "brush":
                return _brush(value.get("rle"), self.size)
            case "bitmask":
                return _bitmask(value.get("imageDataURL"), self.size)
            case "vector":  # a path, open or closed, of lines and curves
                raise ValueError("it is a vector, which is not filled: draw a polygon instead")
            case "polygon":
                return Polygon(_points(value.get("points"))).mask(self.size)
            case "ellipse":
                x, y, across, along = (_place(value, k) for k in ("x", "y", "radiusX", "radiusY"))
                return Ellipse(x, y, across, along, _rotation(value)).mask(self.size)
            case _:
                x, y, across, along = (_place(value, k) for k in ("x", "y", "width", "height"))
                return Rectangle(x, y, across, along, _rotation(value)).mask(self.size)


def areas(regions: Iterable[Mapping[str, Any]]) -> Iterator[Area]:
    """The areas among an annotation's regions; keypoints, texts and the like are left out."""
    regions = list(regions)
    separate: dict[str | None, tuple[str, ...] | None] = {}
    for region in regions:
        if region.get("type") == "labels":  # one for each `<Labels>` tag that it has labels of
            others, told = separate.get(_id(region), ()), _labels(region, "labels")
            separate[_id(region)] = None if others is None or told is None else others + told
    if None in separate:
        separate[None] = None  # they are of any area without an id
    for region in regions:
        kind = str(region.get("type"))
        form = kind.removesuffix("labels")
        if form not in FORMS:
            continue
        value = region.get("value")
        own = _labels(region, kind) if form != kind else ()
        others = separate.get(_id(region), ())
        labels = None if own is None or others is None else own + others
        fault = "" if labels is not None else "it does not tell what labels it has"
        if not isinstance(value, Mapping):
            fault = "its value is no object"
        yield Area(
            control=str(region.get("from_name")),
            to_name=str(region.get("to_name")),
            form=form,
            labels=labels or (),
            size=(_pixels(region, "original_height"), _pixels(region, "original_width")),
            value=value if isinstance(value, Mapping) else {},
            id=_id(region) or "",
            origin=str(region.get("origin")),
            score=_score(region.get("score")),
            fault=fault,
            later=bool(region.get("item_index")),
        )


def _id(region: Mapping[str, Any]) -> str | None:
    """What a region shares with its labels, if that can be told."""
    told = region.get("id")
    return str(told) if isinstance(told, str | int) else None


def _labels(region: Mapping[str, Any], kind: str) -> tuple[str, ...] | None:
    """Those of a region; None where it has some and does not tell which."""
    value = region.get("value")
    if not isinstance(value, Mapping):
        return None
    named = value.get(kind)
    names = [one for one in named if isinstance(one, str)] if isinstance(named, list) else []
    return tuple(names) if names or not named else None


def _pixels(region: Mapping[str, Any], key: str) -> int:
    length = region.get(key)
    if isinstance(length, bool) or not isinstance(length, int | float):
        return 0
    # scripts also write 640.0
    return int(length) if 0 < length < LONGEST_SIDE and length == int(length) else 0


def _score(told: object) -> float | None:
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 <= told <= 1 else None  # nor a NaN


def _number(told: object, name: str) -> float:
    """A number of an outline, which scripts also write as text.

    Raises:
        ValueError: it is none, or no place could have it.
    """
    if isinstance(told, int | float | str) and not isinstance(told, bool):
        with suppress(ValueError, OverflowError):
            number = float(told)
            if abs(number) < FARTHEST:  # nor a NaN
                return number
    raise ValueError(f"{name} cannot be read, or is too large")


def _place(value: Mapping[str, Any], key: str) -> float:
    return _number(value.get(key), f'its "{key}"')


def _rotation(value: Mapping[str, Any]) -> float:
    return _number(value.get("rotation") or 0, 'its "rotation"')


def _points(told: object) -> tuple[tuple[float, float], ...]:
    """The corners of a polygon.

    Raises:
        ValueError: they are no places.
    """
    if not isinstance(told, list):
        raise ValueError('its "points" are no list of pairs')
    points = []
    for point in told:
        if not isinstance(point, list) or len(point) != 2:
            raise ValueError('its "points" are no list of pairs')
        x, y = (_number(one, 'a number in its "points"') for one in point)
        points.append((x, y))
    return tuple(points)


def _brush(told: object, size: Size) -> Mask:
    """The opaque pixels of brush RLE, a list of bytes or base64.

    Raises:
        ValueError: it is neither, or of another size.
    """
    if not isinstance(told, str | list):
        raise ValueError('its "rle" is no list of bytes')
    try:
        stream = b64decode(told) if isinstance(told, str) else told
    except ValueError as error:
        raise ValueError('its "rle" is no base64') from error
    return brush.decode(stream, *size) >= OPAQUE


def _bitmask(told: object, size: Size) -> Mask:
    """The opaque pixels of a PNG in a data URL.

    Raises:
        ValueError: it is none, or has another size.
    """
    if not isinstance(told, str):
        raise ValueError('its "imageDataURL" is no PNG')
    return bitmask.decode(told, *size) >= OPAQUE
