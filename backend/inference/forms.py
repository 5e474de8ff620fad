"""A mask in the form that each control takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from backend.inference.outlines import box, polygons
from backend.inference.predictor import Found
from backend.inference.scores import CONFIDENCES, Scores
from backend.labelstudio.config import Control, Kind
from backend.labelstudio.regions import (
    bitmask_value,
    brush_value,
    polygon_value,
    rectangle_value,
    shape,
)

Mask = NDArray[np.bool_]


def shapes(found: Found, scores: Scores = CONFIDENCES) -> list[dict[str, Any]]:
    """What a query found, as shapes for every control that asked; none for nothing."""
    if found.mask is None:
        return []
    query, mask = found.query, found.mask
    score, size = scores.of(found.score), (mask.shape[0], mask.shape[1])
    return [
        shape(control, query.label, value, size, score, found.score)
        for control in query.controls
        for part in (instances(mask) if control.instances else [mask])
        for value in _values(control, part)
    ]


def instances(mask: Mask) -> Iterator[Mask]:
    """The parts of a mask, (H, W), that pixels' edges connect, each as a mask of the same size."""
    parts, count = ndimage.label(mask)
    for number in range(1, count + 1):  # one at a time: each takes the whole image's memory
        yield parts == number


def _values(control: Control, mask: Mask) -> list[dict[str, Any]]:
    match control.kind:
        case Kind.BRUSH:
            return [brush_value(mask)]
        case Kind.BITMASK:
            return [bitmask_value(mask)]
        case Kind.RECTANGLE:
            return [rectangle_value(*box(mask))]
        case Kind.POLYGON:
            return [polygon_value(ring.tolist()) for ring in polygons(mask)]
