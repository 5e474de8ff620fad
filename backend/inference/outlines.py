"""Outlines of masks: polygons of few points, and boxes.

A polygon in Label Studio is one ring of points, filled. So each connected part of a mask is a
polygon of its own, and a hole is cut in along a bridge: the ring goes from its outline to the hole,
around the hole the other way, and back over the same bridge, which has no width. Filled by either
rule, nonzero or even-odd, the hole stays empty.
"""

from __future__ import annotations

import logging

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import distance
from shapely import Polygon

log = logging.getLogger(__name__)

# How far an outline may move: 2 pixels of an image that is shown 1000 pixels wide, and no less than
# hides the pixels of a small image.
TOLERANCE = 2e-3  # of the image's longer side
LEAST_TOLERANCE = 0.75  # pixels
# How much of a part's area may change, so that small parts keep their form.
CHANGE = 0.02
# So much outline takes some seconds to be traced, and if it is noise, twice as much takes far more
# than twice as long. Once around an image of 12 megapixels is 14,000.
LONGEST = 120_000  # pixels' edges
PAIRS = 10**7  # of points that are compared for a bridge, 80 MB
DECIMALS = 3  # of percent: a tenth of a pixel on an image of 10,000

Points = NDArray[np.float64]


def polygons(mask: NDArray[np.bool_]) -> list[Points]:
    """A ring of points, (n, 2), x and y in percent, for each connected part of a mask, (H, W).

    Parts are connected by pixels' edges. Filling the rings gives the mask back to an intersection
    over union of 0.97 or better, but for parts of a few pixels. A mask with outlines longer than
    `LONGEST` is outlined by blocks of pixels, and loses what is smaller than most of a block.
    """
    height, width = mask.shape
    traced, size = mask, 1
    while _length(traced) > LONGEST:
        traced, size = _halved(traced), 2 * size
    if size > 1:
        log.info("a mask of %d x %d is outlined by blocks of %d pixels", width, height, size)
    percent = np.array([100 * size / width, 100 * size / height])
    tolerance = max(TOLERANCE * max(traced.shape), LEAST_TOLERANCE)
    rings = [_ring(_simplified(part, tolerance)) * percent for part in _parts(traced)]
    return [np.round(ring.clip(max=100), DECIMALS) for ring in rings]  # a block may reach beyond


def box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Left, top, width and height of a mask's bounding box in percent of the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y, x = 100 / mask.shape[0], 100 / mask.shape[1]
    left, top = float(columns[0] * x), float(rows[0] * y)
    return left, top, float((columns[-1] + 1) * x - left), float((rows[-1] + 1) * y - top)


def _length(mask: NDArray[np.bool_]) -> int:
    """How many pixels' edges there are between a mask and what is not in it."""
    sides = np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    return int(sides + np.count_nonzero(mask[1:] != mask[:-1]))


def _halved(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask of half as many pixels each way: those of which half or more are in it."""
    height, width = mask.shape
    even = np.pad(mask, ((0, height % 2), (0, width % 2)), mode="edge").astype(np.uint8)
    pairs = even[::2] + even[1::2]
    half: NDArray[np.bool_] = pairs[:, ::2] + pairs[:, 1::2] >= 2
    return half


def _parts(mask: NDArray[np.bool_]) -> list[Polygon]:
    """The connected parts of a mask, in pixels, along the edges of its pixels."""
    turns = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(turns == 1)
    _, ends = np.nonzero(turns == -1)
    whole = shapely.union_all(shapely.box(starts, rows, ends, rows + 1)).simplify(0)
    return [part for part in shapely.get_parts(whole) if isinstance(part, Polygon)]


def _simplified(part: Polygon, tolerance: float) -> Polygon:
    """The part with as few points as the tolerance, in pixels, and `CHANGE` allow."""
    smooth = Polygon(_smoothed(part.exterior), [_smoothed(hole) for hole in part.interiors])
    if not smooth.is_valid:  # a part so thin that its steps are all there is of it
        return part
    simple = smooth.simplify(tolerance)
    while smooth.symmetric_difference(simple).area > CHANGE * smooth.area:
        tolerance /= 2
        simple = smooth.simplify(tolerance)
    return simple


def _smoothed(ring: shapely.LinearRing) -> Points:
    """The middles of the pixels' edges along a ring, and its corners where two sides meet.

    The steps that pixels make of a slanted line are gone; the pixels' centres are where they were.
    """
    points = _points(shapely.segmentize(ring, 1.0))
    ahead = np.roll(points, -1, axis=0) - points
    turn = (ahead != np.roll(ahead, 1, axis=0)).any(axis=1)
    corner = turn & ~np.roll(turn, 1) & ~np.roll(turn, -1)
    both = np.stack((points, points + ahead / 2), axis=1)
    smooth: Points = both[np.stack((corner, np.ones_like(corner)), axis=1)]
    return smooth


def _ring(part: Polygon) -> Points:
    """The part's outline with its holes cut in: (n, 2) in pixels."""
    part = shapely.orient_polygons(part)  # holes go the other way than outlines
    ring = _points(part.exterior)
    for hole in sorted((_points(one) for one in part.interiors), key=lambda hole: hole[:, 0].min()):
        step = 1 + len(ring) * len(hole) // PAIRS  # beyond, a bridge is only about the shortest
        gaps = distance.cdist(ring, hole[::step], "sqeuclidean")
        here, there = np.unravel_index(gaps.argmin(), gaps.shape)
        around = np.roll(hole, -there * step, axis=0)
        ring = np.concatenate((ring[: here + 1], around, around[:1], ring[here:]))
    return ring


def _points(ring: shapely.LinearRing) -> Points:
    """A closed ring's points, the first not repeated."""
    points: Points = shapely.get_coordinates(ring)[:-1]
    return points
