"""Late predictions on their way into Label Studio, with processes that are killed for real."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.live.conftest import LABEL_CONFIG, ImageHost, Up, data_uri, wait_until
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live

TASKS = range(1, 61)


@pytest.fixture
def studio() -> Iterator[Studio]:
    studio = Studio(LABEL_CONFIG, {task: data_uri(task) for task in TASKS})
    server = studio.serve()
    studio.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield studio
    server.shutdown()
    server.server_close()


def connected(studio: Studio, **settings: object) -> dict[str, object]:
    return {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": "0123456789abcdef0123456789abcdef01234567",
        "IMAGE_HOSTS": "127.0.0.1",
        **settings,
    }


def retrieve(up: Up, studio: Studio, version: str) -> list[int]:
    """Label Studio retrieves predictions for what lacks them and saves what it gets."""
    rows = list(studio.tasks(PROJECT, lacking=version))
    body = {"tasks": rows, "project": f"{PROJECT}.1795303384", "label_config": LABEL_CONFIG}
    results = requests.post(f"{up.url}/predict", json=body, timeout=100).json()["results"]
    assert len(results) == len(rows)
    answered = [
        {"task": row["id"], **entry} for row, entry in zip(rows, results, strict=True) if entry
    ]
    studio.saved += answered
    return [one["task"] for one in answered]


def version_of(up: Up) -> str:
    setup = {"project": f"{PROJECT}.1", "schema": LABEL_CONFIG}
    return str(requests.post(f"{up.url}/setup", json=setup, timeout=10).json()["model_version"])


def progress(up: Up) -> dict[str, Any]:
    (group,) = up.get(f"/jobs?project={PROJECT}")["projects"]
    return dict(group)


def settled(up: Up) -> bool:
    try:
        return int(progress(up)["pending"]) == 0
    except requests.RequestException:
        return False


def test_what_is_late_reaches_label_studio_once_though_everybody_is_killed(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    studio.images = {task: f"{image_host.url}/{task}.png" for task in TASKS}
    image_host.before = lambda path, count: time.sleep(0.15)
    up = launch(**connected(studio, PREDICT_DEADLINE=2, BATCH_SIZE=2))
    saving, killed = threading.Event(), threading.Event()

    def hold() -> None:
        if not saving.is_set():
            saving.set()
            killed.wait(20)

    studio.after_saving = hold
    version = version_of(up)
    in_time = retrieve(up, studio, version)
    assert 0 < len(in_time) < len(TASKS)
    assert saving.wait(20)
    (pusher,) = up.family("backend.cli pusher")
    os.kill(pusher, signal.SIGKILL)
    killed.set()
    os.kill(up.worker(), signal.SIGKILL)
    for pid in up.family("backend.cli web"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: settled(up), 60)
    assert studio.copies() == {(task, version): 1 for task in TASKS}
    group = progress(up)
    assert group["answered"] == len(in_time)
    assert group["pushed"] == len(TASKS) - len(in_time)
    assert all(image_host.asked.count(f"/{task}.png") <= 2 for task in TASKS)
    late = next(one for one in studio.saved if one["task"] not in in_time)
    assert late["result"][0]["value"]["rle"][4:6] == [57, 27]  # as Label Studio has its masks


def test_asking_again_meanwhile_doubles_nothing(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    studio.images = {task: f"{image_host.url}/{task}.png" for task in TASKS}
    image_host.before = lambda path, count: time.sleep(0.15)
    up = launch(**connected(studio, PREDICT_DEADLINE=1, BATCH_SIZE=2))
    version = version_of(up)
    for _ in range(3):
        retrieve(up, studio, version)
    wait_until(lambda: settled(up), 60)
    assert studio.copies() == {(task, version): 1 for task in TASKS}
    assert sorted(image_host.asked) == sorted(f"/{task}.png" for task in TASKS)


def test_a_web_process_that_dies_while_asked_loses_nothing(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    up = launch(**connected(studio, PREDICT_DEADLINE=60, BATCH_SIZE=2))
    version = version_of(up)
    half = threading.Event()
    studio.images = {task: f"{image_host.url}/{task}.png" for task in range(1, 21)}
    image_host.before = lambda path, count: half.set() if path == "/10.png" else time.sleep(0.05)

    def ask() -> None:
        with pytest.raises(requests.ConnectionError):
            retrieve(up, studio, version)

    asking = threading.Thread(target=ask)
    asking.start()
    assert half.wait(20)
    for pid in up.family("backend.cli web"):
        os.kill(pid, signal.SIGKILL)
    asking.join(20)
    wait_until(lambda: settled(up), 60)
    assert studio.copies() == {(task, version): 1 for task in range(1, 21)}
    assert len(image_host.asked) == 20


def test_without_a_key_late_tasks_are_told_how_to_be_pushed(
    launch: Callable[..., Up], image_host: ImageHost
) -> None:
    up = launch(IMAGE_HOSTS="127.0.0.1", PREDICT_DEADLINE=1)
    image_host.before = lambda path, count: time.sleep(2)
    up.predict([f"{image_host.url}/slow.png", f"{image_host.url}/slower.png"])
    reasons = {job.get("detail", "") for job in up.get("/jobs")["ended"]}
    assert any("LABEL_STUDIO_API_KEY" in reason for reason in reasons)
    assert not up.family("backend.cli pusher")
