"""Scores that mean something: how likely an annotator accepts a region.

The model's confidence in a region, the mean probability inside its mask, is a heuristic: it tells
which of two regions is better, not how many are good. Once annotators have accepted or refused
enough of a project's regions, confidences become the share that was accepted of such regions
(Platt, "Probabilistic outputs for support vector machines", 1999). The fit begins with the
confidence itself and leaves it as evidence comes.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from backend.durable import as_json, rewrite

log = logging.getLogger(__name__)

FILE = "scores.json"  # in a project's folder
ENOUGH, EACH = 20, 5  # regions that are needed, and of those accepted and refused each
NEWEST = 500  # regions that count: older ones tell of older versions
# What an image without a label weighs beside one with it, where a mean is taken over both: a mask
# that is wrong goes with one key, and one that is missing has to be drawn.
ABSENT = 0.25
RIDGE = 1.0  # strength, in regions, of the belief that confidences are right
FLATTEST = 0.05  # slope: what is more confident stays before what is less
STEPS = 25
BINS = 10
FOLDS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """A project's way from confidence to score; as it is made, they are the same."""

    slope: float = 1.0
    offset: float = 0.0
    regions: int = 0  # that are known to be accepted or refused
    accepted: int = 0
    confidence_error: float | None = None  # expected calibration error of confidences
    error: float | None = None  # and of scores, each region scored by a fit to others

    @property
    def measured(self) -> bool:
        """Whether there is enough evidence for scores to be more than confidences."""
        return self.error is not None

    def __str__(self) -> str:
        """In a sentence, for people."""
        judged = f"{self.accepted} of {self.regions} predicted masks were accepted"
        if self.error is None or self.confidence_error is None:
            return (
                f"Scores are the model's confidences: {judged}, and {EACH} accepted and {EACH} "
                f"others of {ENOUGH} are needed to tell more."
            )
        return (
            f"Scores are chances of being accepted: {judged}. Their expected calibration error is "
            f"{self.error:.3f}, that of the confidences {self.confidence_error:.3f}."
        )

    def of(self, confidence: float) -> float:
        """The probability that an annotator accepts a region of that confidence."""
        if not self.measured:
            return confidence
        return float(expit(self.slope * _logit(np.array([confidence])) + self.offset)[0])


CONFIDENCES = Scores()


def fit(confidences: Sequence[float], accepted: Sequence[bool]) -> Scores:
    """Scores from what annotators did, oldest first; the newest count."""
    x, y = np.array(confidences[-NEWEST:]), np.array(accepted[-NEWEST:], bool)
    few = Scores(regions=len(y), accepted=int(y.sum()))
    if len(y) < ENOUGH or min(y.sum(), len(y) - y.sum()) < EACH:
        return few
    slope, offset = _platt(x, y)
    others = np.empty(len(y))
    for fold in range(FOLDS):
        # in one piece: every fifth region may be of one label, where a task has five
        held = np.arange(len(y)) * FOLDS // len(y) == fold
        a, b = _platt(x[~held], y[~held])
        others[held] = expit(a * _logit(x[held]) + b)
    return Scores(slope, offset, few.regions, few.accepted, error_of(x, y), error_of(others, y))


def error_of(said: Floats, true: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far shares are from what was said, in bins of equal width."""
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, said, BINS) - np.bincount(bins, true, BINS)
    return float(np.abs(gaps).sum() / len(said))


def keep(folder: Path, scores: Scores) -> None:
    """Put scores into a project's folder, whose lock is held."""
    rewrite(folder / FILE, as_json(asdict(scores)))


class ProjectScores:
    """Every project's scores, in the folder of their versions; read again when they change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[int, tuple[tuple[int, int], Scores]] = {}

    def of(self, project: int | None) -> Scores:
        """What holds now; confidences where nothing is known."""
        if project is None:
            return Scores()
        path = self._folder / str(project) / FILE
        try:
            found = path.stat()
            stamp = found.st_mtime_ns, found.st_ino
            held = self._held.get(project)
            if held is None or held[0] != stamp:
                held = stamp, _read(json.loads(path.read_bytes()))
                self._held[project] = held
            return held[1]
        except FileNotFoundError:
            return Scores()
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s cannot be read, scores are confidences: %s", path, error)
            return Scores()


def _read(raw: Mapping[str, Any]) -> Scores:
    scores = Scores(**raw)
    if not (np.isfinite([scores.slope, scores.offset]).all() and scores.slope > 0):
        raise ValueError(f"slope {scores.slope} and offset {scores.offset} are no scores")
    return scores


def _platt(confidences: Floats, accepted: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of the logits: Newton's method on the likelihood, from (1, 0)."""
    x = _logit(confidences)
    good = int(accepted.sum())
    # targets short of 0 and 1, as if one more region of each kind had been seen
    targets = np.where(accepted, (good + 1) / (good + 2), 1 / (len(x) - good + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    prior = np.array([1.0, 0.0])

    def loss(w: Floats) -> float:
        z = design @ w
        return float(
            (np.logaddexp(0, z) - targets * z).sum() + RIDGE / 2 * ((w - prior) ** 2).sum()
        )

    found = prior
    for _ in range(STEPS):
        p = expit(design @ found)
        slope = design.T @ (p - targets) + RIDGE * (found - prior)
        curve = (design.T * (p * (1 - p))) @ design + RIDGE * np.eye(2)
        step = np.linalg.solve(curve, slope)
        while loss(found - step) > loss(found) and np.abs(step).max() > 1e-9:
            step /= 2
        found = found - step
    if found[0] >= FLATTEST:
        return float(found[0]), float(found[1])
    share = targets.mean()
    return FLATTEST, float(_logit(np.array([share]))[0] - FLATTEST * x.mean())


def _logit(p: Floats) -> Floats:
    clipped = np.clip(p, 1e-3, 1 - 1e-3)
    logits: Floats = np.log(clipped / (1 - clipped))
    return logits
