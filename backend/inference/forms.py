"""A mask in the form that each control takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from backend.inference.predictor import Found
from backend.labelstudio.config import Control, Kind
from backend.labelstudio.regions import (
    bitmask_value,
    brush_value,
    rectangle_value,
    shape,
)

Mask = NDArray[np.bool_]


def shapes(found: Found) -> list[dict[str, Any]]:
    """What a query found, as shapes for every control that asked; none for nothing."""
    if found.mask is None:
        return []
    query, mask = found.query, found.mask
    return [
        shape(control, query.label, value, (mask.shape[0], mask.shape[1]), found.score)
        for control in query.controls
        for part in (instances(mask) if control.instances else [mask])
        for value in _values(control, part)
    ]


def instances(mask: Mask) -> list[Mask]:
    """The connected parts of a mask, (H, W), each as a mask of the same size."""
    parts, count = ndimage.label(mask)
    return [parts == number for number in range(1, count + 1)]


def box(mask: Mask) -> tuple[float, float, float, float]:
    """Left, top, width and height of a mask's bounding box in percent of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = 100 / mask.shape[0], 100 / mask.shape[1]
    left, top = float(columns[0] * x), float(rows[0] * y)
    return left, top, float((columns[-1] + 1) * x - left), float((rows[-1] + 1) * y - top)


def _values(control: Control, mask: Mask) -> list[dict[str, Any]]:
    match control.kind:
        case Kind.BRUSH:
            return [brush_value(mask)]
        case Kind.BITMASK:
            return [bitmask_value(mask)]
        case Kind.RECTANGLE:
            return [rectangle_value(*box(mask))]
