import numpy as np
import pytest

from backend.learning.calibration import Calibration


def test_probabilities_that_come_true_have_no_error() -> None:
    said = np.repeat(np.array([0.25, 0.75], np.float32), 400).reshape(2, 400)
    right = np.zeros((2, 400), bool)
    right[0, :100] = right[1, :300] = True
    held = Calibration()
    held.add(said, right)
    assert held.error() == pytest.approx(0, abs=1e-6)
    assert held.points() == [(0.25, 0.25, 400), (0.75, 0.75, 400)]


def test_one_who_is_too_sure_is_wrong_by_as_much() -> None:
    held = Calibration()
    held.add(np.full(10, 0.9, np.float32), np.arange(10) < 5)
    assert held.error() == pytest.approx(0.4)


def test_pixels_where_hardly_anything_is_found_do_not_drown_the_others() -> None:
    held = Calibration()
    held.add(np.full(10, 0.9, np.float32), np.arange(10) < 5)
    alone = held.error()
    held.add(np.full(100_000, 0.01, np.float32), np.zeros(100_000, bool))
    assert held.error() == alone


def test_nothing_counted_is_no_error() -> None:
    assert Calibration().error() == 0
    assert Calibration().points() == []
