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

from backend.inference.masks import SPECK, clean, parts, shrunk
from backend.inference.probe import Probe, describe
from backend.learning.evidence import Seen
from backend.learning.jury import GRID, Curve, Jury, Rating, Way

RIGHT, WRONG = 0.5, 0.1  # share of a part that is accepted, from which, up to which, it is
LEAST = 5  # wrong parts: fewer do not tell what is wrong
EACH = 2  # right ones, and wrong ones, that a probe learns from at least
FOLDS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A probe, and what looking with it is worth."""

    probe: Probe
    rating: Rating  # by the chance that a part needs to be shown
    without: Curve  # IoU of each image where all parts are shown, (I,)
    right: int  # parts that were found
    wrong: int


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """What one image teaches."""

    cleaned: NDArray[np.float32] | None  # (h, w), None where it could not be asked
    numbered: NDArray[np.int32]  # which part each pixel is of, (h, w)
    described: NDArray[np.float64]  # (N, D)
    accepted: NDArray[np.float64]  # (N,), the share of each part
    drawn: NDArray[np.float64]  # (M, D), what the label itself looks like there


def learn(jury: Jury, way: Way, threshold: float, confidence: float) -> Learned | None:
    """Learn to tell a label's parts apart; None where there are too few to learn from.

    The jury has images.
    """
    images = [_image(jury, image, way, threshold, confidence) for image in jury.images]
    right = sum(int((one.accepted >= RIGHT).sum()) for one in images)
    wrong = sum(int((one.accepted <= WRONG).sum()) for one in images)
    whole = _probe(images)
    if wrong < LEAST or whole is None:
        return None
    curves = np.full((len(images), len(GRID)), np.nan)
    without = np.full(len(images), np.nan)
    for fold in range(min(FOLDS, len(images))):
        probe = _probe([one for i, one in enumerate(images) if i % FOLDS != fold])
        for i in range(fold, len(images), FOLDS):
            one = images[i]
            if one.cleaned is None:
                continue
            sure = np.ones(len(one.accepted))
            chances = sure if probe is None else probe.chances(one.described)
            rate = partial(jury.by_level, jury.images[i], threshold)
            curves[i] = rate(np.sort(chances), partial(_left, one.cleaned, one.numbered, chances))
            without[i] = rate(sure, partial(_left, one.cleaned, one.numbered, sure))[0]
    return Learned(whole, Rating(curves, jury.present), without, right, wrong)


def _image(jury: Jury, image: Seen, way: Way, threshold: float, confidence: float) -> _Image:
    patches = jury.predictor.segmenter.patches(image.features)
    answer = jury.answer(image, way, threshold)
    cleaned = None if answer is None else clean(answer, threshold, confidence)
    side = patches.shape[1:] if cleaned is None else cleaned.shape
    truth = shrunk(jury.truth(image), (side[0], side[1]))
    found = np.zeros_like(truth) if cleaned is None else cleaned >= threshold
    numbered, sizes = parts(found)
    shared = np.bincount(numbered[truth], minlength=len(sizes) + 1)[1:]
    drawn, large = parts(truth)
    looks = describe(drawn, len(large), patches)[large >= SPECK * truth.size]
    return _Image(cleaned, numbered, describe(numbered, len(sizes), patches), shared / sizes, looks)


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
    numbered: NDArray[np.int32],
    chances: NDArray[np.float64],
    least: float,
) -> NDArray[np.float32]:
    """Probabilities without the parts whose chance is less."""
    return np.where(np.append(np.inf, chances)[numbered] < least, np.float32(0), cleaned)
