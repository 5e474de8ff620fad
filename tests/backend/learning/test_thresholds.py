"""Thresholds by curves of IoU, whatever model they are of."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.learning.jury import GRID, Rating, gain
from backend.learning.thresholds import ENOUGH, calibrated

curves = arrays(np.float64, (12, len(GRID)), elements=st.floats(0, 1))


@given(curves, st.integers(0, 12), st.floats(0.1, 0.9))
def test_a_threshold_moves_towards_a_better_one_and_only_with_enough_evidence(
    held: np.ndarray[tuple[int, int], np.dtype[np.float64]], count: int, default: float
) -> None:
    rating = Rating(held[:count], np.ones(count, bool))
    threshold = calibrated(rating, default)
    if count < ENOUGH:
        assert threshold == default
    assert 0.05 <= threshold <= 0.95
    assert rating.score(threshold) >= rating.score(default)


def test_more_evidence_moves_a_threshold_further() -> None:
    curve = np.exp(-((GRID - 0.2) ** 2) / 0.02)
    found = [
        calibrated(Rating(np.tile(curve, (count, 1)), np.ones(count, bool)), 0.4)
        for count in (4, 5, 10, 50)
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] == 0.4
    assert found[-1] == pytest.approx(0.22)


def test_a_threshold_stays_where_a_gain_may_be_chance() -> None:
    peak = np.exp(-((GRID - 0.2) ** 2) / 0.01) / 2
    one_gains = np.full((6, len(GRID)), 0.4)
    one_gains[0] += peak
    one_gains[1] -= peak / 2
    assert calibrated(Rating(one_gains, np.ones(6, bool)), 0.4) == 0.4
    all_gain = np.full((6, len(GRID)), 0.4) + peak
    assert calibrated(Rating(all_gain, np.ones(6, bool)), 0.4) < 0.4


def test_a_threshold_stays_where_what_suits_some_masks_gains_nothing_on_others() -> None:
    curves = np.full((6, len(GRID)), 0.4)
    curves[:3] += np.exp(-((GRID - 0.2) ** 2) / 0.02) / 4
    curves[3:] += np.exp(-((GRID - 0.7) ** 2) / 0.02) / 4
    assert calibrated(Rating(curves, np.ones(6, bool)), 0.4) == 0.4
    assert calibrated(Rating(curves[:3].repeat(2, axis=0), np.ones(6, bool)), 0.4) < 0.4


def test_a_threshold_stays_where_all_together_would_lose_between_two_peaks() -> None:
    curves = np.zeros((5, len(GRID)))
    for mask, point, found in [(0, 5, 0.5), (0, 9, 0.5), (1, 15, 0.5), (2, 7, 0.5), (3, 14, 1)]:
        curves[mask, point] = found
    curves[4, 11] = 1  # each alone gains where the other four would go
    assert calibrated(Rating(curves, np.ones(5, bool)), 0.3) == 0.3


def test_a_gain_has_a_standard_error() -> None:
    before, after = np.array([0.5, 0.5, 0.5, np.nan]), np.array([0.6, 0.7, 0.8, np.nan])
    worth, error = gain(before, after, np.array([1.0, 1.0, 1.0, 0.0]))
    assert worth == pytest.approx(0.2)
    assert error == pytest.approx(np.std([0.1, 0.2, 0.3]) / np.sqrt(3))


def test_finding_nothing_is_no_way_to_do_well() -> None:
    present = np.array([True] + [False] * 20)
    nothing = np.array([0.0] + [1.0] * 20)[:, None].repeat(len(GRID), axis=1)
    something = np.array([0.5] + [0.0] * 20)[:, None].repeat(len(GRID), axis=1)
    assert Rating(something, present).score(0.4) > Rating(nothing, present).score(0.4)
