import json
import math
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadRequest
from backend.labelstudio.events import KINDS, Event, Kind

RECORDED = Path(__file__).parents[2] / "recorded"


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"webhook-{name}.json").read_text())["json"]


def annotation(number: int, task: int, **rest: Any) -> dict[str, Any]:
    return {"id": number, "task": task, "result": [], "was_cancelled": False, **rest}


def test_what_an_annotator_saved_comes_whole_with_its_task() -> None:
    body = recorded("ANNOTATION_CREATED-from-editor")
    (saved,) = Event.from_json(body).saved
    assert saved.task == 1
    assert saved.data == body["task"]["data"]
    assert not saved.cancelled
    assert not saved.empty
    assert [region["id"] for region in saved.result] == [
        r["id"] for r in body["annotation"]["result"]
    ]
    rle = next(r["value"]["rle"] for r in body["annotation"]["result"] if "rle" in r["value"])
    kept = next(r["value"]["rle"] for r in saved.result if "rle" in r["value"])
    assert list(b64decode(kept)) == rle


def test_a_skipped_task_is_cancelled_and_empty() -> None:
    body = {
        "action": "ANNOTATION_CREATED",
        "annotation": annotation(5, 9, was_cancelled=True),
        "task": {"id": 9, "data": {"image": "a"}},
        "project": {"id": 2},
    }
    (saved,) = Event.from_json(body).saved
    assert (saved.cancelled, saved.empty) == (True, True)


def test_an_import_of_annotations_has_lists_under_singular_names() -> None:
    body = {
        "action": "ANNOTATIONS_CREATED",
        "annotation": [annotation(5, 9), annotation(6, 10)],
        "task": [{"id": 10, "data": {"image": "b"}}, {"id": 9, "data": {"image": "a"}}],
        "project": {"id": 2},
    }
    event = Event.from_json(body)
    assert [(one.annotation, one.task, one.data["image"]) for one in event.saved] == [
        (5, 9, "a"),
        (6, 10, "b"),
    ]
    assert (event.tasks, event.annotations) == ((9, 10), (5, 6))


def test_deleted_tasks_are_ids() -> None:
    for tasks in ([{"id": 3}, {"id": 4}], [3, 4]):
        body = {"action": "TASKS_DELETED", "tasks": tasks, "project": {"id": 2}}
        event = Event.from_json(body)
        assert (event.kind, event.tasks) == (Kind.TASKS_REMOVED, (3, 4))


@pytest.mark.parametrize("action", ["ANNOTATION_DELETED", "REVIEW_CREATED", ""])
def test_unknown_events_are_other(action: str) -> None:
    assert Event.from_json({"action": action}).kind is Kind.OTHER


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"action": 7}])
def test_what_is_no_event_is_refused(raw: object) -> None:
    with pytest.raises(BadRequest, match="action"):
        Event.from_json(raw)


@pytest.mark.parametrize("action", KINDS)
@pytest.mark.parametrize(
    "junk", [None, 7, "x", [7, None], {"id": "x"}, {"id": [1], "data": {}}, [{"result": 3}]]
)
def test_junk_inside_an_event_is_left_out(action: str, junk: object) -> None:
    body = {"action": action, "annotation": junk, "task": junk, "tasks": junk, "project": junk}
    assert Event.from_json(body).saved == ()


@pytest.mark.parametrize("number", [True, 0, -5, 10**300, 1.0, "1", [1], None])
def test_what_no_row_of_a_database_has_is_no_id(number: object) -> None:
    one = annotation(1, 2)
    for odd in ({**one, "id": number}, {**one, "task": number}, {**one, "result": 5}):
        body = {"action": "ANNOTATIONS_CREATED", "annotation": [odd, one]}
        assert [saved.annotation for saved in Event.from_json(body).saved] == [1]
    (saved,) = Event.from_json(
        {
            "action": "ANNOTATION_UPDATED",
            "annotation": {**one, "completed_by": number, "parent_prediction": number},
        }
    ).saved
    assert (saved.completed_by, saved.parent_prediction) == (None, None)
    deleted = {"action": "TASKS_DELETED", "tasks": [number, {"id": number}, 3]}
    assert Event.from_json({**deleted, "project": 7}).tasks == (3,)


@pytest.mark.parametrize("told", [math.nan, math.inf, -1, 10**400, True, "9"])
def test_a_time_that_no_clock_tells_is_not_known(told: object) -> None:
    body = {"action": "ANNOTATION_UPDATED", "annotation": annotation(1, 2, lead_time=told)}
    assert Event.from_json(body).saved[0].lead_time is None


def test_a_mask_that_is_no_bytes_is_kept_as_it_came() -> None:
    region = {"id": "a", "value": {"rle": [1, 999]}}
    body = {"action": "ANNOTATION_UPDATED", "annotation": annotation(1, 2, result=[region])}
    assert Event.from_json(body).saved[0].result == (region,)


def test_what_learning_weighs_is_kept_and_the_project_only_by_its_configuration() -> None:
    body = recorded("ANNOTATION_CREATED-from-editor")
    event = Event.from_json(body)
    (saved,) = event.saved
    for name in ("ground_truth", "completed_by", "updated_at", "lead_time", "parent_prediction"):
        assert getattr(saved, name) == body["annotation"][name]
    assert event.label_config == body["project"]["label_config"]
    assert event.project_created_at == body["project"]["created_at"]
    assert event.project_updated_at == body["project"]["updated_at"]
    assert body["project"]["token"] not in str(event)
