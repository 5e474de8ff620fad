"""The whole road with real processes: HTTP, queue, worker, model, and back."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import requests

from backend.labelstudio import brush
from backend.labelstudio.images import open_image
from backend.queue import QUEUE, connect, queue_of
from models import Segmenter
from tests.live.conftest import LABEL_CONFIG, ImageHost, Up, data_uri, png

pytestmark = pytest.mark.live


def test_a_prediction_is_what_label_studio_expects(up: Up) -> None:
    answer = up.predict([data_uri(1), data_uri(2, 30, 90)])
    assert answer.status_code == 200
    first, second = answer.json()["results"]
    assert {r["value"]["brushlabels"][0] for r in first["result"]} == {"Red circle", "dog"}
    region = second["result"][0]
    assert (region["from_name"], region["to_name"]) == ("brush", "image")
    assert (region["type"], region["value"]["format"]) == ("brushlabels", "rle")
    assert (region["original_width"], region["original_height"]) == (30, 90)
    mask = brush.decode(region["value"]["rle"], 90, 30)
    assert set(np.unique(mask)) <= {0, 255}
    assert mask.any()
    assert 0 <= region["score"] <= 1
    assert 0 <= second["score"] <= 1


def test_links_of_the_page_hold_below_a_path_that_a_proxy_names(up: Up) -> None:
    named = {"SCRIPT_NAME": "/masks"}
    page = requests.get(
        f"{up.url}/masks/", headers={**named, "Accept": "text/html"}, timeout=10
    ).text
    links = re.findall(r'(?:href|src|action)="(/[^"#]*)', page)
    assert len(links) > 5
    for link in links:
        assert link.startswith("/masks/")
        assert requests.get(f"{up.url}{link}", headers=named, timeout=10).status_code == 200


def test_setup_names_the_version_that_predictions_carry(up: Up) -> None:
    setup = requests.post(
        f"{up.url}/setup", json={"project": "7.1", "schema": LABEL_CONFIG}, timeout=10
    ).json()
    (entry,) = up.predict([data_uri()]).json()["results"]
    assert setup["model_version"] == entry["model_version"]
    changed = LABEL_CONFIG.replace("puppy", "hound")
    other = requests.post(f"{up.url}/setup", json={"schema": changed}, timeout=10).json()
    assert other["model_version"] != setup["model_version"]


def test_the_masks_are_the_models_own(up: Up, segmenter: Segmenter) -> None:
    (entry,) = up.predict([data_uri(5)]).json()["results"]
    features = segmenter.encode_image(open_image(png(5), "five", 10**6))
    condition = segmenter.encode_text(["a dog", "puppy"]).mean(dim=0)
    (probabilities,) = segmenter.segment(features, condition)
    region = next(r for r in entry["result"] if r["value"]["brushlabels"] == ["dog"])
    served = brush.decode(region["value"]["rle"], 48, 64) == 255
    assert (served == (probabilities[0] >= 0.01).numpy()).mean() > 0.99


def test_a_bad_task_costs_the_others_nothing_and_its_reason_is_told(
    up: Up, image_host: ImageHost
) -> None:
    urls = [
        data_uri(1),
        "/etc/passwd",
        "data:image/png;base64,bm8gaW1hZ2U=",
        "http://10.0.0.1/private.png",
        f"{image_host.url}/fine.png",
    ]
    body = {
        "tasks": [{"id": i, "data": {"image": url}} for i, url in enumerate(urls)]
        + [{"id": 90}, "nonsense", {"id": 91, "data": {"text": "no image"}}],
        "project": "77.1",
        "label_config": LABEL_CONFIG,
    }
    results = requests.post(f"{up.url}/predict", json=body, timeout=60).json()["results"]
    assert [bool(entry) for entry in results] == [True, False, False, False, True] + [False] * 3
    assert all(entry == [] for entry in results if not entry)
    ended = [job for job in up.get("/jobs")["ended"] if job["project"] == 77]
    reasons = {job["task"]: job["error"] for job in ended if job["outcome"] == "failed"}
    assert reasons[1] == "ImageRefused"
    assert reasons[2] == "ImageUnreadable"
    assert reasons[3] == "ImageRefused"
    assert reasons[91] == "ImageMissing"
    assert list(reasons.values()).count("BadRequest") >= 1


@pytest.mark.parametrize(
    ("path", "body", "status", "name"),
    [
        ("/predict", "{", 400, "BadRequest"),
        ("/predict", "[]", 400, "BadRequest"),
        ("/predict", "{}", 400, "BadRequest"),
        ("/predict", json.dumps({"tasks": []}), 400, "BadRequest"),
        ("/predict", json.dumps({"tasks": [], "label_config": "<View/>"}), 400, "BadLabelConfig"),
        ("/predict", json.dumps({"tasks": [], "label_config": "<Vi"}), 400, "BadLabelConfig"),
        ("/setup", json.dumps({"schema": 7}), 400, "BadRequest"),
        ("/webhook", "null", 400, "BadRequest"),
        ("/nowhere", "{}", 404, "NotFound"),
        ("/health", "{}", 405, "MethodNotAllowed"),
    ],
)
def test_bad_requests_get_a_named_error_as_json(
    up: Up, path: str, body: str, status: int, name: str
) -> None:
    answer = requests.post(up.url + path, data=body, timeout=10)
    assert answer.status_code == status
    assert answer.json()["error"] == name
    assert answer.json()["detail"]
    assert "Traceback" not in answer.text


def test_no_tasks_give_no_results(up: Up) -> None:
    assert up.predict([]).json() == {"results": []}


def test_a_typed_prompt_gives_its_mask_under_the_label_it_names(up: Up) -> None:
    def ask(text: str) -> dict[str, object]:
        region = {"from_name": "prompt", "type": "textarea", "value": {"text": [text]}}
        answer = up.predict([data_uri(3)], params={"context": {"result": [region]}})
        (entry,) = answer.json()["results"]
        assert isinstance(entry, dict)
        return entry

    named = ask("dog: something small and brown")
    assert [r["value"]["brushlabels"] for r in named["result"]] == [["dog"]]  # type: ignore[attr-defined]
    meant = ask("red circle")
    assert [r["value"]["brushlabels"] for r in meant["result"]] == [["Red circle"]]  # type: ignore[attr-defined]


def test_many_tasks_of_one_request_come_back_in_order(up: Up) -> None:
    sizes = [(20 + i, 60 - i) for i in range(25)]
    results = up.predict([data_uri(i, w, h) for i, (w, h) in enumerate(sizes)]).json()["results"]
    seen = [(e["result"][0]["original_width"], e["result"][0]["original_height"]) for e in results]
    assert seen == sizes


def test_metrics_count_tasks_and_requests(up: Up) -> None:
    up.predict([data_uri()])
    text = requests.get(f"{up.url}/metrics", timeout=10).text
    assert 'promptbrush_tasks_total{outcome="done"}' in text
    assert 'promptbrush_requests_total{route="/predict",status="200"}' in text
    assert "promptbrush_workers 1.0" in text


def test_a_job_that_is_not_on_the_list_is_refused(up: Up) -> None:
    marker = up.data_dir / "ran"
    queue = queue_of(connect(broker_url(up)))
    job = queue.enqueue("subprocess.getoutput", f"touch {marker}")
    result = job.latest_result(timeout=20)
    assert result is not None
    assert result.type is result.Type.FAILED
    assert "not on the list" in (result.exc_string or "")
    assert not marker.exists()
    assert up.predict([data_uri()]).json()["results"][0]["result"]


@pytest.mark.parametrize("name", ["success_callback_name", "failure_callback_name"])
def test_a_callback_stored_with_a_job_is_never_called(up: Up, name: str) -> None:
    marker = up.data_dir / name
    queue = queue_of(connect(broker_url(up)))
    job = queue.create_job("predict", args=[{}, "too many"] if "failure" in name else [{}])
    job.save()
    queue.connection.hset(job.key, name, "tests.live.conftest.mark")
    queue.connection.hset(job.key, "description", str(marker))
    queue.push_job_id(job.id)
    up.predict([data_uri()])  # behind it in the queue
    assert not marker.exists()


def test_an_unreadable_job_is_refused_and_the_worker_goes_on(up: Up) -> None:
    connection = connect(broker_url(up))
    queue = queue_of(connection)
    job = queue.create_job("predict", args=[{}])
    job.save()
    connection.hset(job.key, "data", b"\x80\x04not json")
    queue.push_job_id(job.id)
    assert up.predict([data_uri()]).json()["results"][0]["result"]
    assert connection.llen(f"rq:queue:{QUEUE}") == 0


def broker_url(up: Up) -> str:
    """The address that the launcher gave its children."""
    environment = Path(f"/proc/{up.worker()}/environ").read_bytes().decode().split("\0")
    return next(line.partition("=")[2] for line in environment if line.startswith("REDIS_URL="))
