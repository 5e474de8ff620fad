"""Probabilities to masks that an annotator wants to see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Parts smaller than this share of the image are specks (or holes) of the model, not objects: on
# a 12-megapixel photograph 12,000 pixels, about 110 x 110.
SPECK = 1e-3
KEEP_LARGEST = 0.1  # a part this large relative to the largest one is kept even if it is small


def clean(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Lower specks below the threshold and raise holes to it: (h, w) -> (h, w).

    Works at the model's resolution, where sizes are in proportion to the image's and labelling
    costs next to nothing; interpolation brings no part back.
    """
    cleaned = probabilities.copy()
    marked = cleaned >= threshold
    least = SPECK * marked.size
    parts, sizes = _parts(marked)
    if len(sizes):
        too_small = sizes < min(least, KEEP_LARGEST * sizes.max())
        cleaned[np.isin(parts, 1 + np.flatnonzero(too_small))] = 0.0
    holes, sizes = _parts(cleaned < threshold)
    at_border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    small = 1 + np.flatnonzero(sizes < least)
    cleaned[np.isin(holes, np.setdiff1d(small, at_border))] = max(threshold, 0.5)
    return cleaned


def _parts(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected parts numbered from 1, and the size of each in pixels."""
    parts, count = ndimage.label(marked)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)[1:]
