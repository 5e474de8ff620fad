"""A candidate beside what is served, on the same held-out tasks, each asked as it is served.

Few tasks judge as long as a project is young, and whether a model finds a thing hangs on how it
lies and how large it is. So few images are looked at in several ways (`backend.learning.views`),
and a score is the mean of these: of twelve versions that were better on other scenes, tasks that
were looked at once kept eight back (`benchmarks/bench_verdicts.py`).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from backend.inference.asking import Asking
from backend.inference.features import FeatureCache
from backend.inference.masks import shrunk
from backend.inference.predictor import Predictor
from backend.inference.scores import ABSENT
from backend.labelstudio.shapes import Mask
from backend.learning.calibration import Calibration
from backend.learning.dataset import Sample
from backend.learning.drawn import iou
from backend.learning.forgetting import IMAGES, Kept, Known
from backend.learning.views import View, views, views_of
from backend.overlay import Drawn, draw, fitted
from backend.prompting import Query
from models import ImageFeatures, Segmenter

RESAMPLES = 2000
CONFIDENCE = 0.9
WORST = 6  # cases that are shown
SHOWN = 480  # pixels of the longer side of what is shown
LOOKS = 100  # at few images: twelve are seen in eight ways, those after fifty in one
LOOKED_AT = 704  # pixels of the longer side of what is looked at again: all models read less


@dataclass(frozen=True, slots=True)
class Score:
    """One label of one image, the mean of all looks at it.

    In a look at an image without the label, nothing found scores 1, and anything 0.
    """

    task: int
    label: str
    present: bool
    active: float  # IoU of what is served
    candidate: float

    @property
    def weight(self) -> float:
        """In a mean."""
        return 1.0 if self.present else ABSENT

    @property
    def lost(self) -> float:
        """What the candidate's answer is short of in a mean."""
        return self.weight * (1 - self.candidate)


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to look at."""

    score: Score
    active: float  # IoU in the picture, of what is served
    candidate: float
    picture: str  # JPEG as a data URL


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and where it would lie in nine of ten other draws of tasks."""

    mean: float
    low: float
    high: float
    above: float  # share of such draws in which it is above zero


@dataclass(slots=True)
class Evaluation:
    """How both did."""

    scores: list[Score] = field(default_factory=list)
    worst: list[Case] = field(default_factory=list)
    # of the active one and of the candidate
    calibration: tuple[Calibration, Calibration] = field(
        default_factory=lambda: (Calibration(), Calibration())
    )
    kept: tuple[Kept, Kept] = (Kept(), Kept())

    @property
    def tasks(self) -> int:
        """How many tasks judged."""
        return len({score.task for score in self.scores})

    def labels(self, present: bool = True) -> dict[str, tuple[float, float, int]]:
        """By label: mean IoU of the active one, of the candidate; images.

        Of images where the label is there, or of the others: the share in which nothing was found.
        """
        found = {}
        for label in dict.fromkeys(score.label for score in self.scores):
            rows = [s for s in self.scores if s.label == label and s.present is present]
            if rows:
                active = float(np.mean([row.active for row in rows]))
                found[label] = (active, float(np.mean([row.candidate for row in rows])), len(rows))
        return found

    def means(self) -> tuple[float, float]:
        """Mean IoU of the active one and of the candidate, over all images and labels."""
        if not self.scores:
            return 0.0, 0.0
        weights = [score.weight for score in self.scores]
        active = np.average([score.active for score in self.scores], weights=weights)
        candidate = np.average([score.candidate for score in self.scores], weights=weights)
        return float(active), float(candidate)

    def difference(self) -> Interval:
        """The candidate's mean IoU less the active one's: a paired bootstrap over tasks."""
        if not self.scores:
            return Interval(0.0, 0.0, 0.0, 0.0)
        by_task: dict[int, list[Score]] = {}
        for score in self.scores:
            by_task.setdefault(score.task, []).append(score)
        tasks = by_task.values()
        sums = np.array([sum(s.weight * (s.candidate - s.active) for s in task) for task in tasks])
        weights = np.array([sum(s.weight for s in task) for task in tasks])
        drawn = np.random.default_rng(0).integers(len(sums), size=(RESAMPLES, len(sums)))
        means = sums[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(means, [tail, 1 - tail])
        above = float((means > 0).mean())
        return Interval(float(sums.sum() / weights.sum()), float(low), float(high), above)

    def to_json(self) -> dict[str, Any]:
        """Its figures, for a version's card; means are None where nothing judged."""
        active, candidate = self.means() if self.scores else (None, None)
        return {
            "iou": candidate,
            "active_iou": active,
            "difference": asdict(self.difference()),
            "held_out_tasks": self.tasks,
            "kept": asdict(self.kept[1]),
            "active_kept": asdict(self.kept[0]),
            "calibration": self.calibration[1].to_json(),
            "active_calibration": self.calibration[0].to_json(),
            **{
                name: {
                    label: {"iou": new, "active_iou": old, "images": count}
                    for label, (old, new, count) in self.labels(present).items()
                }
                for name, present in (("labels", True), ("absent", False))
            },
        }


def evaluate(
    samples: Iterable[Sample],
    base: Segmenter,
    active: Segmenter,
    candidate: Segmenter,
    asked: Sequence[Query],
    then: Sequence[Query],
    everyday: Tensor,
    threshold: float,
) -> Evaluation:
    """Score both on samples, as masks are served: cleaned, and at the image's size.

    A label that controls ask for in several ways is judged by the first of an image, once.

    Args:
        samples: Images that judge.
        base: The base checkpoint.
        active: What is served.
        candidate: What might be.
        asked: What labels are asked with as they are served.
        then: And with the candidate; a label is judged that both can be asked for.
        everyday: Conditions (Q, C) that the first images are asked too: what the base checkpoint
            finds, both are to find.
        threshold: From which probability on a pixel of such an answer counts.
    """
    found = Evaluation()
    judges = [Predictor(segmenter, FeatureCache(0)) for segmenter in (base, active, candidate)]
    both = judges[1:]
    ways = _first(asked), _first(then)
    judged = [key for key in ways[0] if key in ways[1]]
    rows = [
        {key: (way[key], judge.asking(way[key])) for key in judged}
        for judge, way in zip(both, ways, strict=True)
    ]
    agreed: tuple[list[float], list[float]] = ([], [])
    for number, sample in enumerate(samples):
        wanted = [key for key in judged if key[0] == sample.image_key and key[1] in sample.labels]
        askings = [dict(row[key] for key in wanted) for row in rows]
        features = _encoded(sample.image.image, judges)
        overlaps: dict[str, list[tuple[float, float]]] = {}
        shown: dict[str, Mask | None] = {}
        for label, old, new in _found(both, features[1:], askings):
            truth = sample.mask(label)
            overlaps[label] = [(iou(old, truth), iou(new, truth))]
            shown[label] = new
        for view in _looks(sample, views_of(number, LOOKS, 1)):
            for label, old, new in _found(both, _encoded(view.image, both), askings):
                truth = view.masks.get(label, np.zeros(view.image.size[::-1], bool))
                if truth.any() or label not in sample.masks:  # else it is out of sight
                    overlaps[label].append((iou(old, truth), iou(new, truth)))
        for label, some in overlaps.items():
            score = Score(
                sample.task, label, label in sample.masks, *np.mean(some, axis=0).tolist()
            )
            found.scores.append(score)
            _keep_worst(found.worst, score, some[0], sample, shown[label])
        for i, judge in enumerate(both):
            _calibrate(found.calibration[i], judge, features[1 + i], sample, askings[i])
        if number < IMAGES:
            known = Known.of(base, features[0], everyday, threshold)
            for one, seen, scores in zip(both, features[1:], agreed, strict=True):
                scores.extend(known.agreements(one.segmenter, seen, threshold))
    found.kept = (Kept.of(agreed[0]), Kept.of(agreed[1]))
    return found


def _first(asked: Sequence[Query]) -> dict[tuple[str, str], Query]:
    """The first query of each label, by the field of the image and the label."""
    found: dict[tuple[str, str], Query] = {}
    for query in asked:
        found.setdefault((query.image_key, query.label), query)
    return found


def _looks(sample: Sample, count: int) -> Iterator[View[str]]:
    """The image seen in other ways than as it is, so that there are `count` ways in all."""
    image = sample.image.image
    if count > 1:
        size = fitted(image.size, LOOKED_AT)
        masks = {label: shrunk(mask, size[::-1]) for label, mask in sample.masks.items()}
        yield from islice(views(image.resize(size), masks, count, sample.task), 1, None)


def _found(
    both: Sequence[Predictor],
    features: Sequence[ImageFeatures],
    askings: Sequence[Mapping[Query, Asking]],
) -> Iterator[tuple[str, Mask | None, Mask | None]]:
    """Each label that is asked for, and the mask that each of both finds."""
    before, after = (
        judge.find(seen, asked) for judge, seen, asked in zip(both, features, askings, strict=True)
    )
    for old, new in zip(before, after, strict=True):
        yield old.query.label, old.mask, new.mask


def _encoded(image: Image.Image, judges: Sequence[Predictor]) -> list[ImageFeatures]:
    """An image for each; those that encode alike share it."""
    features: list[ImageFeatures] = []
    for i, judge in enumerate(judges):
        like = next((j for j in range(i) if judge.segmenter.encodes_like(judges[j].segmenter)), i)
        features += judge.segmenter.encode_image([image]) if like == i else [features[like]]
    return features


def _calibrate(
    calibration: Calibration,
    predictor: Predictor,
    features: ImageFeatures,
    sample: Sample,
    asked: Mapping[Query, Asking],
) -> None:
    """Count the pixels at the model's resolution."""
    if not asked:
        return
    rows = [predictor.settled(features, one, query.threshold) for query, one in asked.items()]
    said = predictor.segmenter.probabilities(features, torch.stack(rows)).cpu()
    for query, probabilities in zip(asked, said, strict=True):
        truth = shrunk(sample.mask(query.label), (said.shape[1], said.shape[2]))
        calibration.add(probabilities.numpy(), truth)


def _keep_worst(
    worst: list[Case],
    score: Score,
    overlap: tuple[float, float],
    sample: Sample,
    guess: Mask | None,
) -> None:
    """Keep an answer to the plain image, with its IoU, if it is among the worst."""
    if len(worst) == WORST and score.lost <= worst[-1].score.lost:
        return
    image = sample.image.image
    size = fitted(image.size, SHOWN)
    truth = sample.mask(score.label)
    found = np.zeros_like(truth) if guess is None else guess
    drawn = [  # empty ones, too, so that a colour means the same in every picture
        Drawn(caption, np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))
        for caption, mask in (("accepted", truth), ("candidate", found))
    ]
    file = io.BytesIO()
    draw(image.resize(size), drawn).save(file, "JPEG", quality=80)
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    worst.append(Case(score, *overlap, url))
    worst.sort(key=lambda case: case.score.lost, reverse=True)
    del worst[WORST:]
