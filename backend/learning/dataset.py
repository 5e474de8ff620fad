"""Samples, an image of an accepted task each, and what a dataset of them was made of.

A task's part, to learn from, to stop by or to judge by, follows from its id alone: what a version
was judged by, no later version learns from. Of many held-out tasks `JUDGES` judge, who are drawn by
their ids as well: an interval from so many is narrow, and judging by more takes long. Tasks may
have equal images, which shows when these are fetched: who learns sees to it that none judges.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from backend.labelstudio.images import TaskImage
from backend.labelstudio.shapes import Mask
from backend.learning.drawn import Size
from backend.report import table

JUDGES = 500  # held-out tasks at most
EXAMPLES = 5  # tasks that are named for a reason

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

    def see(self) -> Self:
        """Itself: its image is here."""
        return self

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


class Marked(Protocol):
    """An image of an accepted task as far as its annotations tell: nobody has fetched it."""

    @property
    def task(self) -> int:
        """The task's id."""

    @property
    def image_key(self) -> str:
        """The field of the task's data."""

    @property
    def typed(self) -> Sequence[str]:
        """Phrases that annotators asked with."""

    @property
    def suggested(self) -> Collection[str]:
        """Those of them that we had offered."""

    @property
    def masks(self) -> Mapping[str, Mask]:
        """(H, W) of the labels that are there, if the image has the size that is told."""

    def see(self) -> Sample | None:
        """Fetch the image; None where it cannot be had, which the account is told."""


def seen(found: Iterable[Marked]) -> Iterator[Sample]:
    """Samples with their images, one at a time; those whose image cannot be had are passed over."""
    return (sample for one in found if (sample := one.see()) is not None)


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
        if not self.parts and not self.left_out:
            return "Nothing is accepted yet: no task has an annotation that was submitted."
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


def digest(samples_digests: Iterable[str]) -> str:
    """One name for a set of samples, whatever their order."""
    return hashlib.sha256("\n".join(sorted(samples_digests)).encode()).hexdigest()
