"""Accepted tasks as prompts are measured on: images that are encoded once, exemplars, phrases."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from backend.inference.books import Books, exemplar_id
from backend.inference.masks import shrunk
from backend.inference.predictor import Predictor
from backend.inference.promptbook import FEW
from backend.inference.recolouring import recoloured
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Marked, Part, Sample, part_of
from backend.learning.promotion import LEAST_TASKS
from backend.learning.train import Stage, Told, counted
from backend.learning.typed import Typed, spellings, typed
from backend.overlay import fitted
from backend.prompting import Query
from models import Exemplar, ImageFeatures

SIDE = 176  # pixels of the longer side at which masks are compared
MOST_TASKS = 200  # that are measured on: each costs an image's features in memory
MOST_EXEMPLARS = 12  # of a label; each costs a pass of the vision tower, and one of the decoder
LEAST = 16  # pixels that show something


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

    def in_own_colours(self) -> Shot:
        """The same, and in no others."""
        return replace(self, recoloured=None)


def shown_mean(shots: Sequence[Shot], image: Seen) -> Tensor | None:
    """What is shown on other tasks than an image's: (C,), if there is any."""
    others = [shot.condition for shot in shots if not shot.is_of(image)]
    return torch.stack(others).mean(dim=0) if others else None


def recoloured_mean(shots: Sequence[Shot], image: Seen) -> Tensor | None:
    """The same in other colours, as long as exemplars are few."""
    if len(shots) > FEW:
        return None
    others = [shot.recoloured for shot in shots if not shot.is_of(image)]
    known = [one[1] for one in others if one is not None]
    return torch.stack(known).mean(dim=0) if known and len(known) == len(others) else None


Counts = dict[str, Counter[str]]  # annotations, by label and text


@dataclass(slots=True)
class Evidence:
    """A project's accepted work."""

    seen: list[Seen] = field(default_factory=list)
    shots: dict[str, list[Shot]] = field(default_factory=dict)
    typed: Counts = field(default_factory=lambda: defaultdict(Counter))
    suggested: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Those texts that were offered."""
    unwanted: Counts = field(default_factory=lambda: defaultdict(Counter))
    """What annotators typed that labels are not."""
    held_out: set[int] = field(default_factory=set)  # tasks

    def hear(self, said: Typed) -> None:
        """Count what was typed for an accepted label."""
        if said.text:
            self.typed[said.label][said.text] += 1
            if said.offered:
                self.suggested[said.label].add(said.text)
        self.unwanted[said.label].update(said.unwanted)

    @property
    def judged(self) -> bool:
        """Whether enough tasks are held out to judge by: fewer may teach as well as the others."""
        return len(self.held_out) >= LEAST_TASKS


def gather(
    predictor: Predictor,
    books: Books,
    project: int,
    encoder: str,
    asked: Sequence[Query],
    accepted: Iterable[Marked],
    told: Told = lambda _: None,
) -> Evidence:
    """Accepted work as it can be measured on; what exemplars show is stored.

    Images are fetched of those tasks alone that are measured on, or that show a label: how many
    there are beside them costs what their annotations take.

    What a person left out of the project's book shows nothing, so that others take its place.
    Held-out tasks show nothing, as they are there to judge; but where they are too few for that, or
    a label is accepted nowhere else, they do. An image that several tasks have is measured on once.
    """
    evidence = Evidence()
    entries = books.book(project).entries.values()
    refused = {(entry.label, one.id) for entry in entries for one in entry.exemplars if one.refused}
    spelled = spellings(asked, entries)
    reserve: dict[str, list[Shot]] = {}

    def shown(task: int) -> tuple[dict[str, list[Shot]], int]:
        """Where a task's exemplars go, and how many of a label there can be."""
        if part_of(task) is Part.HELD_OUT:
            return reserve, LEAST_TASKS - 1
        return evidence.shots, MOST_EXEMPLARS

    def lacking(marked: Marked) -> bool:
        shots, most = shown(marked.task)
        return any(len(shots.get(label, ())) < most for label in marked.masks)

    def look(marked: Marked) -> Seen | None:
        sample = marked.see()
        if sample is None:
            return None
        shots, most = shown(sample.task)
        for label, mask in sample.masks.items():
            held = shots.setdefault(label, [])
            if len(held) < most:
                also = len(held) < FEW
                found = _shots(predictor, books, project, encoder, sample, mask, also)
                held += [shot for shot in found if (label, shot.id) not in refused]
        return _seen(sample, predictor)

    # the first in the lot, seen or not, and as many again in place of those that cannot be had
    first: list[Seen | Marked] = []
    for marked in accepted:
        for said in typed(marked, asked, spelled, predictor):
            evidence.hear(said)
        place = bisect_right(first, _rank(marked.task), key=lambda one: _rank(one.task))
        # an exemplar stays though others come before its task in the lot
        now = place < MOST_TASKS and lacking(marked)
        one = look(marked) if now else marked
        if one is not None:
            first.insert(place, one)
            del first[2 * MOST_TASKS :]
            if len(first) > MOST_TASKS and isinstance(first[MOST_TASKS], Seen):
                del first[MOST_TASKS]  # whose features take memory
    seen = (one if isinstance(one, Seen) else look(one) for one in first)
    had = islice((one for one in seen if one is not None), MOST_TASKS)
    evidence.seen = _once(counted(had, Stage.MEASURING, told))
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
    size = fitted(sample.size, SIDE)
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
