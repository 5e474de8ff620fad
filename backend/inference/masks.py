"""Probabilities to masks that an annotator wants to see, and masks at other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

Place = tuple[int, int]  # row, column
Window = tuple[slice, slice]

# Parts smaller than this share of the image are specks (or holes) of the model, not objects: on
# a 12-megapixel photograph 12,000 pixels, about 110 x 110.
SPECK = 1e-3
KEEP_LARGEST = 0.1  # a part this large relative to the largest one is kept even if it is small


def clean(
    probabilities: NDArray[np.float32], threshold: float, confidence: float = 0.0
) -> NDArray[np.float32]:
    """Lower specks and doubtful parts below the threshold, raise holes to it: (h, w) -> (h, w).

    A part is doubtful if its mean probability is below `confidence`: pixels tell how far an object
    reaches, their mean whether it is one. What is not likely at all was taken away, as another
    label's, and stays a hole.

    Works at the model's resolution, where sizes are in proportion to the image's and labelling
    costs next to nothing; interpolation brings no part back.
    """
    cleaned = probabilities.copy()
    marked = cleaned >= threshold
    least = SPECK * marked.size
    numbered, sizes = parts(marked)
    if len(sizes):
        gone = sizes < min(least, KEEP_LARGEST * sizes.max())
        if confidence > threshold:
            gone |= _means(cleaned, numbered, len(sizes)) < confidence
        cleaned[np.isin(numbered, 1 + np.flatnonzero(gone))] = 0.0
    holes, sizes = parts(cleaned < threshold)
    at_border = np.unique(np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]]))
    small = 1 + np.flatnonzero(sizes < least)
    filled = np.isin(holes, np.setdiff1d(small, at_border)) & (probabilities > 0)
    cleaned[filled] = max(threshold, 0.5)
    return cleaned


def confidences(probabilities: NDArray[np.float32], threshold: float) -> NDArray[np.float64]:
    """The mean probability of each part that reaches a threshold, (N,), the least first."""
    numbered, sizes = parts(probabilities >= threshold)
    means: NDArray[np.float64] = np.sort(_means(probabilities, numbered, len(sizes)))
    return means


def under(
    mask: NDArray[np.bool_],
    wanted: Sequence[Place],
    unwanted: Sequence[Place],
) -> NDArray[np.bool_]:
    """The parts of a mask, (H, W), that points choose; points are rows and columns.

    Parts with a wanted point stay, all parts if there is no wanted point, and those with an
    unwanted point go. A part that has both is shared out: a pixel stays if a wanted point is as
    near as any unwanted one.
    """
    window = _window(mask)
    numbered, sizes = parts(mask[window])
    part = _numbers(numbered, window, (*wanted, *unwanted))
    stays = np.full(len(sizes) + 1, not wanted)
    stays[[part[place] for place in wanted]] = True
    spoilt = {part[place] for place in unwanted} - {0}
    shared = spoilt & {part[place] for place in wanted}
    stays[[0, *(spoilt - shared)]] = False
    kept = np.zeros_like(mask)
    inside = kept[window]
    inside[:] = stays[numbered]
    boxes = ndimage.find_objects(numbered) if shared else []
    for number in shared:
        box = boxes[number - 1]
        nearer = _distance(box, window, wanted) > _distance(box, window, unwanted)
        inside[box] &= ~(nearer & (numbered[box] == number))
    return kept


def _window(mask: NDArray[np.bool_]) -> Window:
    """The rows and columns that hold all of a mask: parts of a large image take long to tell."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _numbers(
    numbered: NDArray[np.int32], window: Window, places: Sequence[Place]
) -> dict[Place, int]:
    """The number of the part that each place of an image is on, 0 if it is on none."""
    height, width = numbered.shape
    found = dict.fromkeys(places, 0)
    for place in found:
        row, column = place[0] - window[0].start, place[1] - window[1].start
        if 0 <= row < height and 0 <= column < width:
            found[place] = int(numbered[row, column])
    return found


def _distance(box: Window, window: Window, places: Sequence[Place]) -> NDArray[np.int64]:
    """Square of the distance to the nearest place of an image, for each pixel of a window's box.

    One place after the other: annotators who count set hundreds.
    """
    rows, columns = np.ogrid[box]
    rows, columns = rows + window[0].start, columns + window[1].start
    squares = ((rows - row) ** 2 + (columns - column) ** 2 for row, column in places)
    return reduce(np.minimum, squares)


def _means(
    probabilities: NDArray[np.float32], parts: NDArray[np.int32], count: int
) -> NDArray[np.float64]:
    """The mean probability of each part, (N,)."""
    means: NDArray[np.float64] = ndimage.mean(probabilities, parts, np.arange(1, count + 1))
    return means


def parts(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected parts of a mask (h, w), numbered from 1, 0 outside; the size of each, (N,)."""
    numbered, count = ndimage.label(marked)
    return numbered, np.bincount(numbered.ravel(), minlength=count + 1)[1:]


def shrunk(mask: NDArray[np.bool_], size: tuple[int, int], least: float = 0.5) -> NDArray[np.bool_]:
    """A mask at another size: pixels of which it covers at least that share.

    What covers no pixel by that, as a crack in a large photograph, is there nevertheless: then it
    is the pixels of which it covers half as much as where it covers most.
    """
    share = F.interpolate(torch.from_numpy(mask.copy())[None, None].float(), size, mode="area")
    most = float(share.max())
    covered: NDArray[np.bool_] = (share[0, 0] >= (most / 2 if 0 < most < least else least)).numpy()
    return covered
