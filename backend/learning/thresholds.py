"""Thresholds and confidences that calibrate themselves on accepted masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from backend.learning.jury import GRID, Rating, gain

ENOUGH = 5  # masks: before, no threshold moves, and held-out ones prove nothing
PULL = 5  # masks that the threshold of before weighs as much as
LITTLE = 0.005  # of mean IoU: what gains less is not worth a change


def calibrated(rating: Rating, default: float) -> float:
    """The threshold for a label: the best one, as far as the evidence goes.

    It stays where it is if moving gains next to nothing, or less than its own standard error, on
    images that had no say in where to: each is judged at the threshold that the others move to. And
    it stays if all together lose where they move to, between peaks of their curves.
    """
    if rating.masks < ENOUGH:
        return default
    weights, curves, before = rating.weights, np.nan_to_num(rating.curves), rating.at(default)
    shares = weights[:, None] * curves
    others = _moved(default, shares.sum(axis=0) - shares, rating.masks - 1)
    after = np.array([np.interp(t, GRID, one) for t, one in zip(others, curves, strict=True)])
    gained, error = gain(before, after, weights)
    if gained < max(LITTLE, error):
        return default
    moved = round(float(_moved(default, rating.mean, rating.masks)), 2)
    return moved if rating.score(moved) >= rating.score(default) else default


def _moved(default: float, curves: NDArray[np.float64], masks: int) -> NDArray[np.float64]:
    """Where thresholds would move, (...), by curves (..., T) that stand on so many masks."""
    best = GRID[smoothed(curves).argmax(axis=-1)]
    moved: NDArray[np.float64] = default + (best - default) * masks / (masks + PULL)
    return moved


def smoothed(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point's mean with its neighbours, (..., T), so that one mask does not decide."""
    padded = np.concatenate([curves[..., :1], curves, curves[..., -1:]], axis=-1)
    smooth: NDArray[np.float64] = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
    return smooth
