"""Every recorded request of Label Studio 1.23, replayed as it came, gets an answer it can use."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis.exceptions import ConnectionError
from werkzeug.test import TestResponse

from backend.queue import WorkerPulse
from backend.settings import Settings
from backend.web import app as module

RECORDED = {path.stem: path for path in (Path(__file__).parents[2] / "recorded").glob("*.json")}
CREDENTIALS = ("ls", "s3cret")
PULSE = WorkerPulse("w", "h", 1, "clipseg", "demo", "d" * 64, "cpu")


class Broker:
    """Queue and connection in one: finds nothing in every image, keeps events."""

    def __init__(self) -> None:
        self.connection = self
        self.events: list[Any] = []

    def submit(self, payloads: list[Any], **_: Any) -> list[Any]:
        json.dumps(payloads)  # or they could not be queued
        return payloads

    def wait(self, jobs: list[Any], *_: Any) -> list[Any]:
        nothing = {"regions": [], "score": 0.5, "model_version": "v", "remark": "nothing found"}
        return [nothing for _ in jobs]

    def finish(self, jobs: list[Any]) -> None:
        """Nothing is kept."""

    def workers(self) -> list[WorkerPulse]:
        return [PULSE]

    def warnings(self) -> list[str]:
        return []

    def serving(self) -> WorkerPulse:
        return PULSE

    def hincrby(self, *_: Any) -> None:
        """The counter of requests."""

    def get(self, key: str) -> None:
        """Nothing was typed lately."""

    def set(self, key: str, value: str, ex: int) -> None:
        """Nor is it kept."""

    def eval(self, script: str, keys: int, *arguments: Any) -> int:
        self.events.append(arguments[-1])
        return 3


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(module, "PredictionQueue", lambda connection: connection)
    return Broker()


@pytest.fixture
def client(broker: Broker) -> FlaskClient:
    user, password = CREDENTIALS
    settings = Settings(basic_auth_user=user, basic_auth_pass=password)
    return module.create_app(settings, broker).test_client()  # type: ignore[arg-type]


def replay(client: FlaskClient, name: str) -> TestResponse:
    """Send a recorded request, with right credentials where it had any."""
    raw = json.loads(RECORDED[name].read_text())
    headers = {
        key: value
        for key, value in raw["headers"].items()
        if key not in {"Host", "Content-Length", "Authorization"}
    }
    return client.open(
        raw["path"],
        method=raw["method"],
        headers=headers,
        data=json.dumps(raw["json"]) if raw["method"] == "POST" else None,
        auth=CREDENTIALS if "Authorization" in raw["headers"] else None,
        buffered=True,  # so that what follows an answer has been done too
    )


def told(answer: TestResponse) -> dict[str, Any]:
    assert answer.status_code == 200
    content = answer.get_json()
    assert isinstance(content, dict)
    return content


def body_of(name: str) -> dict[str, Any]:
    raw = json.loads(RECORDED[name].read_text())["json"]
    assert isinstance(raw, dict)
    return raw


def names(start: str) -> list[str]:
    found = sorted(name for name in RECORDED if name.startswith(start))
    assert found
    return found


def test_every_recording_is_replayed_below() -> None:
    starts = ("health", "setup", "versions", "predict-", "webhook-")
    assert all(name.startswith(starts) for name in RECORDED)


def test_health_is_up(client: FlaskClient) -> None:
    assert told(replay(client, "health"))["status"] == "UP"


@pytest.mark.parametrize("name", names("setup"))
def test_setup_names_a_version(client: FlaskClient, name: str) -> None:
    assert isinstance(told(replay(client, name))["model_version"], str)


def test_versions_are_names(client: FlaskClient) -> None:
    assert told(replay(client, "versions")) == {"versions": ["clipseg-dddddddd"]}


@pytest.mark.parametrize("name", [*names("predict-batch"), "predict-on-task-open"])
def test_a_batch_gets_one_prediction_per_task(client: FlaskClient, name: str) -> None:
    results = told(replay(client, name))["results"]
    assert len(results) == len(body_of(name)["tasks"])
    for entry in results:
        assert entry == {"result": [], "score": 0.5, "model_version": "v"}


@pytest.mark.parametrize("name", names("predict-interactive"))
def test_an_annotator_gets_one_object(client: FlaskClient, name: str) -> None:
    (entry,) = told(replay(client, name))["results"]
    assert isinstance(entry["result"], list)


@pytest.mark.parametrize(
    ("name", "kind", "tasks", "annotations"),
    [
        ("ANNOTATION_CREATED-from-editor", "annotated", [1], [1]),
        ("ANNOTATION_UPDATED", "annotated", [1], [1]),
        ("ANNOTATIONS_DELETED", "unannotated", [], [2]),
        ("PROJECT_UPDATED", "project-changed", [], []),
        ("TASKS_CREATED", "tasks-added", [3, 4, 5, 6, 7, 8], []),
    ],
)
def test_an_event_is_understood_and_kept_without_what_is_secret(
    client: FlaskClient,
    broker: Broker,
    caplog: pytest.LogCaptureFixture,
    name: str,
    kind: str,
    tasks: list[int],
    annotations: list[int],
) -> None:
    caplog.set_level("DEBUG")
    assert replay(client, f"webhook-{name}").status_code == 201
    kept = zlib.decompress(*broker.events).decode()
    event = json.loads(kept)
    assert (event["kind"], event["project"]) == (kind, 1)
    assert (event["tasks"], event["annotations"]) == (tasks, annotations)
    project = body_of(f"webhook-{name}")["project"]
    assert "PROJECT_TOKEN" in project["token"]
    assert project["token"] not in kept + caplog.text


def test_start_training_asks_for_a_run_and_names_it(client: FlaskClient, broker: Broker) -> None:
    answer = replay(client, "webhook-START_TRAINING")
    assert answer.status_code == 201
    assert answer.get_json()["job"] == "train-1-3"
    assert broker.events == ["1"]  # the project


def test_a_training_may_be_asked_for_and_stopped_by_hand(
    client: FlaskClient, broker: Broker
) -> None:
    asked = client.post("/train", json={"project": "4.1795"}, auth=CREDENTIALS)
    assert asked.status_code == 202
    assert asked.get_json() == {"job": "train-4-3", "project": 4}
    stopped = client.delete("/train?project=4", auth=CREDENTIALS)
    assert stopped.get_json() == {"project": 4, "stopped": True}
    bodies: list[Any] = [{}, [], {"project": "cats"}, {"project": -4}, {"project": 0}]
    for body in bodies:
        assert client.post("/train", json=body, auth=CREDENTIALS).status_code == 400
    assert client.delete("/train", auth=CREDENTIALS).status_code == 400
    assert client.post("/train", json={"project": 4}).status_code == 401


def test_a_webhook_without_credentials_is_refused_where_they_are_asked_for(
    client: FlaskClient, broker: Broker
) -> None:
    answer = replay(client, "webhook-ANNOTATION_CREATED-no-credentials")
    assert answer.status_code == 401
    assert "webhook" in answer.get_data(as_text=True)
    assert broker.events == []


def test_an_event_is_acknowledged_though_the_broker_is_away(
    client: FlaskClient, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(broker, "eval", away)
    assert replay(client, "webhook-ANNOTATION_UPDATED").status_code == 201


def test_an_event_that_nests_too_deep_to_be_kept_is_told_in_the_log(
    client: FlaskClient, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    told = body_of("webhook-ANNOTATION_UPDATED")
    told["annotation"]["result"][0]["value"] = {"deep": deep}
    answer = client.post("/webhook", json=told, auth=CREDENTIALS)
    answer.close()
    assert (answer.status_code, broker.events) == (201, [])
    assert "event ANNOTATION_UPDATED is left out: what it holds nests too deep" in caplog.text


def test_every_recorded_event_is_among_those_above() -> None:
    assert len(names("webhook-")) == 7
