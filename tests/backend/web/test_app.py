"""The application on recorded requests, with a queue that answers at once."""

import io
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis.exceptions import ConnectionError as BrokerDown
from werkzeug.test import TestResponse

from backend.errors import QueueUnavailable
from backend.labelstudio import brush
from backend.queue import PredictionQueue
from backend.settings import Settings
from backend.web import app as module
from tests.backend.web.instant import MASK, InstantQueue, body, recorded


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
    ("name", "asked"),
    [
        ("textarea", "prompt"),
        ("textarea-with-other-controls", "prompt"),
        ("keypoint-1", "points"),
        ("keypoint-3-negative", "points"),
        ("rectangle-2-same-label", "rectangles"),
        ("rectangle-plus-plain", "rectangles"),
    ],
)
def test_what_recorded_annotators_ask_goes_to_the_front_of_the_queue(
    client: FlaskClient, queue: InstantQueue, name: str, asked: str
) -> None:
    request = recorded(f"predict-interactive-{name}")
    (entry,) = body(client.post("/predict", json=request))["results"]
    ((payloads, interactive),) = queue.submitted
    assert interactive
    assert payloads[0]["interaction"][asked]
    assert entry["result"][0]["type"] == "brushlabels"
    notes = [(note["from_name"], note["value"]["text"]) for note in entry["result"][1:]]
    has_note = 'name="note"' in request["label_config"]
    assert notes == ([("note", ["cat: found, score 0.80"])] if has_note else [])


def in_words(response: TestResponse) -> tuple[str, str]:
    """The text area that tells an annotator how it went, and what it tells."""
    assert response.status_code == 200
    (entry,) = body(response)["results"]
    (region,) = entry["result"]
    (text,) = region["value"]["text"]
    return region["from_name"], text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"regions": [], "score": 0.9, "model_version": "v", "remark": "cat: nothing found"},
            "red circle ⚠ cat: nothing found",
        ),
        ({"error": "ImageMissing", "detail": "It is gone."}, "red circle ⚠ It is gone."),
        (None, "red circle ⚠ not ready in time: ask again"),
    ],
)
def test_an_annotator_is_told_what_went_wrong(
    client: FlaskClient, queue: InstantQueue, answer: dict[str, Any] | None, words: str
) -> None:
    queue.answer = answer
    request = recorded("predict-interactive-textarea-with-other-controls")
    assert in_words(client.post("/predict", json=request)) == ("note", words)


@pytest.mark.parametrize("task", [7, None, {"id": 1}])
def test_an_annotator_is_told_of_what_is_no_task(client: FlaskClient, task: object) -> None:
    request = recorded("predict-interactive-textarea-with-other-controls") | {"tasks": [task]}
    name, words = in_words(client.post("/predict", json=request))
    assert name == "note"
    assert "task" in words


def test_an_annotator_is_told_that_the_queue_is_down(
    client: FlaskClient, queue: InstantQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise QueueUnavailable("The queue does not answer.")

    monkeypatch.setattr(queue, "submit", down)
    request = recorded("predict-interactive-keypoint-1")
    told = in_words(client.post("/predict", json=request))
    assert told == ("prompt", "⚠ The queue does not answer.")
    batch = client.post("/predict", json=recorded("predict-batch-two-tasks"))
    assert batch.status_code == 503


def test_an_annotator_is_told_of_a_task_that_cannot_be_read(client: FlaskClient) -> None:
    request = recorded("predict-interactive-keypoint-1")
    del request["tasks"][0]["data"]
    assert "task 1 has no data" in in_words(client.post("/predict", json=request))[1]


def test_a_request_without_anything_to_look_for_gets_an_empty_object(
    client: FlaskClient, queue: InstantQueue
) -> None:
    request = recorded("predict-interactive-textarea")
    request["params"]["context"]["result"][0]["from_name"] = "another"
    answer = client.post("/predict", json=request)
    assert body(answer)["results"] == [{"result": [], "score": 0.0}]
    assert queue.submitted == [([], True)]
    assert queue.reported == []


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


def test_tasks_are_taken_into_the_background(queue: InstantQueue) -> None:
    client = module.create_app(PUSHING, queue).test_client()  # type: ignore[arg-type]
    request = recorded("predict-batch-two-tasks")
    answer = client.post("/prelabel", json=request)
    assert answer.status_code == 202
    (group,) = queue.groups
    assert group == f"1:{body(answer)['model_version']}"
    ((payloads, urgent),) = queue.submitted
    assert [payload["task"]["id"] for payload in payloads] == [1, 2]
    assert not urgent
    asked = {"project": 1, "version": body(answer)["model_version"]}
    assert body(client.get("/prelabel", query_string=asked)) == {"group": group}


@pytest.mark.parametrize(
    ("changes", "settings", "status", "name"),
    [
        ({}, Settings(), 409, "NowhereToPush"),
        ({"project": None}, PUSHING, 400, "BadRequest"),
        ({"tasks": [{"id": 1}]}, PUSHING, 400, "BadRequest"),
        ({"tasks": [{"id": None, "data": {}}]}, PUSHING, 400, "BadRequest"),
        ({"label_config": "<Vi"}, PUSHING, 400, "BadLabelConfig"),
    ],
)
def test_what_cannot_go_into_the_background_is_told(
    queue: InstantQueue, changes: dict[str, Any], settings: Settings, status: int, name: str
) -> None:
    client = module.create_app(settings, queue).test_client()  # type: ignore[arg-type]
    request = {**recorded("predict-batch-two-tasks"), **changes}
    answer = client.post("/prelabel", json=request)
    assert (answer.status_code, body(answer)["error"]) == (status, name)
    for query in ("project=x", "project=1", "version=v"):
        assert client.get(f"/prelabel?{query}").status_code == 400
    assert queue.submitted == []


def test_those_who_wait_never_take_all_threads(
    queue: InstantQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = module.create_app(Settings(threads=5), queue).test_client()  # type: ignore[arg-type]
    batch = recorded("predict-batch-two-tasks")
    refused: list[int] = []

    def wait(jobs: list[Any], *_: Any) -> list[Any]:
        refused.append(client.post("/predict", json=batch).status_code)
        assert client.get("/health").status_code == 200
        return [queue.answer for _ in jobs]

    monkeypatch.setattr(queue, "wait", wait)
    assert client.post("/predict", json=batch).status_code == 200
    assert refused == [503]
    assert client.post("/predict", json=batch).status_code == 200  # the seat is free again


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


@pytest.mark.parametrize("path", ["/predict", "/prelabel", "/setup", "/webhook", "/train"])
def test_a_body_that_nests_too_deep_is_refused(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data="[" * 100_000)
    assert (answer.status_code, body(answer)["error"]) == (400, "BadRequest")
    assert "nests too deep" in body(answer)["detail"]


@pytest.mark.parametrize(
    "path", ["/predict", "/prelabel", "/setup", "/webhook", "/train", "/playground"]
)
@pytest.mark.parametrize(
    "headers",
    [
        *({"Origin": origin} for origin in ("https://a.example", "http://localhost:8080", "null")),
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    ],
)
def test_what_another_sites_page_sends_is_refused(
    client: FlaskClient, path: str, headers: dict[str, str]
) -> None:
    event = '{"action": "START_TRAINING", "project": {"id": 3}}'
    sent = client.post(path, data=event, content_type="text/plain", headers=headers)
    assert (sent.status_code, body(sent)["error"]) == (400, "BadRequest")
    assert "another site" in body(sent)["detail"]
    assert "Host" in body(sent)["detail"]


def test_what_its_own_site_or_a_program_sends_is_taken(client: FlaskClient) -> None:
    behind_a_proxy = {"Sec-Fetch-Site": "same-origin", "Origin": "https://masks.example"}
    for headers in ({}, {"Origin": "http://localhost"}, behind_a_proxy):
        assert client.post("/setup", json=recorded("setup"), headers=headers).status_code == 200


def test_half_a_character_is_taken_for_one_that_was_not_readable(
    client: FlaskClient, queue: InstantQueue
) -> None:
    request = recorded("predict-batch-two-tasks")
    data = {"image": "a\ud800.png", "\ud83d": "\U0001f697"}
    request["tasks"][0] = {"id": "7\udfff", "data": data}
    client.post("/predict", json=request)
    ((payloads, _),) = queue.submitted
    read = {"image": "a\ufffd.png", "\ufffd": "\U0001f697"}
    assert payloads[0]["task"] == {"id": "7\ufffd", "data": read}


def test_what_can_be_read_and_nests_too_deep_to_be_queued_is_refused_too(
    client: FlaskClient, queue: InstantQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deep(*_: Any, **__: Any) -> Any:
        raise RecursionError("maximum recursion depth exceeded while encoding a JSON object")

    monkeypatch.setattr(queue, "submit", deep)
    answer = client.post("/predict", json=recorded("predict-batch-two-tasks"))
    assert (answer.status_code, body(answer)["error"]) == (400, "BadRequest")


def test_the_demo_checkpoint_is_told_at_health(client: FlaskClient) -> None:
    assert "CIDAS/clipseg-rd64-refined" in body(client.get("/health"))["notice"]


def test_an_address_may_end_with_a_slash(client: FlaskClient) -> None:
    assert client.post("/setup/", json=recorded("setup")).status_code == 200


def test_the_instant_queue_has_the_real_ones_methods() -> None:
    connection = {"hincrby", "get", "set"}
    shared = {name for name in vars(InstantQueue) if not name.startswith("_")} - connection
    assert shared <= set(vars(PredictionQueue))


def test_a_body_that_stops_halfway_is_refused(client: FlaskClient) -> None:
    class Stopping(io.BytesIO):
        def readinto(self, buffer: object, /) -> int:
            raise BlockingIOError

    answer = client.post(
        "/predict",
        input_stream=Stopping(bytes(100)),
        environ_overrides={"CONTENT_LENGTH": "100", "wsgi.input_terminated": True},
    )
    assert answer.status_code == 400
    assert answer.get_json()["detail"] == "The body did not come whole."


@pytest.mark.parametrize("path", ["/predict", "/prelabel", "/setup", "/webhook", "/train"])
@pytest.mark.parametrize("length", [{}, {"CONTENT_LENGTH": "", "wsgi.input_terminated": True}])
def test_a_body_beyond_the_limit_is_refused_with_the_setting(
    queue: InstantQueue, path: str, length: dict[str, Any]
) -> None:
    client = module.create_app(Settings(request_max_mb=1), queue).test_client()  # type: ignore[arg-type]
    large = b" " * 2**20 + b"{}"  # valid, and so is no beginning of it
    answer = client.post(path, data=large, environ_overrides=length)
    assert (answer.status_code, body(answer)["error"]) == (413, "RequestTooLarge")
    assert "1 MB (REQUEST_MAX_MB)" in body(answer)["detail"]
