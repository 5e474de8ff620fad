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
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

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
from backend.learning.dataset import Account, Marked, Part, Sample, of_parts
from backend.learning.drawn import Size, View, drawn, views

log = logging.getLogger(__name__)

DISAGREED = "annotators agree neither where a label is nor that it is absent"

Json = Mapping[str, Any]


class Images(Protocol):
    """Where a task's images come from."""

    def fetch(self, url: str) -> TaskImage:
        """The image at a URL; raises BackendError."""


def _unknown(_: int, __: Json) -> None:
    """What annotations began with, if nobody can be asked."""


def marked(
    tasks: Iterable[Json],
    config: LabelConfig,
    images: Images,
    account: Account,
    parts: Collection[Part] = tuple(Part),
    began_with: Callable[[int, Json], Json | None] = _unknown,
) -> Iterator[Marked]:
    """The images of tasks with `id`, `data` and `annotations`, one at a time, to be seen or not.

    Args:
        tasks: As Label Studio's API has them.
        config: The labels to look for.
        images: Fetches the tasks' images.
        account: Is told what was used, which is what was seen, and what was not.
        parts: Other tasks are passed over, and of the held-out ones by themselves all but `JUDGES`.
        began_with: Gives the prediction that a task's annotation began with.
    """
    shown = views(config)
    for raw in of_parts(tasks, parts, lambda raw: int(raw["id"])):
        task = int(raw["id"])
        counted = _counted(raw.get("annotations") or (), task, account)
        for view in shown if counted else ():
            try:
                content = Task.from_json(raw)
                if view.key not in image_keys(content, (one.key for one in shown)):
                    continue
                url = image_url(content, view.key)
            except BackendError as error:
                _cannot_be_had(task, error, account)
                continue
            typed, offered = _typed(counted, config)
            fetch = partial(images.fetch, url)
            yield _Annotated(task, view, counted, typed, offered, fetch, account, began_with)


@dataclass(frozen=True, slots=True, eq=False)
class _Annotated:
    """An image of a task as Label Studio's API has it."""

    task: int
    view: View
    annotations: Sequence[Json]  # those that count
    typed: tuple[str, ...]
    suggested: frozenset[str]
    fetch: Callable[[], TaskImage]
    account: Account
    began_with: Callable[[int, Json], Json | None]

    @property
    def image_key(self) -> str:
        return self.view.key

    @property
    def masks(self) -> dict[str, Mask]:
        return _merged(self.annotations, self.view, None, self.task, Account())[0]

    def see(self) -> Sample | None:
        view = self.view
        try:
            image = self.fetch()
        except BackendError as error:
            _cannot_be_had(self.task, error, self.account)
            self.account.unseen.add(self.task)  # without a URL there will never be one
            return None
        size = image.image.height, image.image.width
        masks, unclear = _merged(self.annotations, view, size, self.task, self.account)
        labels = tuple(label for label in view.labels if label not in unclear)
        sample = Sample(
            self.task,
            view.key,
            image,
            labels,
            masks,
            typed=self.typed,
            suggested=self.suggested,
        )
        corrected = _corrected(self.annotations, self.began_with, view, sample)
        sample = replace(sample, corrected=corrected)
        self.account.use(sample)
        return sample


def _cannot_be_had(task: int, error: BackendError, account: Account) -> None:
    reason = f"the image cannot be had ({error.name})"
    if reason not in account.left_out:
        log.warning("the image of task %d cannot be had: %s", task, error)
    account.leave_out(task, reason)


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
    annotations: Sequence[Json], view: View, size: Size | None, task: int, account: Account
) -> tuple[dict[str, Mask], set[str]]:
    """The pixels of each label that more than half of the annotations give it, and labels unclear.

    Where the image was not seen, its size is the one that a mask tells first.

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
            size = size or (mask.shape[0], mask.shape[1])
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
