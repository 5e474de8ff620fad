"""Label Studio's API as scenarios look into it, with calls that promptbrush has no use for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backend.labelstudio.client import Json, LabelStudio


class Client(LabelStudio):
    """What is in Label Studio."""

    def annotations(self, task: int) -> list[Json]:
        """The annotations of a task."""
        return self._list(f"/api/tasks/{task}/annotations")

    def predictions(self, *, task: int | None = None, project: int | None = None) -> list[Json]:
        """The predictions of a task or a project, masks included."""
        query = {"task": task, "project": project}
        return self._list("/api/predictions", {k: v for k, v in query.items() if v is not None})

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add tasks, each an object of its data; gives their ids."""
        path = f"/api/projects/{project}/import?return_task_ids=true"
        answer = self._api.call("POST", path, json=list(tasks))
        return [int(task) for task in answer["task_ids"]]
