"""What Label Studio's webhooks tell, as small records.

A webhook's body holds the whole project, its token included, and whole annotations, which can be
megabytes. What is kept is what learning needs without asking Label Studio again: which tasks and
annotations it is about, the tasks' data, the annotations' regions, with masks as base64 as
everywhere between our processes, and the labeling configuration that they were drawn under.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from backend.errors import BadRequest
from backend.labelstudio.annotations import lead_time, regions
from backend.labelstudio.tasks import LAST_ID, project_id

Region = dict[str, Any]


class Kind(StrEnum):
    """What an event means for learning."""

    ANNOTATED = "annotated"
    UNANNOTATED = "unannotated"
    TRAIN = "train"
    PROJECT_CHANGED = "project-changed"
    TASKS_ADDED = "tasks-added"
    TASKS_REMOVED = "tasks-removed"
    OTHER = "other"


# Label Studio never sends ANNOTATION_DELETED, whatever its SDK listens for.
KINDS = {
    "ANNOTATION_CREATED": Kind.ANNOTATED,
    "ANNOTATION_UPDATED": Kind.ANNOTATED,
    "ANNOTATIONS_CREATED": Kind.ANNOTATED,
    "ANNOTATIONS_DELETED": Kind.UNANNOTATED,
    "START_TRAINING": Kind.TRAIN,
    "PROJECT_UPDATED": Kind.PROJECT_CHANGED,
    "TASKS_CREATED": Kind.TASKS_ADDED,
    "TASKS_DELETED": Kind.TASKS_REMOVED,
}


@dataclass(frozen=True, slots=True)
class Annotated:
    """One annotation as it was saved; the names with a default are Label Studio's."""

    annotation: int
    task: int
    data: Mapping[str, Any]
    result: tuple[Region, ...]
    cancelled: bool
    ground_truth: bool = False
    completed_by: int | None = None  # the annotator
    updated_at: str = ""  # ISO 8601; "" is not known
    lead_time: float | None = None  # seconds that it took
    parent_prediction: int | None = None  # what it began with

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self.result


@dataclass(frozen=True, slots=True)
class Event:
    """A webhook's body, understood.

    `tasks` and `annotations` are ids; a deleted annotation's task is not told. `saved` holds what
    was annotated.
    """

    kind: Kind
    action: str
    project: int | None
    tasks: tuple[int, ...] = ()
    annotations: tuple[int, ...] = ()
    saved: tuple[Annotated, ...] = ()
    label_config: str | None = None
    project_created_at: str = ""  # ISO 8601, as all times; "" is not known
    project_updated_at: str = ""  # of the configuration too

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Read a body; what is not understood in it is left out.

        Raises:
            BadRequest: it is not an object with the name of an action, or of a project beyond all
                ids.
        """
        body = raw if isinstance(raw, Mapping) else {}
        action = body.get("action")
        if not isinstance(action, str):
            raise BadRequest('The body needs "action", the name of the event.')
        kind = KINDS.get(action, Kind.OTHER)
        saved = _saved(body) if kind is Kind.ANNOTATED else ()
        project = body.get("project")
        known = project if isinstance(project, Mapping) else {}
        return cls(
            kind=kind,
            action=action[:100],
            project=_project(body),
            tasks=_ids(body.get("tasks")) or tuple(dict.fromkeys(one.task for one in saved)),
            annotations=_ids(body.get("annotations")) or tuple(one.annotation for one in saved),
            saved=saved,
            label_config=_text(known.get("label_config")) or None,
            project_created_at=_text(known.get("created_at")),
            project_updated_at=_text(known.get("updated_at")),
        )


def _saved(body: Mapping[str, Any]) -> tuple[Annotated, ...]:
    """The annotations of a body: one with its task, or, of an import, a list of each."""
    data = {task["id"]: task["data"] for task in _objects(body.get("task")) if _is_task(task)}
    return tuple(
        Annotated(
            annotation=number,
            task=task,
            data=data.get(task, {}),
            result=tuple(packed(region) for region in regions(one)),
            cancelled=bool(one.get("was_cancelled")),
            ground_truth=bool(one.get("ground_truth")),
            completed_by=_id(one.get("completed_by")),
            updated_at=_text(one.get("updated_at")),
            lead_time=lead_time(one),
            parent_prediction=_id(one.get("parent_prediction")),
        )
        for one in _objects(body.get("annotation"))
        # what is no list of regions does not say either that there are none
        if isinstance(one.get("result"), list | None)
        and (number := _id(one.get("id")))
        and (task := _id(one.get("task")))
    )


def _is_task(raw: Mapping[str, Any]) -> bool:
    return bool(_id(raw.get("id"))) and isinstance(raw.get("data"), Mapping)


def moment(told: str) -> datetime:
    """A time as Label Studio writes it; what is none is older than any."""
    try:
        found = datetime.fromisoformat(told)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def packed(region: Mapping[str, Any]) -> Region:
    """A region with its RLE, a list of bytes, as base64."""
    value = region.get("value")
    if not isinstance(value, Mapping) or not isinstance(value.get("rle"), list):
        return dict(region)
    try:
        rle = b64encode(bytes(value["rle"])).decode()
    except (TypeError, ValueError):  # no bytes in it: whoever learns from it will say so
        return dict(region)
    return {**region, "value": {**value, "rle": rle}}


def _project(body: Mapping[str, Any]) -> int | None:
    project = body.get("project")
    return project_id(project.get("id") if isinstance(project, Mapping) else project)


def _text(raw: object) -> str:
    return raw if isinstance(raw, str) else ""


def _id(raw: object) -> int | None:
    """A number that a row of Label Studio's database can have."""
    if isinstance(raw, bool) or not isinstance(raw, int):
        return None
    return raw if 0 < raw <= LAST_ID else None


def _objects(raw: object) -> list[Mapping[str, Any]]:
    rows = raw if isinstance(raw, list) else [raw]
    return [row for row in rows if isinstance(row, Mapping)]


def _ids(raw: object) -> tuple[int, ...]:
    """Ids, given as such or as objects that have them."""
    rows = raw if isinstance(raw, list) else []
    found = (row.get("id") if isinstance(row, Mapping) else row for row in rows)
    return tuple(number for one in found if (number := _id(one)))
