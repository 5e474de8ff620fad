"""How much exemplars weigh, as plain figures; on scenes it is told in `test_measure.py`."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.inference.promptbook import Curve
from backend.learning.weighing import FURTHEST, MUTE, WEIGHTS, handicapped, presumed


def least(handicaps: Curve) -> float:
    return min(handicaps, key=lambda pair: pair[1])[0]


def test_more_masks_leave_fewer_weights_and_move_the_best_away_from_what_was_presumed() -> None:
    best_is_all = list(WEIGHTS)
    found = [handicapped(best_is_all, masks, 0.2) for masks in (0, 1, 3, 20)]
    assert [least(one) for one in found] == sorted(least(one) for one in found)
    assert (least(found[0]), least(found[-1])) == (0.25, 1.0)
    assert len(found[0]) > len(found[-1]) == 1


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 40))
def test_what_makes_no_difference_stays_as_presumed(
    belief: float, score: float, masks: int
) -> None:
    found = least(handicapped([score] * len(WEIGHTS), masks, belief))
    assert found == pytest.approx(belief, abs=0.13)


@given(
    arrays(float, len(WEIGHTS), elements=st.floats(0, 1)),
    st.integers(0, 1000),
    st.floats(0, 1),
)
def test_one_weight_has_no_handicap_and_none_is_hopeless(
    scores: np.ndarray[Any, Any], masks: int, belief: float
) -> None:
    found = handicapped(scores.tolist(), masks, belief)
    assert min(behind for _, behind in found) == 0
    assert max(behind for _, behind in found) <= FURTHEST
    assert {weight for weight, _ in found} <= set(WEIGHTS)


@given(arrays(float, len(WEIGHTS), elements=st.floats(0, 1)), st.floats(0, 1))
def test_with_many_masks_the_best_weight_costs_next_to_nothing(
    scores: np.ndarray[Any, Any], belief: float
) -> None:
    best = least(handicapped(scores.tolist(), 1000, belief))
    assert scores[WEIGHTS.index(best)] >= scores.max() - 0.004


def test_before_exemplars_are_measured_they_get_what_words_leave_to_be_found() -> None:
    assert presumed(0.9, 1, 0.0, 0, mute=False) == pytest.approx(0.4)
    assert presumed(0.1, 1, 0.0, 0, mute=False) == pytest.approx(0.8)
    assert presumed(0.0, 0, 0.0, 0, mute=False) == pytest.approx(0.7)


def test_exemplars_that_find_more_than_words_are_presumed_to_weigh_more() -> None:
    behind, level, ahead = (presumed(0.6, 20, shown, 20, mute=False) for shown in (0.3, 0.6, 0.9))
    assert behind < 0.3 < level < ahead
    assert ahead > 0.85


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 40), st.integers(0, 40), st.booleans())
def test_what_is_presumed_is_a_weight_and_of_mute_words_no_large_one(
    words: float, shown: float, judged: int, masks: int, mute: bool
) -> None:
    found = presumed(words, judged, shown, masks, mute)
    assert 0 <= found <= (MUTE if mute else 1)
