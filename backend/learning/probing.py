"""A label's probe, learned from the parts of masks that its own way to ask finds.

Parts that are accepted, as they are or as annotators drew them, are right; parts of what is asked
that are nowhere accepted are wrong. What a part's own task says never counts for it: its chance
comes from a probe that learned from others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from backend.inference.masks import SPECK, clean, parts
from backend.inference.probe import Probe, describe
from backend.learning.evidence import GRID, Jury, Rating, Seen, Way
from backend.learning.lessons import shrunk

RIGHT, WRONG = 0.5, 0.1  # share of a part that is accepted, from which, up to which, it is
LEAST = 5  # wrong parts: fewer do not tell what is wrong
EACH = 2  # right ones, and wrong ones, that a probe learns from at least
FOLDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A probe, and what looking with it is worth."""

    probe: Probe
    rating: Rating  # by the chance that a part needs to be shown
    right: int
    wrong: int


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """What one image teaches."""

    cleaned: NDArray[np.float32] | None  # (h, w), None where it could not be asked
    found: NDArray[np.bool_]  # (N, h, w)
    described: NDArray[np.float64]  # (N, D)
    accepted: NDArray[np.float64]  # (N,), the share of each part
    drawn: NDArray[np.float64]  # (M, D), what the label itself looks like there


def learn(jury: Jury, way: Way, threshold: float, confidence: float) -> Learned | None:
    """Learn to tell a label's parts apart; None where there are too few to learn from."""
    images = [_image(jury, image, way, threshold, confidence) for image in jury.images]
    if not images:
        return None
    described, right = _taught(images)
    wrong = int((~right).sum())
    if wrong < LEAST or len(right) - wrong < EACH:
        return None
    curves = np.full((len(images), len(GRID)), np.nan)
    for fold in range(min(FOLDS, len(images))):
        probe = _probe([one for i, one in enumerate(images) if i % FOLDS != fold])
        for i in range(fold, len(images), FOLDS):
            one = images[i]
            if one.cleaned is not None:
                chances = np.ones(len(one.found)) if probe is None else probe.chances(one.described)
                left = partial(_left, one.cleaned, one.found, chances)
                curves[i] = jury.by_level(jury.images[i], threshold, np.sort(chances), left)
    rating = Rating(curves, jury.present)
    return Learned(Probe.fit(described, right), rating, len(right) - wrong, wrong)


def _image(jury: Jury, image: Seen, way: Way, threshold: float, confidence: float) -> _Image:
    patches = jury.predictor.segmenter.patches(image.features)
    answer = jury.answer(image, way, threshold)
    cleaned = None if answer is None else clean(answer, threshold, confidence)
    side = patches.shape[1:] if cleaned is None else cleaned.shape
    truth = shrunk(jury.truth(image), (side[0], side[1]))
    drawn = parts(truth.astype(np.float32), 1.0)
    drawn = drawn[drawn.sum(axis=(1, 2)) >= SPECK * truth.size]
    found = np.zeros((0, *truth.shape), bool) if cleaned is None else parts(cleaned, threshold)
    shared = (found & truth).sum(axis=(1, 2)) / found.sum(axis=(1, 2))
    return _Image(cleaned, found, describe(found, patches), shared, describe(drawn, patches))


def _taught(images: Sequence[_Image]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Parts (N, D), and which are right, (N,)."""
    right = [one.described[one.accepted >= RIGHT] for one in images]
    right += [one.drawn for one in images]
    wrong = [one.described[one.accepted <= WRONG] for one in images]
    good, bad = np.concatenate(right), np.concatenate(wrong)
    return np.concatenate([good, bad]), np.arange(len(good) + len(bad)) < len(good)


def _probe(images: Sequence[_Image]) -> Probe | None:
    """What some of the images teach, if that is enough."""
    described, right = _taught(images)
    enough = min(right.sum(), (~right).sum()) >= EACH
    return Probe.fit(described, right) if enough else None


def _left(
    cleaned: NDArray[np.float32],
    found: NDArray[np.bool_],
    chances: NDArray[np.float64],
    least: float,
) -> NDArray[np.float32]:
    """Probabilities without the parts whose chance is less."""
    return np.where(found[chances < least].any(axis=0), np.float32(0), cleaned)
