"""Ways to ask for a label, and how well they do on accepted tasks.

An exemplar's own task never counts for it: a way to ask may have nothing to ask a task with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.inference.asking import Asking
from backend.inference.masks import SPECK, clean, confidences, shrunk
from backend.inference.predictor import Predictor
from backend.inference.suggest import absent_weight
from backend.labelstudio.shapes import Mask
from backend.learning.drawn import iou
from backend.learning.evidence import Seen
from backend.prompting import Query
from models.segmenter import resize

GRID = np.arange(1, 20) / 20  # thresholds that are tried
MOST_PRESENT, MOST_ABSENT = 40, 20  # images that judge a label
TELLING = 3  # masks, from which on they can tell that something helps, or hurts
ABSENT = 0.25  # weight of all images without a label, beside those with it

Curve = NDArray[np.float64]
Way = Callable[[Seen], Asking | None]  # what to ask an image with, if there is anything


@dataclass(frozen=True, slots=True, eq=False)
class Rating:
    """How well a way to ask did: IoU by image and threshold, (I, T); NaN where it could not ask.

    Where the label is absent, finding nothing is 1, and anything 0.
    """

    curves: Curve
    present: NDArray[np.bool_]  # (I,)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """The images that it could ask: (I,)."""
        known: NDArray[np.bool_] = ~np.isnan(self.curves[:, 0])
        return known

    def on(self, images: NDArray[np.bool_]) -> Rating:
        """The same on some images."""
        return Rating(self.curves[images], self.present[images])

    @property
    def masks(self) -> int:
        """On how many masks it stands."""
        return int((self.present & self.asked).sum())

    @property
    def weights(self) -> Curve:
        """What each image counts, (I,); nothing where it could not be asked.

        Images without the label count for a quarter of those with it at most, or what finds
        nothing at all would do well.
        """
        there, gone = self.present & self.asked, ~self.present & self.asked
        weight = absent_weight(int(there.sum()), int(gone.sum()), ABSENT)
        weights: Curve = there + weight * gone
        return weights

    @property
    def mean(self) -> Curve:
        """What is to be large, by threshold, (T,)."""
        weights = self.weights
        if not weights.any():
            return np.zeros(len(GRID))
        mean: Curve = weights @ np.nan_to_num(self.curves) / weights.sum()
        return mean

    def at(self, threshold: float) -> Curve:
        """What each image has at a threshold: (I,)."""
        return np.array([np.interp(threshold, GRID, curve) for curve in self.curves])

    def score(self, threshold: float) -> float:
        """The mean at a threshold."""
        return float(np.interp(threshold, GRID, self.mean))

    def iou(self, threshold: float) -> float | None:
        """Mean IoU where the label is there."""
        there = self.curves[self.present & self.asked]
        if not len(there):
            return None
        return round(float(np.interp(threshold, GRID, there.mean(axis=0))), 4)


def gain(before: Curve, after: Curve, weights: Curve) -> tuple[float, float]:
    """What a change is worth on the same images, each (I,), and its standard error."""
    counted = weights > 0
    shares = weights[counted] / weights[counted].sum()
    changes = (after - before)[counted]
    mean = float(shares @ changes)
    return mean, float(np.sqrt(shares**2 @ (changes - mean) ** 2))


class Jury:
    """The images that judge a label."""

    def __init__(self, predictor: Predictor, seen: Iterable[Seen], label: str) -> None:
        looked = sorted((one for one in seen if label in one.truths), key=lambda one: one.task)
        there = [one for one in looked if one.truths[label].any()][:MOST_PRESENT]
        gone = [one for one in looked if not one.truths[label].any()][:MOST_ABSENT]
        self.images = [*there, *gone]
        self.present = np.array([True] * len(there) + [False] * len(gone), bool)
        self.predictor = predictor
        self._label = label

    def rate(self, *ways: Way) -> list[Rating]:
        """One rating for each way to ask."""
        curves = np.full((len(ways), len(self.images), len(GRID)), np.nan)
        for i, image in enumerate(self.images):
            askings = [way(image) for way in ways]
            places = [n for n, asking in enumerate(askings) if asking is not None]
            if places:
                curves[places, i] = self._curves(image, [one for one in askings if one is not None])
        return [Rating(one, self.present) for one in curves]

    def rate_confidences(self, way: Way, threshold: float) -> Rating:
        """The rating of a way to ask by how sure a part has to be, instead of by threshold."""
        curves = np.full((len(self.images), len(GRID)), np.nan)
        for i, image in enumerate(self.images):
            answer = self.answer(image, way, threshold)
            if answer is not None:
                sure = confidences(answer, threshold)
                cleaned = partial(clean, answer, threshold)
                curves[i] = self.by_level(image, threshold, sure, cleaned)
        return Rating(curves, self.present)

    def served(self, way: Way, query: Query, on: NDArray[np.bool_]) -> Curve:
        """IoU of masks as they are served, (I,); NaN where the way has nothing to ask with.

        Where the label is absent, finding nothing is 1, and anything 0. `on` are the images to
        look at, (I,); the others have NaN, too.
        """
        scores = np.full(len(self.images), np.nan)
        for i in np.flatnonzero(on):
            image = self.images[i]
            asking, truth = way(image), self.truth(image)
            if asking is not None:
                (found,) = self.predictor.find(image.features, {query: asking})
                shape = truth.shape[0], truth.shape[1]
                guess = None if found.mask is None else shrunk(found.mask, shape)
                scores[i] = iou(guess, truth) if truth.any() else guess is None
        return scores

    def answer(self, image: Seen, way: Way, threshold: float) -> NDArray[np.float32] | None:
        """The probabilities (h, w) that a way to ask gets; None where it cannot ask."""
        asking = way(image)
        if asking is None:
            return None
        small = self.predictor.segmenter.each(image.features, asking.conditions)
        answer: NDArray[np.float32] = small[asking.choice(small, threshold)].float().cpu().numpy()
        return answer

    def by_level(
        self,
        image: Seen,
        threshold: float,
        levels: NDArray[np.float64],
        answer: Callable[[float], NDArray[np.float32]],
    ) -> Curve:
        """IoU by level, (T,), of probabilities (h, w) that change where one of `levels` is passed.

        `levels` go upwards: most of the levels that are tried leave out the same parts.
        """
        passed = np.searchsorted(levels, GRID)
        _, tried, places = np.unique(passed, return_index=True, return_inverse=True)
        answers = np.stack([answer(float(GRID[one])) for one in tried])
        truth = self.truth(image)
        found = resize(torch.from_numpy(answers), (truth.shape[0], truth.shape[1]))
        curve: Curve = _overlaps((found >= threshold).flatten(1).numpy(), truth)[places]
        return curve

    def truth(self, image: Seen) -> Mask:
        """Where the label is, (h, w)."""
        return image.truths[self._label]

    def finds(self, condition: Tensor, threshold: float) -> bool:
        """Whether a condition (C,) marks more than a speck of any image."""
        segmenter = self.predictor.segmenter
        answers = (segmenter.each(image.features, condition[None]) for image in self.images)
        return any(float((one >= threshold).float().mean()) >= SPECK for one in answers)

    def _curves(self, image: Seen, askings: Sequence[Asking]) -> Curve:
        """IoU by threshold of N ways to ask: (N, T)."""
        rows = torch.cat([asking.conditions for asking in askings])
        small = self.predictor.segmenter.each(image.features, rows).float().cpu()
        truth = self.truth(image)
        likely = resize(small, (truth.shape[0], truth.shape[1])).flatten(1).numpy()
        steps = likely[:, None] >= GRID.astype(np.float32)[:, None]
        overlaps = _overlaps(steps, truth)
        curves, first, thresholds = [], 0, torch.tensor(GRID, dtype=torch.float32)
        for asking in askings:
            own = slice(first, first + len(asking.conditions))
            first = own.stop
            best = asking.best(small[own], thresholds).numpy()
            curves.append(overlaps[own][best, np.arange(len(GRID))])
        return np.stack(curves)


def _overlaps(found: NDArray[np.bool_], truth: Mask) -> Curve:
    """IoU of masks (..., P) with a truth of P pixels; of nothing, less than a speck is 1."""
    total = found.sum(axis=-1)
    if not truth.any():
        nothing: Curve = (total < SPECK * truth.size).astype(float)
        return nothing
    shared = found[..., truth.ravel()].sum(axis=-1)
    overlap: Curve = shared / (total + int(truth.sum()) - shared)
    return overlap
