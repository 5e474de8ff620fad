"""Accepted tasks as prompts are measured on: encoded once, asked in any number of ways.

An exemplar's own task never counts for it: a way to ask may have nothing to ask a task with.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from backend.errors import BadPrompt
from backend.inference.asking import Asking
from backend.inference.books import Books, exemplar_id
from backend.inference.masks import SPECK, clean, confidences
from backend.inference.predictor import Predictor
from backend.inference.promptbook import FEW
from backend.inference.recolouring import recoloured
from backend.inference.suggest import absent_weight
from backend.labelstudio.labels import LONGEST_PROMPT
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.lessons import shrunk
from backend.learning.promotion import LEAST_TASKS
from backend.learning.train import Source
from backend.prompting import Query, named
from models import Exemplar, ImageFeatures
from models.segmenter import resize

log = logging.getLogger(__name__)

GRID = np.arange(1, 20) / 20  # thresholds that are tried
SIDE = 176  # pixels of the longer side at which masks are compared
MOST_TASKS = 200  # that are measured on: each costs an image's features in memory
MOST_PRESENT, MOST_ABSENT = 40, 20  # of them for a label
MOST_EXEMPLARS = 12  # of a label; each costs a pass of the vision tower, and one of the decoder
ABSENT = 0.25  # weight of all images without a label, beside those with it
LEAST = 16  # pixels that show something

Curve = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """An image of an accepted task."""

    task: int
    image_key: str
    digest: str  # of the image
    features: ImageFeatures
    truths: Mapping[str, Mask]  # (h, w) of every label that was looked for

    @property
    def held_out(self) -> bool:
        """Whether it is there to judge."""
        return part_of(self.task) is Part.HELD_OUT


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """What an accepted mask shows of its label."""

    id: str
    task: int
    condition: Tensor  # (C,)
    recoloured: tuple[str, Tensor] | None = None  # the same in other colours: its name, and (C,)
    project: int = 0  # that the task is of; 0 is the one that is measured
    digest: str = ""  # of its image, if that is known

    def is_of(self, image: Seen) -> bool:
        """Whether it is a mask of the very task that an image is of, or of an equal image."""
        return self.digest == image.digest or (not self.project and self.task == image.task)


@dataclass(slots=True)
class Evidence:
    """A project's accepted work."""

    seen: list[Seen] = field(default_factory=list)
    shots: dict[str, list[Shot]] = field(default_factory=dict)
    typed: dict[str, dict[str, int]] = field(default_factory=dict)  # annotations, by label and text
    suggested: dict[str, set[str]] = field(default_factory=dict)  # those texts that were offered
    held_out: set[int] = field(default_factory=set)  # tasks

    @property
    def judged(self) -> bool:
        """Whether enough tasks are held out to judge by: fewer may teach as well as the others."""
        return len(self.held_out) >= LEAST_TASKS


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


def gather(
    predictor: Predictor,
    books: Books,
    project: int,
    encoder: str,
    asked: Sequence[Query],
    source: Source,
    account: Account,
) -> Evidence:
    """Accepted work as it can be measured on; what exemplars show is stored.

    What a person left out of the project's book shows nothing, so that others take its place.
    Held-out tasks show nothing, as they are there to judge; but where they are too few for that, or
    a label is accepted nowhere else, they do. An image that several tasks have is measured on once.
    """
    evidence = Evidence()
    entries = books.book(project).entries.values()
    refused = {(one.label, e.id) for one in entries for e in one.exemplars if e.refused}
    reserve: dict[str, list[Shot]] = {}
    for sample in tqdm(source(tuple(Part), account), "images", disable=None):
        for label, phrase, offered in _typed(sample, asked, predictor):
            said = evidence.typed.setdefault(label, {})
            said[phrase] = said.get(phrase, 0) + 1
            evidence.suggested.setdefault(label, set()).update([phrase] * offered)
        if len(evidence.seen) >= MOST_TASKS and _rank(sample.task) > _rank(evidence.seen[-1].task):
            continue
        one = _seen(sample, predictor)
        evidence.seen = sorted([*evidence.seen, one], key=lambda s: _rank(s.task))[:MOST_TASKS]
        shots = reserve if one.held_out else evidence.shots
        for label, mask in sample.masks.items():
            held = shots.setdefault(label, [])
            if len(held) < (LEAST_TASKS - 1 if one.held_out else MOST_EXEMPLARS):
                also = len(held) < FEW
                shown = _shots(predictor, books, project, encoder, sample, mask, also)
                held += [shot for shot in shown if (label, shot.id) not in refused]
    evidence.seen = _once(evidence.seen)
    evidence.held_out = {one.task for one in evidence.seen if one.held_out}
    for label, held in reserve.items():
        known = evidence.shots.setdefault(label, [])
        if not evidence.judged:
            known += held[: MOST_EXEMPLARS - len(known)]
        elif not known:
            known += held[:1]
    return evidence


def _once(seen: Iterable[Seen]) -> list[Seen]:
    """Each image once; of equal ones rather one that teaches than one that judges."""
    found: dict[tuple[str, str], Seen] = {}
    for one in sorted(seen, key=lambda one: one.held_out):
        found.setdefault((one.image_key, one.digest), one)
    return list(found.values())


def _rank(task: int) -> bytes:
    """An order of tasks that tells nothing of them, and never changes."""
    return hashlib.sha256(f"measured {task}".encode()).digest()


def _seen(sample: Sample, predictor: Predictor) -> Seen:
    (features,) = predictor.encode([(sample.image.digest, sample.image.image)])
    height, width = sample.size
    scale = min(1.0, SIDE / max(sample.size))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    truths = {label: shrunk(sample.mask(label), size) for label in sample.labels}
    return Seen(sample.task, sample.image_key, sample.image.digest, features, truths)


def _shots(
    predictor: Predictor,
    books: Books,
    project: int,
    encoder: str,
    sample: Sample,
    mask: Mask,
    in_other_colours: bool,
) -> list[Shot]:
    """The largest part of a label in an image, as an exemplar; none if that is next to nothing."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    if not len(sizes) or sizes.max() < LEAST:
        return []
    part = parts == 1 + int(sizes.argmax())
    image = sample.image

    def stored(name: str, exemplars: Callable[[], Sequence[Exemplar]]) -> Tensor:
        """The mean of what exemplars show, from the project's folder if it is there."""
        held = books.condition(project, name) if books.holds(project, name) else None
        if held is None:
            shown = predictor.segmenter.encode_exemplar(exemplars())
            held = shown.float().mean(dim=0).cpu().numpy()
            books.keep(project, name, held)
        return torch.from_numpy(held)

    name = exemplar_id(encoder, image.digest, part)
    condition = stored(name, lambda: [Exemplar(image.image, part)])
    shot = Shot(name, sample.task, condition, digest=image.digest)
    if not in_other_colours:
        return [shot]
    other = exemplar_id(f"{encoder} recoloured", image.digest, part)
    in_colours = stored(other, lambda: recoloured(image.image, part))
    return [replace(shot, recoloured=(other, in_colours))]


def _typed(
    sample: Sample, asked: Sequence[Query], predictor: Predictor
) -> Iterable[tuple[str, str, bool]]:
    """Accepted labels that phrases were typed for, the phrases, and whether those were offered.

    A phrase that names no label was answered for the one that it is nearest to. One that no model
    reads, such as a caption that somebody wrote there, is none.
    """
    there = [
        query
        for query in asked
        if query.image_key == sample.image_key and query.label in sample.masks
    ]
    for phrase in sample.typed if there else ():
        query = named(phrase, asked)
        try:
            if query is None:
                nearest = there[0] if len(there) == 1 else predictor.closest(phrase, there)
                query = nearest.saying(phrase)
            predictor.condition(query.prompts)
            if len(query.prompts[0]) > LONGEST_PROMPT:
                raise BadPrompt(f"A text has 1 to {LONGEST_PROMPT} characters.")
        except BadPrompt as error:
            log.warning("What was typed in task %d is not tried: %s", sample.task, error)
            continue
        own = any((query.label, query.prompts) == (one.label, one.prompts) for one in asked)
        if not own and query.label in sample.masks:  # a label's name, or a "not", says nothing new
            yield query.label, query.prompts[0], phrase in sample.suggested
