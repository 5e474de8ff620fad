"""How much of what was predicted is accepted, and what time that saves: proof that it pays.

An annotation that began with a prediction of ours is held against that prediction, label by label,
masks against masks: Label Studio's, or without an API key what this backend remembers to have
answered. Where that is not known either, the regions of an annotation tell by their ids and origins
what was left as it was, and so how many masks were accepted untouched, of those not deleted.

Time saved is what drawing by hand would have taken, less what was taken. Annotations without a
prediction tell how long a region takes by hand; while they are too few, `BY_HAND` is assumed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any, Self

import numpy as np

from backend.durable import rewrite
from backend.filelock import locked
from backend.inference.scores import Scores, fit, keep
from backend.labelstudio.annotations import lead_time, regions
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.events import moment
from backend.labelstudio.origin import confidence_in, prompts_of, weights_in, weights_of
from backend.labelstudio.shapes import Area, areas
from backend.learning.drawn import View, drawn, iou, meant_otherwise, views
from backend.learning.source import Studio
from backend.report import duration

log = logging.getLogger(__name__)

WEIGHTS = 8  # digits of a version's id, or of the base checkpoint's digest, that name it
FILE = "acceptance.json"  # in a project's folder; made anew from accepted work when it is gone
# Seconds to outline an object, as measured on COCO (Lin et al., arXiv 1405.0312, section 4.3: 22
# hours for 1000 of them).
BY_HAND = 79.0
NEARLY = 0.95  # IoU from which what was changed was as good as accepted
ENOUGH = 5  # annotations by hand that say more than that

Json = Mapping[str, Any]

# What the file has of a row and of an annotation, and of which kind.
OF_ROW: Mapping[str, Any] = {
    "label": str,
    **dict.fromkeys(("predicted", "untouched"), bool),
    **dict.fromkeys(("score", "iou"), float | int | None),
}
OF_WORK: Mapping[str, Any] = {
    **dict.fromkeys(("annotation", "task", "regions"), int),
    **dict.fromkeys(("by_hand", "known"), bool),
    **dict.fromkeys(("weights", "prompts"), str | None),
    "updated_at": str,
    "seconds": float | int | None,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A label of an image, predicted or accepted or both."""

    label: str
    predicted: bool
    score: float | None  # the model's confidence in what was predicted
    iou: float | None  # of what was predicted and what was accepted; None is not known
    untouched: bool  # accepted as predicted

    @property
    def accepted(self) -> bool:
        """Whether an annotator took it as it was, or nearly."""
        return self.untouched or (self.iou is not None and self.iou >= NEARLY)


@dataclass(frozen=True, slots=True)
class Work:
    """An annotation that was accepted."""

    annotation: int
    task: int
    updated_at: str
    by_hand: bool  # nothing in it was ever predicted
    weights: str | None  # that predicted what it began with: the beginning of their name
    prompts: str | None  # names what they were asked, where it is known what they predicted
    known: bool  # whether it is known what they predicted, deleted regions included
    regions: int
    seconds: float | None
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the predictions of some weights."""

    annotations: int  # that began with one
    predicted: int  # masks
    untouched: int  # of those
    missed: int  # masks that were accepted where none was predicted
    iou: float | None  # mean over masks predicted or missed, where both are known
    seconds_saved: float | None  # in all; None: nobody told how long it took

    @property
    def share(self) -> float | None:
        """Of the masks predicted, those accepted untouched."""
        return self.untouched / self.predicted if self.predicted else None

    def __str__(self) -> str:
        """In short, for people."""
        told = [f"{self.untouched} of {self.predicted} masks untouched"]
        if self.iou is not None:
            told.append(f"IoU {self.iou:.2f}")
        if self.seconds_saved is not None:
            told.append(f"{duration(self.seconds_saved)} saved")
        return ", ".join(told)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "untouched_share": self.share}


class Acceptance:
    """A project's accepted work beside what was predicted."""

    def __init__(self, works: Sequence[Work] = (), looked: object = None) -> None:
        """`looked` tells what was looked for when the works were measured."""
        self.works = tuple(works)
        self.looked = looked

    @classmethod
    def of(cls, folder: Path, project: int) -> Self:
        """What was measured last, in the folder of all projects' versions; nothing if never."""
        path = folder / str(project) / FILE
        try:
            content = json.loads(path.read_bytes())
            return cls([_read(one) for one in content["annotations"]], content.get("looked"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("%s cannot be read and is made anew: %r", path, error)
            return cls()

    def rows(self, weights: str | None = None) -> list[Row]:
        """Every label that was held against a prediction, of all weights or some."""
        return [
            row
            for work in self.works
            for row in work.rows
            if weights is None or work.weights == weights
        ]

    def scores(self) -> Scores:
        """What the confidences of predictions turned out to mean."""
        newest = sorted(self.works, key=lambda work: moment(work.updated_at))
        rows = [row for work in newest for row in work.rows]
        judged = [(row.score, row.accepted) for row in rows if row.predicted]
        known = [(score, accepted) for score, accepted in judged if score is not None]
        return fit([score for score, _ in known], [accepted for _, accepted in known])

    def figures(self) -> dict[str, Figures]:
        """By weights: the first eight digits of a version's id, or of the base checkpoint's."""
        by_weights: dict[str, list[Work]] = {}
        for work in self.works:
            if work.weights is not None:
                by_weights.setdefault(work.weights, []).append(work)
        return {weights: self._figures(works) for weights, works in by_weights.items()}

    def seconds_by_hand(self) -> float | None:
        """To draw a region, as annotations by hand tell; None where they are too few."""
        paces = [pace for work in self.works if work.by_hand and (pace := _pace(work)) is not None]
        return median(paces) if len(paces) >= ENOUGH else None

    @property
    def assumption(self) -> str:
        """What the time saved is reckoned from, in words."""
        measured = self.seconds_by_hand()
        if measured is None:
            return f"{BY_HAND:.0f} s to draw a region by hand, as on COCO: an assumption"
        return f"{measured:.0f} s to draw a region by hand, the median of this project"

    def to_json(self) -> dict[str, Any]:
        """The figures, for programs."""
        return {
            "assumption": self.assumption,
            "scores": asdict(self.scores()),
            "weights": {name: figures.to_json() for name, figures in self.figures().items()},
        }

    def _figures(self, works: Sequence[Work]) -> Figures:
        rows = [row for work in works for row in work.rows]
        overlaps = [
            row.iou for work in works if work.known for row in work.rows if row.iou is not None
        ]
        paces = [pace for work in works if (pace := _pace(work)) is not None]
        by_hand = self.seconds_by_hand() or BY_HAND
        regions = sum(work.regions for work in works)
        return Figures(
            annotations=len(works),
            predicted=sum(row.predicted for row in rows),
            untouched=sum(row.untouched for row in rows),
            missed=sum(not row.predicted for row in rows),
            iou=fmean(overlaps) if overlaps else None,
            # the median, since somebody who is at lunch takes an hour
            seconds_saved=regions * (by_hand - median(paces)) if paces else None,
        )


def measure(studio: Studio, project: int, folder: Path) -> Acceptance:
    """Hold a project's accepted work against what was predicted, and keep that.

    What was measured before and has not changed is not asked for again, unless the labeling
    configuration lets something else be looked for than it did then; where the prediction is gone
    since, what was measured stays.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
        TooLittleData: nothing is known of the project.
        BadLabelConfig: the project has nothing to fill.
    """
    looked = views(parse_label_config(studio.project(project)["label_config"]))
    told = _told(looked)
    held = Acceptance.of(folder, project)
    before = {
        (work.annotation, work.updated_at): work
        for work in held.works
        if work.by_hand or work.known
    }
    works = []
    for task in studio.annotated_tasks(project):
        for annotation in task["annotations"]:
            if not annotation.get("was_cancelled"):
                work = before.get((annotation["id"], str(annotation.get("updated_at"))))
                if work is None or held.looked != told:
                    now = _work(task["id"], annotation, looked, studio)
                    work = work if work and work.known and not now.known else now
                works.append(work)
    place = folder / str(project)
    with locked(place / ".lock"):
        content = {"looked": told, "annotations": [asdict(work) for work in works]}
        rewrite(place / FILE, json.dumps(content).encode())
        accepted = Acceptance(works, told)
        keep(place, accepted.scores())
    return accepted


def _told(looked: Sequence[View]) -> list[dict[str, Any]]:
    """What was looked for, as the file has it."""
    return [
        {
            name: sorted(value) if isinstance(value, frozenset) else value
            for name, value in {**asdict(view), "labels": [*view.labels]}.items()
        }
        for view in looked
    ]


def _read(raw: Json) -> Work:
    """An annotation out of the file.

    Raises:
        ValueError: it has another form.
        TypeError: it is no object, or something is missing or too much.
    """
    work = Work(**{**raw, "rows": tuple(Row(**row) for row in raw["rows"])})
    for one, form in [(work, OF_WORK), *((row, OF_ROW) for row in work.rows)]:
        for name, kind in form.items():
            if not isinstance(getattr(one, name), kind):
                raise ValueError(f'"{name}" is {getattr(one, name)!r}')
    return work


def _work(task: int, annotation: Json, looked: Sequence[View], studio: Studio) -> Work:
    result = regions(annotation)
    parent = annotation.get("parent_prediction")
    prediction = studio.began_with(task, annotation)
    prompts = None
    if prediction is not None:
        version = str(prediction.get("model_version"))
        weights, prompts = weights_of(version), prompts_of(version)
        predicted = regions(prediction)
        rows = [row for view in looked for row in _compared(predicted, result, view)]
    else:
        told = [found for area in areas(result) if (found := weights_in(area.id))]
        weights = told[0] if told and parent is not None else None
        rows = [row for view in looked for row in _traced(result, view)]
    return Work(
        annotation=annotation["id"],
        task=task,
        updated_at=str(annotation.get("updated_at")),
        by_hand=parent is None and not any(_was_predicted(area) for area in areas(result)),
        weights=weights,
        prompts=prompts,
        known=prediction is not None,
        regions=sum(len(_counted(result, view)) for view in looked),
        seconds=lead_time(annotation),
        rows=tuple(rows) if weights else (),
    )


def _compared(predicted: Sequence[Json], result: Sequence[Json], view: View) -> list[Row]:
    """Masks held against masks."""
    before = drawn(predicted, view)
    size = next((mask.shape for mask in before.masks.values()), None)
    after = drawn(result, view, None if size is None else (size[0], size[1]))
    scores = _scores(predicted, view)
    rows = []
    for label in view.labels:
        guess, truth = before.masks.get(label), after.masks.get(label)
        if label in before.unclear | after.unclear or (guess is None and truth is None):
            continue
        overlap = 0.0 if guess is None or truth is None else iou(guess, truth)
        untouched = guess is not None and truth is not None and np.array_equal(guess, truth)
        rows.append(Row(label, guess is not None, scores.get(label), overlap, untouched))
    return rows


def _traced(result: Sequence[Json], view: View) -> list[Row]:
    """What the regions of an annotation tell of themselves."""
    scores, rows = _scores(result, view), []
    for label in view.labels:
        there = [area for area in _counted(result, view) if label in area.labels]
        ours = [area for area in there if weights_in(area.id)]
        untouched = bool(ours) and all(
            area in ours and area.origin == "prediction" for area in there
        )
        if there:
            overlap = 1.0 if untouched else None
            rows.append(Row(label, bool(ours), scores.get(label), overlap, untouched))
    return rows


def _counted(result: Sequence[Json], view: View) -> list[Area]:
    """The regions that say where a label is."""
    shown = (area for area in areas(result) if area.to_name in view.tags)
    return [area for area in shown if meant_otherwise(area, view) is None]


def _scores(result: Sequence[Json], view: View) -> dict[str, float]:
    """The best confidence of each label, or its score where no confidence is told."""
    best: dict[str, float] = {}
    for area in _counted(result, view):
        for label in area.labels:
            told = confidence_in(area.id)
            score = area.score if told is None else told
            if score is not None:
                best[label] = max(score, best.get(label, score))
    return best


def _was_predicted(area: Area) -> bool:
    return area.origin.startswith("prediction") or weights_in(area.id) is not None


def _pace(work: Work) -> float | None:
    """Seconds a region."""
    return None if work.seconds is None or not work.regions else work.seconds / work.regions
