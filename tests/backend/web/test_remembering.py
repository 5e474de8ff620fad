"""What was answered is remembered where Label Studio cannot be asked for it."""

from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from backend.learning.predicted import Predicted
from backend.settings import Settings
from backend.web import app as module
from tests.backend.web.instant import InstantQueue, body, recorded
from tests.backend.web.test_app import PUSHING

TASKS = recorded("predict-batch-two-tasks")


def began_with(task: int, regions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the process that learns finds."""
    return Predicted.of(Settings()).began_with(task, {"result": regions, "parent_prediction": 1})


def test_what_tasks_are_answered_with_is_remembered_after_it_was_sent(
    client: FlaskClient, folder: Path
) -> None:
    response = client.post("/predict", json=TASKS, buffered=False)
    assert not any(folder.iterdir())
    first, second = body(response)["results"]
    response.close()
    for task, entry in ((1, first), (2, second)):
        found = began_with(task, entry["result"])
        assert found is not None
        assert found["model_version"] == entry["model_version"]
        assert [one["id"] for one in found["result"]] == [one["id"] for one in entry["result"]]


def test_what_annotators_ask_and_what_failed_is_not_remembered(
    client: FlaskClient, queue: InstantQueue, folder: Path
) -> None:
    client.post("/predict", json=recorded("predict-interactive-textarea"), buffered=True)
    client.post("/predict", json={**TASKS, "project": None}, buffered=True)
    named = [{**task, "id": "../elsewhere"} for task in TASKS["tasks"]]  # what is no number
    client.post("/predict", json={**TASKS, "tasks": named}, buffered=True)
    queue.answer = {"error": "ImageMissing", "detail": "there is none"}
    client.post("/predict", json=TASKS, buffered=True)
    assert not any(folder.iterdir())


def test_where_label_studio_can_be_asked_nothing_is_remembered(
    queue: InstantQueue, folder: Path
) -> None:
    client = module.create_app(PUSHING, queue).test_client()  # type: ignore[arg-type]
    client.post("/predict", json=TASKS, buffered=True)
    assert not any(folder.iterdir())


def test_a_folder_that_cannot_be_written_costs_no_answer(client: FlaskClient, folder: Path) -> None:
    (folder / "data").write_text("in the way")
    assert len(body(client.post("/predict", json=TASKS))["results"]) == 2
    assert began_with(1, []) is None
