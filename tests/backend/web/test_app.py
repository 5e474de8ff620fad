"""The application on recorded requests, with a queue that answers at once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from redis.exceptions import ConnectionError as BrokerDown
from werkzeug.test import TestResponse

from backend.errors import BackendError
from backend.labelstudio import brush
from backend.labelstudio.regions import brush_value
from backend.queue import PredictionQueue, WorkerPulse
from backend.settings import Settings
from backend.web import app as module

RECORDED = Path(__file__).parents[2] / "recorded"
MASK = np.eye(12, dtype=bool)
PULSE = WorkerPulse("w", "h", 1, "clipseg", "demo", "d" * 64, "cpu")


class InstantQueue:
    """Every job is answered with one region for the first label that can have one."""

    def __init__(self) -> None:
        self.submitted: list[tuple[list[dict[str, Any]], bool]] = []
        self.groups: list[str | None] = []
        self.finished = 0
        self.reported: list[BackendError] = []
        self.answer: dict[str, Any] | None = {
            "regions": [
                {
                    "control": "brush",
                    "label": "cat",
                    "width": 12,
                    "height": 12,
                    "score": 0.8,
                    "value": brush_value(MASK),
                }
            ],
            "score": 0.8,
            "model_version": "clipseg-1-2",
        }
        self.connection = self

    def submit(
        self, payloads: list[dict[str, Any]], *, urgent: bool, group: str | None = None, **_: Any
    ) -> list[Any]:
        self.submitted.append((payloads, urgent))
        self.groups.append(group)
        return payloads

    def wait(self, jobs: list[Any], *_: Any) -> list[Any]:
        return [self.answer for _ in jobs]

    def finish(self, jobs: list[Any]) -> None:
        self.finished += 1

    def report(self, project: object, task: object, error: BackendError) -> None:
        self.reported.append(error)

    def workers(self) -> list[WorkerPulse]:
        return [PULSE]

    def serving(self) -> WorkerPulse:
        return PULSE

    def hincrby(self, *_: Any) -> None:
        """The counter of requests."""


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InstantQueue:
    queue = InstantQueue()
    monkeypatch.setattr(module, "PredictionQueue", lambda connection: connection)
    return queue


@pytest.fixture
def client(queue: InstantQueue) -> FlaskClient:
    return module.create_app(Settings(), queue).test_client()  # type: ignore[arg-type]


def body(response: TestResponse) -> dict[str, Any]:
    answer = response.get_json()
    assert isinstance(answer, dict)
    return answer


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())["json"]


def test_a_recorded_setup_is_answered_with_a_version(client: FlaskClient) -> None:
    answer = client.post("/setup", json=recorded("setup"))
    assert body(answer)["model_version"].startswith("clipseg-dddddddd-")


def test_a_recorded_batch_gets_one_prediction_per_task(
    client: FlaskClient, queue: InstantQueue
) -> None:
    results = body(client.post("/predict", json=recorded("predict-batch-two-tasks")))["results"]
    assert len(results) == 2
    region = results[0]["result"][0]
    assert (brush.decode(region["value"]["rle"], 12, 12) == 255 * MASK).all()
    ((payloads, interactive),) = queue.submitted
    assert not interactive
    assert [payload["task"]["id"] for payload in payloads] == [1, 2]
    assert not any("annotations" in payload["task"] for payload in payloads)
    ids = {entry["result"][0]["id"] for entry in results}
    assert len(ids) == 2


@pytest.mark.parametrize(
    "name", ["predict-interactive-textarea", "predict-interactive-textarea-with-other-controls"]
)
def test_a_recorded_prompt_is_interactive(
    client: FlaskClient, queue: InstantQueue, name: str
) -> None:
    (entry,) = body(client.post("/predict", json=recorded(name)))["results"]
    assert entry["result"]
    ((payloads, interactive),) = queue.submitted
    assert interactive
    assert payloads[0]["prompt"]


def test_a_recorded_keypoint_gets_an_object_without_asking_the_queue(
    client: FlaskClient, queue: InstantQueue
) -> None:
    answer = client.post("/predict", json=recorded("predict-interactive-keypoint-1"))
    assert body(answer)["results"] == [{"result": [], "score": 0.0}]
    assert queue.submitted == [([], True)]


@pytest.mark.parametrize(
    "name", ["webhook-START_TRAINING", "webhook-ANNOTATION_CREATED-from-editor"]
)
def test_recorded_events_are_acknowledged(client: FlaskClient, name: str) -> None:
    assert client.post("/webhook", json=recorded(name)).status_code == 201


def test_a_failed_task_is_an_empty_list_in_a_batch(
    client: FlaskClient, queue: InstantQueue
) -> None:
    queue.answer = {"error": "ImageMissing", "detail": "gone"}
    request = recorded("predict-batch-two-tasks")
    assert body(client.post("/predict", json=request))["results"] == [[], []]
    assert queue.reported == []  # the worker told of it


def test_what_is_late_is_left_out_and_told(client: FlaskClient, queue: InstantQueue) -> None:
    queue.answer = None
    request = recorded("predict-batch-two-tasks")
    assert body(client.post("/predict", json=request))["results"] == [[], []]
    assert [error.name for error in queue.reported] == ["DeadlineExceeded"] * 2


PUSHING = Settings(label_studio_url="http://studio:8080", label_studio_api_key="0" * 40)


def test_with_a_way_into_label_studio_late_tasks_go_on(queue: InstantQueue) -> None:
    client = module.create_app(PUSHING, queue).test_client()  # type: ignore[arg-type]
    queue.answer = None
    request = recorded("predict-batch-two-tasks")
    assert body(client.post("/predict", json=request))["results"] == [[], []]
    assert queue.reported == []
    version = body(client.post("/setup", json=recorded("setup")))["model_version"]
    (group,) = queue.groups
    assert group is not None
    assert group.startswith("1:clipseg-dddddddd-")
    assert version.rpartition("-")[0] == group.removeprefix("1:").rpartition("-")[0]


def test_interactive_requests_never_leave_anything_to_be_pushed(queue: InstantQueue) -> None:
    client = module.create_app(PUSHING, queue).test_client()  # type: ignore[arg-type]
    client.post("/predict", json=recorded("predict-interactive-textarea"))
    assert queue.groups == [None]


def test_answers_are_let_go_only_after_they_were_sent(
    client: FlaskClient, queue: InstantQueue
) -> None:
    response = client.post("/predict", json=recorded("predict-batch-two-tasks"), buffered=False)
    assert queue.finished == 0
    response.close()
    assert queue.finished == 1


def test_a_task_that_somebody_opens_goes_first(client: FlaskClient, queue: InstantQueue) -> None:
    client.post("/predict", json=recorded("predict-on-task-open"))
    client.post("/predict", json=recorded("predict-batch-two-tasks"))
    assert [urgent for _, urgent in queue.submitted] == [True, False]


def test_nothing_found_is_saved_as_such(client: FlaskClient, queue: InstantQueue) -> None:
    queue.answer = {"regions": [], "score": 0.9, "model_version": "v"}
    request = recorded("predict-batch-two-tasks")
    (first, _) = body(client.post("/predict", json=request))["results"]
    assert first == {"result": [], "score": 0.9, "model_version": "v"}


def test_a_broker_that_is_down_is_told_and_health_still_answers(
    client: FlaskClient, queue: InstantQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise BrokerDown("refused")

    monkeypatch.setattr(queue, "workers", down)
    monkeypatch.setattr(queue, "serving", down)
    health = client.get("/health")
    assert health.status_code == 200
    assert (body(health)["status"], body(health)["broker"]) == ("UP", "DOWN")
    setup = client.post("/setup", json=recorded("setup"))
    assert (setup.status_code, body(setup)["error"]) == (503, "QueueUnavailable")


def test_a_defect_is_a_named_error_without_a_traceback(
    client: FlaskClient, queue: InstantQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("private detail")

    monkeypatch.setattr(queue, "wait", broken)
    answer = client.post("/predict", json=recorded("predict-batch-two-tasks"))
    assert (answer.status_code, body(answer)["error"]) == (500, "InternalError")
    assert "private" not in answer.text


def test_the_demo_checkpoint_is_told_at_health(client: FlaskClient) -> None:
    assert "CIDAS/clipseg-rd64-refined" in body(client.get("/health"))["notice"]


def test_the_instant_queue_has_the_real_ones_methods() -> None:
    shared = {name for name in vars(InstantQueue) if not name.startswith("_")} - {"hincrby"}
    assert shared <= set(vars(PredictionQueue))
