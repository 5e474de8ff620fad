import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from backend.inference.masks import SPECK, clean, shrunk, under

SIDE = 128


def disc(radius: float, y: int = 64, x: int = 64) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2  # type: ignore[no-any-return]


def as_probabilities(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(mask, 0.9, 0.05).astype(np.float32)


def test_a_speck_goes_and_the_object_stays() -> None:
    mask = disc(30)
    mask[3, 3] = True
    probabilities = as_probabilities(mask)
    assert ((clean(probabilities, 0.4) >= 0.4) == disc(30)).all()
    assert (probabilities == as_probabilities(mask)).all()  # it is cleaned at other levels, too


@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_a_small_hole_is_filled_and_a_large_one_stays(threshold: float) -> None:
    mask = disc(40) & ~disc(15)
    mask[64, 64 + 28] = False
    cleaned = clean(as_probabilities(mask), threshold) >= threshold
    assert (cleaned == (disc(40) & ~disc(15))).all()


def test_a_small_hole_that_was_taken_away_stays() -> None:
    probabilities = as_probabilities(disc(40))
    probabilities[64, 64:66] = 0.0, 0.1
    cleaned = clean(probabilities, 0.4) >= 0.4
    assert cleaned[64, 64:66].tolist() == [False, True]


@pytest.mark.parametrize("notch", [(0, 5), (-1, 5), (5, 0), (5, -1)])
def test_a_notch_at_the_border_of_the_image_is_no_hole(notch: tuple[int, int]) -> None:
    mask = np.ones((SIDE, SIDE), bool)
    mask[notch] = False
    assert (clean(as_probabilities(mask), 0.4) >= 0.4)[notch] == np.False_


def test_a_part_that_is_less_sure_than_asked_for_goes_whole_and_the_others_stay() -> None:
    sure, doubtful = disc(20, x=30), disc(20, x=95)
    probabilities = as_probabilities(sure)
    probabilities[doubtful] = 0.5
    probabilities[disc(4, x=95)] = 0.95  # a sure spot does not save it: 0.52 in the mean
    for confidence, left in ((0.0, sure | doubtful), (0.5, sure | doubtful), (0.6, sure)):
        assert ((clean(probabilities, 0.4, confidence) >= 0.4) == left).all()
    assert not (clean(probabilities, 0.4, 0.95) >= 0.4).any()


def test_small_things_alone_are_not_specks() -> None:
    mask = disc(1.5)
    assert (clean(as_probabilities(mask), 0.4) >= 0.4).any()


@settings(max_examples=50)
@given(
    arrays(np.float32, (40, 40), elements=st.floats(0, 1, width=32)),
    st.floats(0.05, 0.95),
)
def test_nothing_changes_but_small_parts(
    probabilities: NDArray[np.float32], threshold: float
) -> None:
    before = probabilities >= threshold
    after = clean(probabilities, threshold, threshold) >= threshold
    parts, _ = ndimage.label(before != after)
    sizes = np.bincount(parts.ravel())[1:]
    assert not len(sizes) or sizes.max() <= max(1, SPECK * before.size) * 4


def test_wanted_points_choose_parts() -> None:
    left, right = disc(10, x=30), disc(10, x=90)
    assert (under(left | right, [(64, 30)], []) == left).all()
    assert (under(left | right, [(64, 30), (64, 90)], []) == (left | right)).all()
    assert (under(left | right, [], [(64, 90)]) == left).all()
    assert not under(left | right, [(3, 3)], []).any()


def test_a_part_under_both_kinds_of_points_is_shared_out() -> None:
    touching = disc(20, x=45) | disc(20, x=80)
    kept = under(touching, [(64, 45)], [(64, 80)])
    assert (kept == (touching & (np.arange(SIDE) <= 62))).all()


def test_a_part_under_very_many_points_is_shared_out_in_little_memory() -> None:
    part = np.ones((300, 400), bool)
    wanted = [(row, column) for row in range(0, 300, 10) for column in range(0, 400, 10)]
    tracemalloc.start()
    kept = under(part, wanted, [(151, 203)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gone = np.argwhere(~kept)
    assert 0 < len(gone) < 100
    assert (np.abs(gone - (151, 203)) < 10).all()
    assert most < 30e6  # a number for each pixel and point would be a gigabyte


def test_a_small_thing_in_a_large_image_is_told_apart_in_little_memory() -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[2000:2100, 3000:3200] = True
    mask[2000:2100, 3300:3400] = True
    tracemalloc.start()
    kept = under(mask, [(2050, 3010), (5, 5)], [(2050, 3190), (2990, 20)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.argwhere(kept).tolist() == np.argwhere(mask[:, :3101]).tolist()
    assert most < 2 * mask.nbytes  # numbers for all pixels would be several times as much


@given(
    arrays(bool, (12, 12)),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=3),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=3),
)
def test_points_only_take_away(
    mask: NDArray[np.bool_], wanted: list[tuple[int, int]], unwanted: list[tuple[int, int]]
) -> None:
    kept = under(mask, wanted, unwanted)
    assert not (kept & ~mask).any()
    assert not any(kept[place] for place in set(unwanted) - set(wanted))
    assert all(kept[place] == mask[place] for place in set(wanted) - set(unwanted))
    if not wanted and not unwanted:
        assert (kept == mask).all()


def test_a_thin_mask_in_a_large_image_is_never_taken_for_none() -> None:
    crack = np.zeros((900, 1200), bool)
    crack[407:411, 100:900] = True
    small = shrunk(crack, (60, 80))
    assert np.flatnonzero(small.any(axis=1)).tolist() == [27]
    assert np.flatnonzero(small.any(axis=0)).tolist() == list(range(7, 60))
    assert not shrunk(np.zeros_like(crack), (60, 80)).any()
    crack[200:300, 200:300] = True  # beside what is large it is the large that counts
    assert np.flatnonzero(shrunk(crack, (60, 80)).any(axis=1)).tolist() == list(range(13, 20))
