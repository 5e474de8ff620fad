import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.inference.predictor import scored
from backend.inference.probe import Probe, describe
from backend.inference.scores import ABSENT
from backend.prompting import Query

QUERY = Query("image", "Widget", ("widget",), 0.4, ())
TWO = np.full((8, 8), 0.1, np.float32)  # a sure part on the left, a doubtful one on the right
TWO[2:6, 0:3], TWO[2:6, 5:8] = 0.9, 0.6
LEFT = torch.zeros(1, 4, 4)  # one feature, which tells the left half
LEFT[0, :, :2] = 1.0
RIGHT_IS_WRONG = np.array([10.0, -5.0], np.float32)  # its weight and the bias


def looked(chance: float, row: NDArray[np.float32] = RIGHT_IS_WRONG) -> Query:
    return Query("image", "Widget", ("widget",), 0.4, (), probed="aa", chance=chance, probe=row)


def test_parts_are_told_apart_by_what_is_inside() -> None:
    rng = np.random.default_rng(0)
    right = np.arange(60) < 12  # few of one kind and many of the other
    described = rng.normal(0, 1, (60, 30)) + np.where(right, 5.0, 0.0)[:, None] * np.eye(30)[3]
    probe = Probe.fit(described[::2], right[::2])
    chances = probe.chances(described[1::2])
    assert chances[right[1::2]].mean() > 0.5 > chances[~right[1::2]].mean()


@settings(max_examples=30)
@given(st.integers(5, 20), st.integers(1, 40), st.integers(0, 99))
def test_what_is_learned_is_the_same_whatever_features_are_measured_in(
    count: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    described, right = rng.normal(size=(count, width)), np.arange(count) < count / 2
    probe = Probe.fit(described, right)
    scaled = Probe.fit(1000 * described + 7, right)
    np.testing.assert_allclose(
        scaled.chances(1000 * described + 7), probe.chances(described), atol=1e-4
    )
    again = Probe.of(probe.row)
    np.testing.assert_allclose(again.chances(described), probe.chances(described), atol=1e-4)


def test_a_feature_that_never_changes_tells_nothing() -> None:
    described = np.column_stack([np.full(6, 3.0), [1.0, 1, 1, -1, -1, -1]])
    probe = Probe.fit(described, np.arange(6) < 3)
    assert probe.weights[0] == pytest.approx(0)
    assert probe.chances(np.array([[3.0, 1.0]]))[0] > 0.5


def test_a_part_is_what_its_patches_are_in_the_mean() -> None:
    numbered = np.zeros((8, 8), np.int32)
    numbered[:4], numbered[7, 0], numbered[6, 3:6] = 1, 2, 3
    described = describe(numbered, 3, LEFT)
    np.testing.assert_allclose(described.ravel(), [0.5, 1, 1 / 3])
    assert describe(np.zeros((8, 8), np.int32), 0, LEFT).shape == (0, 1)


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_every_pixel_counts_once_whatever_the_sides_are(
    rows: int, columns: int, height: int, width: int
) -> None:
    patches = torch.arange(rows * columns).reshape(1, rows, columns).float()
    places = np.ones((height, width), np.int32)
    described = describe(places, 1, patches)
    nearest = torch.nn.functional.interpolate(patches[None], (height, width), mode="nearest")
    assert described[0, 0] == pytest.approx(float(nearest.mean()), abs=1e-4)


def test_parts_that_are_likely_wrong_go_and_the_others_stay() -> None:
    seen = scored(looked(0.5), torch.from_numpy(TWO), (8, 8), LEFT)
    assert seen.mask is not None
    assert (seen.mask == (np.float32(0.9) == TWO)).all()
    assert seen.score == pytest.approx((0.9 + 0.9933) / 2, abs=0.001)  # as both say
    all_of_it = scored(QUERY, torch.from_numpy(TWO), (8, 8), LEFT)
    assert all_of_it.mask is not None
    assert (all_of_it.mask == (TWO > 0.5)).all()
    assert scored(looked(0.001), torch.from_numpy(TWO), (8, 8), LEFT).mask is not None


def test_where_all_parts_go_it_is_as_likely_that_something_is_there_as_both_say() -> None:
    only = np.where(np.float32(0.6) == TWO, TWO, np.float32(0.1))
    seen = scored(looked(0.5), torch.from_numpy(only), (8, 8), LEFT)
    assert seen.mask is None
    assert seen.score == pytest.approx((0.6 + 0.0067) / 2, abs=0.001)
    assert seen.certainty == pytest.approx(1 - ABSENT * seen.score)


def test_a_probe_of_another_checkpoint_is_told_and_all_parts_are_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = scored(looked(0.5, np.ones(9, np.float32)), torch.from_numpy(TWO), (8, 8), LEFT)
    assert seen.mask is not None
    assert (seen.mask == (TWO > 0.5)).all()
    assert "Probe aa of 'Widget' is of another checkpoint" in caplog.text


def test_a_mask_in_a_thousand_parts_is_looked_at_without_as_many_masks() -> None:
    dots = np.full((352, 352), 0.1, np.float32)
    dots[4::8, 4::8] = 0.9  # each as large as the others: none is a speck
    patches = torch.rand(64, 22, 22)
    tracemalloc.start()
    row = np.append(np.zeros(64), 9).astype(np.float32)
    seen = scored(looked(0.5, row), torch.from_numpy(dots), (352, 352), patches)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen.mask is not None
    assert peak < 60e6  # bytes; a mask for each would take 240 million
