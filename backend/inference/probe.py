"""A second look at the parts of a mask: whether what lies inside is what a label means.

A decoder marks what resembles the label, too. Which of its parts annotators keep and which they
delete, a linear probe can learn from a few of each (Alain and Bengio, "Understanding intermediate
layers using linear classifier probes", arXiv 1610.01644): it reads the image's features inside a
part, which are there already, and says how likely the part is right. Nothing is encoded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor

# Strength of the belief that no feature tells anything, in parts. Of the values tried, 0.1 and 1
# told new parts apart worse.
RIDGE = 0.3
FREE = 1e-3  # the same of the bias
FLAT = 1e-3  # spread below which a feature says nothing
STEPS = 12

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A logistic regression on what parts look like."""

    weights: Floats  # (D,)
    bias: float

    @classmethod
    def fit(cls, described: Floats, right: NDArray[np.bool_]) -> Self:
        """Learn from parts (N, D) of which some are right and some are not, (N,).

        Both kinds weigh the same, however many there are of each: how often parts are right on
        other images is not known.
        """
        mean, spread = described.mean(axis=0), described.std(axis=0)
        scale = np.maximum(spread, FLAT) * np.sqrt(described.shape[1])
        design = np.column_stack([(described - mean) / scale, np.ones(len(right))])
        share = np.where(right, right.sum(), (~right).sum())
        counts = len(right) / 2 / share
        belief = np.full(design.shape[1], RIDGE)
        belief[-1] = FREE
        found: Floats = np.zeros(design.shape[1])
        for _ in range(STEPS):  # Newton's method
            chance = expit(design @ found)
            slope = design.T @ (counts * (chance - right)) + belief * found
            curve = (design.T * (counts * chance * (1 - chance))) @ design + np.diag(belief)
            found = found - np.linalg.solve(curve, slope)
        weights = found[:-1] / scale
        return cls(weights, float(found[-1] - weights @ mean))

    @classmethod
    def of(cls, row: NDArray[np.float32]) -> Self:
        """The inverse of `row`."""
        return cls(row[:-1].astype(np.float64), float(row[-1]))

    @property
    def row(self) -> NDArray[np.float32]:
        """Its numbers, (D + 1,)."""
        return np.append(self.weights, self.bias).astype(np.float32)

    def chances(self, described: Floats) -> Floats:
        """How likely parts (N, D) are right: (N,)."""
        chances: Floats = expit(described @ self.weights + self.bias)
        return chances


def describe(numbered: NDArray[np.int32], count: int, patches: Tensor) -> Floats:
    """What parts look like: the mean of the patches inside each, by its pixels, (N, D).

    Args:
        numbered: Which part each pixel is of, from 1, (h, w); 0 is none.
        count: How many there are, N.
        patches: What is in them, (D, h', w').
    """
    height, width = numbered.shape
    rows, columns = patches.shape[1:]
    places = (np.arange(height) * rows // height)[:, None] * columns
    places = places + np.arange(width) * columns // width
    cells = rows * columns
    pairs = numbered.ravel().astype(np.int64) * cells + places.ravel()
    pixels = np.bincount(pairs, minlength=(count + 1) * cells).reshape(count + 1, cells)[1:]
    shares = pixels / np.maximum(1, pixels.sum(axis=1, keepdims=True))
    described: Floats = shares @ patches.flatten(1).T.cpu().numpy().astype(np.float64)
    return described
