"""Accepted work as Label Studio has it, of which nothing is fetched twice.

A pull that was interrupted, in whatever way, goes on where it was, and the next one fetches what is
new. Each pull lists all of a project's submitted tasks with their annotations, but without the
regions, which are nearly all of the bytes. Regions that are kept count while Label Studio tells the
same times of change as when they were fetched: that of their task, which moves with everything that
is saved in it or deleted, and those of all of its annotations. All else is taken from the list.
What an annotation began with is kept until that annotation changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from backend.diskcache import DiskCache
from backend.labelstudio.client import PAGE, LabelStudio
from backend.labelstudio.events import packed

Json = dict[str, Any]


class Pulled:
    """A project's accepted work, from the disk as far as that is certainly what is there now."""

    def __init__(self, api: LabelStudio, kept: DiskCache) -> None:
        self.api = api
        self._kept = kept

    def project(self, project: int) -> Json:
        """A project, its labeling configuration included."""
        return self.api.project(project)

    def annotated_tasks(self, project: int) -> Iterator[Json]:
        """The project's tasks that somebody has submitted, with `annotations`, by id.

        Masks are base64 here, where the API has lists. One page is fetched at a time, its regions
        in smaller ones.
        """
        listed = self.api.annotated_tasks(project, regions=False)
        while page := list(islice(listed, PAGE)):
            whole = {task["id"]: self._whole(task) for task in page}
            lacking = [number for number, task in whole.items() if task is None]
            for task in self.api.annotated_tasks(project, ids=lacking) if lacking else ():
                whole[task["id"]] = self._keep(task)
            # what is still lacking was deleted since it was listed
            yield from (task for task in whole.values() if task is not None)

    def began_with(self, _: int, annotation: Mapping[str, Any]) -> Json | None:
        """The prediction that an annotation began with; None if with none, or it was deleted."""
        number = annotation.get("parent_prediction")
        if not isinstance(number, int):
            return None
        name = self._name("prediction", number, _state(annotation))
        held = self._kept.get(name)
        if held is not None:
            found: Json = json.loads(held)
            return found
        prediction = self.api.prediction(number)
        if prediction is not None:
            prediction["result"] = _packed(prediction.get("result"))
            self._kept.put(name, json.dumps(prediction).encode())
        return prediction

    def _whole(self, task: Json) -> Json | None:
        """A task as listed, with the regions that are kept of it, if they still count."""
        held = self._kept.get(self._name_of(task))
        if held is None:
            return None
        return _with(json.loads(held), task)

    def _keep(self, task: Json) -> Json:
        """A task as fetched, which counts from now on."""
        results = {
            str(annotation["id"]): _packed(annotation.get("result"))
            for annotation in task["annotations"]
        }
        self._kept.put(self._name_of(task), json.dumps(results).encode())
        return _with(results, task)

    def _name_of(self, task: Json) -> str:
        return self._name("task", *_state(task), *sorted(map(_state, task["annotations"])))

    def _name(self, *about: object) -> str:
        return json.dumps([self.api.url, *about])


def _packed(result: object) -> object:
    """Regions with their masks as base64; what is none stays as it is, for who reads it to say."""
    if not isinstance(result, list):
        return result
    return [packed(region) if isinstance(region, Mapping) else region for region in result]


def _with(results: Mapping[str, object], task: Json) -> Json:
    """A task whose annotations have their regions, by their ids."""
    annotations = [
        {**annotation, "result": results[str(annotation["id"])]}
        for annotation in task["annotations"]
    ]
    return {**task, "annotations": annotations}


def _state(row: Mapping[str, Any]) -> tuple[int, str]:
    """What changes whenever a task or an annotation does."""
    return row["id"], row["updated_at"]
