"""Outlines, judged by filling them as the editor's canvas does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from backend.inference.outlines import Points, box, polygons

Mask = NDArray[np.bool_]


def winding(ring: Points, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """How often a ring goes around each pixel's centre: the crossings of a ray to the left."""
    height, width = shape
    points = ring / 100 * (width, height)
    turns = np.zeros((height, width), np.int64)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        for row in range(height):
            y = row + 0.5
            if (y0 <= y) != (y1 <= y):
                x = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
                turns[row, np.arange(width) + 0.5 > x] += 1 if y1 > y0 else -1
    return turns


def filled(rings: list[Points], shape: tuple[int, ...]) -> Mask:
    """All rings filled by the rule of HTML's canvas, nonzero; the even-odd rule must agree."""
    whole: Mask = np.zeros(shape, np.bool_)
    for ring in rings:
        turns = winding(ring, shape)
        np.testing.assert_array_equal(turns != 0, turns % 2 == 1)
        whole |= turns != 0
    return whole


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def ellipse(
    shape: tuple[int, int], x: float, y: float, radii: tuple[float, float], turned: float
) -> Mask:
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    u = (columns - x) * np.cos(turned) + (rows - y) * np.sin(turned)
    v = (rows - y) * np.cos(turned) - (columns - x) * np.sin(turned)
    inside: Mask = (u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1
    return inside


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Ellipses added to and cut out of each other: islands, holes, bays, anything at the border."""
    shape = draw(st.tuples(st.integers(40, 140), st.integers(40, 140)))
    mask: Mask = np.zeros(shape, np.bool_)
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(st.floats(0, shape[1])), draw(st.floats(0, shape[0]))
        radii = draw(st.tuples(st.floats(4, 50), st.floats(4, 50)))
        part = ellipse(shape, x, y, radii, draw(st.floats(0, np.pi)))
        mask = mask & ~part if draw(st.booleans()) else mask | part
    return mask


@settings(max_examples=100)
@given(masks())
def test_filling_the_outlines_gives_the_mask_back(mask: Mask) -> None:
    rings = polygons(mask)
    assert len(rings) == ndimage.label(mask)[1]
    for ring in rings:
        assert ((ring >= 0) & (ring <= 100)).all()
    if mask.sum() >= 100:
        assert iou(filled(rings, mask.shape), mask) >= 0.97


@settings(max_examples=100)
@given(masks())
def test_holes_stay_holes_and_islands_stay_apart(mask: Mask) -> None:
    again = filled(polygons(mask), mask.shape)
    for ours, theirs in ((~mask, ~again), (mask, again)):
        depth = ndimage.distance_transform_edt(np.pad(ours, 1))[1:-1, 1:-1]
        assert theirs[depth > 3].all()  # what is thicker than the simplification keeps its core


@settings(max_examples=100)
@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=16)))
def test_noise_is_no_trouble(mask: Mask) -> None:
    rings = polygons(mask)
    assert len(rings) == ndimage.label(mask)[1]
    assert not mask.any() or iou(filled(rings, mask.shape), mask) >= 0.9


def test_a_ring_with_two_holes_is_one_polygon() -> None:
    mask = np.zeros((60, 100), np.bool_)
    mask[5:55, 5:95] = True
    mask[15:30, 20:35] = mask[25:45, 60:80] = False
    [ring] = polygons(mask)
    np.testing.assert_array_equal(filled([ring], mask.shape), mask)
    assert len(ring) == 4 + 2 * (4 + 2)  # each hole's points, and both ends of its bridge again


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    mask = np.eye(3, dtype=np.bool_)
    rings = polygons(mask)
    assert [len(ring) for ring in rings] == [4, 4, 4]
    np.testing.assert_array_equal(filled(rings, mask.shape), mask)


def test_a_full_mask_is_the_whole_image() -> None:
    [ring] = polygons(np.ones((7, 9), np.bool_))
    assert {tuple(point) for point in ring} == {(0, 0), (100, 0), (100, 100), (0, 100)}


def test_large_round_outlines_take_few_points() -> None:
    mask = ellipse((1000, 1500), 700, 500, (400, 300), 0.3)
    [ring] = polygons(mask)
    assert 8 <= len(ring) <= 60


def test_of_outlines_without_end_the_thing_is_kept_and_the_specks_are_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    thing = ellipse((201, 299), 230, 100, (90, 60), 0.3)  # over the right border
    specks = np.random.default_rng(0).random(thing.shape) < 0.05
    monkeypatch.setattr("backend.inference.outlines.LONGEST", 700)
    rings = polygons(thing ^ specks)
    assert len(rings) < 30
    assert all(((ring >= 0) & (ring <= 100)).all() for ring in rings)
    assert iou(filled(rings, thing.shape), thing) >= 0.95
    assert caplog.messages == ["a mask of 299 x 201 is outlined by blocks of 4 pixels"]
    assert len(polygons(thing)) == 1
    assert len(caplog.messages) == 1, "what has an end is traced as it is"


def test_a_bridge_of_many_points_is_about_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = ellipse((90, 90), 45, 45, (40, 40), 0) & ~ellipse((90, 90), 40, 45, (20, 20), 0)
    monkeypatch.setattr("backend.inference.outlines.PAIRS", 100)
    [ring] = polygons(mask)
    assert iou(filled([ring], mask.shape), mask) >= 0.97


def test_a_box_is_the_masks_extent_in_percent() -> None:
    mask = np.zeros((50, 80), np.bool_)
    mask[5:15, 8:24] = mask[30:50, 40:80] = True
    assert box(mask) == pytest.approx((10, 10, 90, 90))
    assert box(np.ones((3, 7), np.bool_)) == pytest.approx((0, 0, 100, 100))
