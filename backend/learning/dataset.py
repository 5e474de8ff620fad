"""Accepted annotations as samples: an image, and the mask of each label that was looked for.

What counts, task by task:

- Skipped annotations say nothing. A submitted one without regions says that nothing is there.
- If one of a task's annotations is marked as ground truth, only such count.
- The newest annotation of each annotator counts. A pixel has a label if more than half of those
  that count give it that label, so that two annotators have to agree. A label is absent if more
  than half of them drew none of it.
- Several regions of one label are one mask. A label that nobody drew is absent: a negative.
- Where an annotation began with a prediction, what the annotator changed of it is known.
- Every region with an area counts, but not rectangles of a tool that is there to prompt with, nor
  boxes around something that has their label. Where one cannot be read, its labels are neither
  present nor absent: that image says nothing of them. Nor does it of a label whose outlines all
  cover no pixel, nor of what nobody drew beside a region that does not tell its label, or tells one
  that there is no longer.

A task's part, to learn from, to stop by or to judge by, follows from its id alone: what a version
was judged by, no later version learns from. Of many held-out tasks `JUDGES` judge, who are drawn by
their ids as well: an interval from so many is narrow, and judging by more takes long. Tasks may
have equal images, which shows when these are fetched: who learns sees to it that none judges.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backend.errors import BackendError
from backend.labelstudio.annotations import regions
from backend.labelstudio.config import LabelConfig
from backend.labelstudio.events import moment
from backend.labelstudio.images import TaskImage
from backend.labelstudio.interaction import phrases, suggested
from backend.labelstudio.shapes import Mask
from backend.labelstudio.tasks import Task, image_keys, image_url
from backend.learning.drawn import Size, View, drawn, views
from backend.report import table

log = logging.getLogger(__name__)

JUDGES = 500  # held-out tasks at most
EXAMPLES = 5  # tasks that are named for a reason
DISAGREED = "annotators agree neither where a label is nor that it is absent"

Json = Mapping[str, Any]
T = TypeVar("T")


class Part(StrEnum):
    """What a task is for."""

    TRAINING = "training"
    VALIDATION = "validation"  # tells when to stop
    HELD_OUT = "held-out"  # judges the result


SHARES = ((Part.HELD_OUT, 0.2), (Part.VALIDATION, 0.2))


def part_of(task: int) -> Part:
    """The part of a task: the same today, tomorrow and on every machine."""
    drawn = lot(task)
    for part, share in SHARES:
        if drawn < share:
            return part
        drawn -= share
    return Part.TRAINING


def of_parts(tasks: Iterable[T], parts: Collection[Part], id_of: Callable[[T], int]) -> Iterable[T]:
    """Tasks of some parts; where they are to judge, as many as that takes, by ascending id."""
    found = (task for task in tasks if part_of(id_of(task)) in parts)
    if set(parts) != {Part.HELD_OUT}:
        return found
    return sorted(heapq.nsmallest(JUDGES, found, key=lambda task: lot(id_of(task))), key=id_of)


def lot(task: int) -> float:
    """A number in [0, 1) that says nothing of a task but which it is; it decides its part."""
    return int.from_bytes(hashlib.sha256(f"task {task}".encode()).digest()[:8], "big") / 2**64


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image of an accepted task."""

    task: int
    image_key: str  # the field of the task's data
    image: TaskImage
    labels: tuple[str, ...]  # that were looked for
    masks: Mapping[str, Mask]  # (H, W) of those that are there
    corrected: Mapping[str, Mask] = field(default_factory=dict)  # pixels annotators changed, if any
    typed: tuple[str, ...] = ()  # phrases that annotators asked with
    suggested: frozenset[str] = frozenset()  # those of them that we had offered

    @property
    def size(self) -> Size:
        """Height and width of the image, and of each mask."""
        return self.image.image.height, self.image.image.width

    def mask(self, label: str) -> Mask:
        """The label's pixels, (H, W); none where it is absent."""
        found = self.masks.get(label)
        return np.zeros(self.size, bool) if found is None else found

    def digest(self) -> str:
        """SHA-256 of what is learnt from it."""
        total = hashlib.sha256(f"{self.task} {self.image_key} {self.image.digest}".encode())
        for label in sorted(self.labels):
            total.update(f"\n{label} {self.size} ".encode())
            if label in self.masks:
                total.update(np.packbits(self.masks[label]).tobytes())
            if label in self.corrected:
                total.update(b" corrected " + np.packbits(self.corrected[label]).tobytes())
        return total.hexdigest()


@dataclass(slots=True)
class Account:
    """What went into a dataset; what did not, and why, with tasks as examples."""

    parts: Counter[str] = field(default_factory=Counter)  # images
    regions: Counter[str] = field(default_factory=Counter)  # by form
    present: Counter[str] = field(default_factory=Counter)  # images, by label
    absent: Counter[str] = field(default_factory=Counter)
    merged: int = 0  # images that several annotators agreed on
    ground_truth: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[int]] = field(default_factory=dict)
    unseen: set[int] = field(default_factory=set)  # tasks whose image could not be had just now

    def leave_out(self, task: int, reason: str) -> None:
        """Count something of a task that is not used."""
        self.left_out[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < EXAMPLES and task not in named:
            named.append(task)

    def use(self, sample: Sample) -> None:
        """Count a sample."""
        self.parts[part_of(sample.task)] += 1
        self.present.update(sample.masks.keys())
        self.absent.update(label for label in sample.labels if label not in sample.masks)

    def take_back(self, sample: Sample, reason: str) -> None:
        """Leave out a sample that was counted as used."""
        self.parts[part_of(sample.task)] -= 1
        self.present.subtract(sample.masks.keys())
        self.absent.subtract(label for label in sample.labels if label not in sample.masks)
        self.leave_out(sample.task, reason)

    def to_json(self) -> dict[str, Any]:
        """Everything, for a version's card."""
        return {
            "images": dict(self.parts),
            "regions": dict(self.regions),
            "present": dict(self.present),
            "absent": dict(self.absent),
            "merged": self.merged,
            "ground_truth": self.ground_truth,
            "left_out": {
                reason: {"count": count, "tasks": self.examples.get(reason, [])}
                for reason, count in self.left_out.items()
            },
        }

    def __str__(self) -> str:
        """Tables for people."""
        images = ", ".join(f"{self.parts[part]} {part}" for part in Part)
        lines = [f"{self.parts.total()} images ({images})"]
        if self.merged:
            lines[0] += f"; {self.merged} merged from several annotators"
        labels = sorted({*self.present, *self.absent})
        rows = [[label, "", str(self.present[label]), str(self.absent[label])] for label in labels]
        if rows:
            lines.append(table(["label", "", "present", "absent"], rows))
        if self.left_out:
            told = [
                [str(count), reason, ", ".join(map(str, self.examples.get(reason, [])))]
                for reason, count in self.left_out.most_common()
            ]
            lines.append(table(["left out", "because", "such as task"], told))
        return "\n\n".join(lines)


class Images(Protocol):
    """Where a task's images come from."""

    def fetch(self, url: str) -> TaskImage:
        """The image at a URL; raises BackendError."""


def _unknown(_: int, __: Json) -> None:
    """What annotations began with, if nobody can be asked."""


def samples(
    tasks: Iterable[Json],
    config: LabelConfig,
    images: Images,
    account: Account,
    parts: Collection[Part] = tuple(Part),
    began_with: Callable[[int, Json], Json | None] = _unknown,
) -> Iterator[Sample]:
    """The samples of tasks with `id`, `data` and `annotations`, one at a time.

    Args:
        tasks: As Label Studio's API has them.
        config: The labels to look for.
        images: Fetches the tasks' images.
        account: Is told what was used and what was not.
        parts: Other tasks are passed over, and of the held-out ones by themselves all but `JUDGES`.
        began_with: Gives the prediction that a task's annotation began with.
    """
    for raw in of_parts(tasks, parts, lambda raw: int(raw["id"])):
        task = int(raw["id"])
        counted = _counted(raw.get("annotations") or (), task, account)
        if not counted:
            continue
        shown = views(config)
        for view in shown:
            url = ""
            try:
                content = Task.from_json(raw)
                if view.key not in image_keys(content, (one.key for one in shown)):
                    continue
                url = image_url(content, view.key)
                image = images.fetch(url)
            except BackendError as error:
                reason = f"the image cannot be had ({error.name})"
                if reason not in account.left_out:
                    log.warning("the image of task %d cannot be had: %s", task, error)
                account.leave_out(task, reason)
                if url:  # or there will never be one
                    account.unseen.add(task)
                continue
            size = image.image.height, image.image.width
            masks, unclear = _merged(counted, view, size, task, account)
            labels = tuple(label for label in view.labels if label not in unclear)
            typed, offered = _typed(counted, config)
            sample = Sample(task, view.key, image, labels, masks, typed=typed, suggested=offered)
            sample = replace(sample, corrected=_corrected(counted, began_with, view, sample))
            account.use(sample)
            yield sample


def digest(samples_digests: Iterable[str]) -> str:
    """One name for a set of samples, whatever their order."""
    return hashlib.sha256("\n".join(sorted(samples_digests)).encode()).hexdigest()


def _counted(annotations: Sequence[Json], task: int, account: Account) -> list[Json]:
    """The annotations of a task that count."""
    finished = []
    for annotation in annotations:
        if annotation.get("was_cancelled"):
            account.leave_out(task, "the annotation is a skip")
        elif not isinstance(annotation.get("result"), list | None):
            account.leave_out(task, "the annotation is no list of regions")
        else:
            finished.append(annotation)
    true = [annotation for annotation in finished if annotation.get("ground_truth")]
    if true:
        account.ground_truth += 1
        for _ in range(len(finished) - len(true)):
            account.leave_out(task, "the task has a ground truth beside it")
    newest: dict[str, Json] = {}
    for annotation in sorted(true or finished, key=_saved):
        if newest.pop(_annotator(annotation), None) is not None:
            account.leave_out(task, "its annotator made a newer one")
        newest[_annotator(annotation)] = annotation
    return list(newest.values())


def _typed(
    annotations: Sequence[Json], config: LabelConfig
) -> tuple[tuple[str, ...], frozenset[str]]:
    """What was typed in them, each phrase once, and what of it was offered."""
    results = [one.get("result") for one in annotations]
    said = [phrase for result in results for phrase in phrases(result, config)]
    offered = {phrase for result in results for phrase in suggested(result, config)}
    return tuple(dict.fromkeys(said)), frozenset(offered.intersection(said))


def _saved(annotation: Json) -> tuple[datetime, str]:
    """When it was saved, to order by."""
    told = str(annotation.get("updated_at"))
    return moment(told), told


def _annotator(annotation: Json) -> str:
    """Who made it, in a word: by an id, or of an export an object with one."""
    by = annotation.get("completed_by")
    known = by.get("id") if isinstance(by, Mapping) else by
    return f"of annotation {annotation.get('id')}" if known is None else str(known)


def _merged(
    annotations: Sequence[Json], view: View, size: Size, task: int, account: Account
) -> tuple[dict[str, Mask], set[str]]:
    """The pixels of each label that more than half of the annotations give it, and labels unclear.

    A label is unclear where a region of it could not be read, and where they agree neither on a
    pixel of it nor that there is none.
    """
    votes: dict[str, NDArray[np.unsignedinteger]] = {}
    counter = np.min_scalar_type(2 * len(annotations))  # a byte, of fewer than 128
    unclear: set[str] = set()
    drew: Counter[str] = Counter()  # annotators, by label
    for annotation in annotations:
        found = drawn(regions(annotation), view, size)
        account.regions.update(found.forms)
        for reason in found.left_out:
            account.leave_out(task, reason)
        unclear |= found.unclear
        drew.update(found.masks.keys())
        for label, mask in found.masks.items():
            ballot = mask.astype(counter)
            votes[label] = votes[label] + ballot if label in votes else ballot
    account.merged += len(annotations) > 1
    masks: dict[str, Mask] = {}
    for label in [label for label in view.labels if label in votes and label not in unclear]:
        agreed = 2 * votes[label] > len(annotations)
        if agreed.any():
            masks[label] = agreed
        elif 2 * drew[label] >= len(annotations):
            account.leave_out(task, DISAGREED)
            unclear.add(label)
    return masks, unclear


def _corrected(
    annotations: Sequence[Json],
    began_with: Callable[[int, Json], Json | None],
    view: View,
    sample: Sample,
) -> dict[str, Mask]:
    """The pixels of each label that are not as predicted, where it is known what that was."""
    for annotation in reversed(annotations):
        prediction = began_with(sample.task, annotation)
        if prediction is None:
            continue
        predicted = drawn(regions(prediction), view, sample.size)
        changed = {
            label: predicted.masks.get(label, np.zeros(sample.size, bool)) ^ sample.mask(label)
            for label in sample.labels
            if label not in predicted.unclear
        }
        return {label: mask for label, mask in changed.items() if mask.any()}
    return {}
