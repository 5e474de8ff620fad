"""Whether probabilities mean what they say: of pixels given 0.7, seven of ten should be right."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
# Of most pixels any model is sure that nothing is there. They would drown the others.
FIRST = 1


def _zeros() -> NDArray[np.float64]:
    return np.zeros(BINS)


@dataclass(slots=True)
class Calibration:
    """Pixels by the probability they were given, in bins of equal width."""

    pixels: NDArray[np.float64] = field(default_factory=_zeros)
    said: NDArray[np.float64] = field(default_factory=_zeros)  # sum of probabilities
    true: NDArray[np.float64] = field(default_factory=_zeros)  # pixels that have the label

    def add(self, probabilities: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Count pixels: two arrays of one shape."""
        said, true = probabilities.ravel().astype(np.float64), truth.ravel()
        bins = np.minimum((said * BINS).astype(np.int64), BINS - 1)
        self.pixels += np.bincount(bins, minlength=BINS)
        self.said += np.bincount(bins, said, BINS)
        self.true += np.bincount(bins, true, BINS)

    def error(self) -> float:
        """Expected calibration error, in [0, 1]; of the pixels given at least 0.1."""
        total = self.pixels[FIRST:].sum()
        return float(np.abs(self.said - self.true)[FIRST:].sum() / total) if total else 0.0

    def points(self) -> list[tuple[float, float, int]]:
        """Per bin with pixels in it: mean probability, share that is right, pixels."""
        return [
            (float(said / pixels), float(true / pixels), int(pixels))
            for said, true, pixels in zip(self.said, self.true, self.pixels, strict=True)
            if pixels
        ]

    def to_json(self) -> dict[str, Any]:
        """Its figures, for a version's card."""
        names = ("probability", "right", "pixels")
        return {
            "error": self.error(),
            "points": [dict(zip(names, point, strict=True)) for point in self.points()],
        }
