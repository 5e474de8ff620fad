"""A candidate beside what is served, on held-out tasks: the same images, labels and thresholds."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
from backend.overlay import Drawn, draw
from backend.prompting import Query
from models import ImageFeatures, Segmenter

RESAMPLES = 2000
CONFIDENCE = 0.9
WORST = 6  # cases that are shown
SHOWN = 480  # pixels of the longer side of what is shown


@dataclass(frozen=True, slots=True)
class Score:
    """One label of one image; an absent one scores 1 if nothing was found, else 0."""

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
    everyday: Tensor,
    threshold: float,
) -> Evaluation:
    """Score both on samples, as masks are served: cleaned, and at the image's size.

    A label that controls ask for in several ways is judged by the first of an image, once. Of the
    first images, everyday phrases (Q, C) are asked too: what `base` finds with a threshold, both
    are to find.
    """
    found = Evaluation()
    judges = [Predictor(segmenter, FeatureCache(0)) for segmenter in (base, active, candidate)]
    first = {(query.image_key, query.label): query for query in reversed(asked)}
    judged = [query for query in asked if query in first.values()]
    rows = [{query: judge.asking(query) for query in judged} for judge in judges[1:]]
    agreed: tuple[list[float], list[float]] = ([], [])
    for number, sample in enumerate(samples):
        features = _encoded(sample, judges)
        wanted = [
            query
            for query in judged
            if query.image_key == sample.image_key and query.label in sample.labels
        ]
        before, after = (
            judge.find(seen, {query: row[query] for query in wanted})
            for judge, seen, row in zip(judges[1:], features[1:], rows, strict=True)
        )
        for query, old, new in zip(wanted, before, after, strict=True):
            truth = sample.mask(query.label)
            score = Score(
                sample.task,
                query.label,
                bool(truth.any()),
                iou(old.mask, truth),
                iou(new.mask, truth),
            )
            found.scores.append(score)
            _keep_worst(found.worst, score, sample, new.mask)
        for i in range(2):
            judge, seen = judges[1 + i], features[1 + i]
            _calibrate(found.calibration[i], judge, seen, sample, {q: rows[i][q] for q in wanted})
        if number < IMAGES:
            known = Known.of(base, features[0], everyday, threshold)
            for one, seen, scores in zip(judges[1:], features[1:], agreed, strict=True):
                scores.extend(known.agreements(one.segmenter, seen, threshold))
    found.kept = (Kept.of(agreed[0]), Kept.of(agreed[1]))
    return found


def _encoded(sample: Sample, judges: Sequence[Predictor]) -> list[ImageFeatures]:
    """A sample's image for each; those that encode alike share it."""
    image = sample.image
    features: list[ImageFeatures] = []
    for i, judge in enumerate(judges):
        like = next((j for j in range(i) if judge.segmenter.encodes_like(judges[j].segmenter)), i)
        if like == i:
            features.extend(judge.encode([(image.digest, image.image)]))
        else:
            features.append(features[like])
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


def _keep_worst(worst: list[Case], score: Score, sample: Sample, guess: Mask | None) -> None:
    if len(worst) == WORST and score.lost <= worst[-1].score.lost:
        return
    image = sample.image.image
    scale = min(1.0, SHOWN / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    truth = sample.mask(score.label)
    found = np.zeros_like(truth) if guess is None else guess
    drawn = [  # empty ones, too, so that a colour means the same in every picture
        Drawn(caption, np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))
        for caption, mask in (("accepted", truth), ("candidate", found))
    ]
    file = io.BytesIO()
    draw(image.resize(size), drawn).save(file, "JPEG", quality=80)
    url = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    worst.append(Case(score, url))
    worst.sort(key=lambda case: case.score.lost, reverse=True)
    del worst[WORST:]
