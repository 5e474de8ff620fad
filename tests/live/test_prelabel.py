"""`promptbrush prelabel` on a whole project, with everybody killed in the middle."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.live.conftest import LABEL_CONFIG, ImageHost, Up, data_uri, wait_until
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live

TASKS = range(1, 301)
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def studio(image_host: ImageHost) -> Iterator[Studio]:
    studio = Studio(LABEL_CONFIG, {task: f"{image_host.url}/{task}.png" for task in TASKS})
    server = studio.serve()
    studio.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield studio
    server.shutdown()
    server.server_close()


def command(up: Up, studio: Studio, *options: str) -> subprocess.Popen[str]:
    where = ["--backend", up.url, "--label-studio", studio.url, "--api-key", KEY]
    prelabel = ["prelabel", "--project", str(PROJECT)]
    return subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *prelabel, *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start(launch: Callable[..., Up], studio: Studio, **settings: object) -> Up:
    return launch(
        LABEL_STUDIO_URL=studio.url, LABEL_STUDIO_API_KEY=KEY, IMAGE_HOSTS="127.0.0.1", **settings
    )


def pending(up: Up) -> int | None:
    """How many tasks are pending; None while nobody answers."""
    try:
        groups = up.get(f"/jobs?project={PROJECT}")["projects"]
    except requests.RequestException:
        return None
    return sum(int(group["pending"]) for group in groups)


def test_a_project_is_predicted_once_though_everybody_is_killed(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    image_host.before = lambda path, count: time.sleep(0.1)
    up = start(launch, studio)
    first = command(up, studio)
    wait_until(lambda: len(studio.saved) > 30)
    first.kill()
    first.communicate()
    for role in ("worker", "web", "pusher"):
        before = len(studio.saved)
        up.kill(f"backend.cli {role}")
        wait_until(lambda before=before: len(studio.saved) > before + 10, 60)  # type: ignore[misc]
    told, _ = command(up, studio).communicate(timeout=120)
    assert " have one." in told
    assert pending(up) == 0
    (version,) = {one["model_version"] for one in studio.saved}
    assert studio.copies() == {(task, version): 1 for task in TASKS}
    again = [path for path in set(image_host.asked) if image_host.asked.count(path) > 1]
    assert len(again) <= 8  # what the killed worker held is fetched again, nothing else


def test_what_failed_is_told_and_tried_again_when_the_command_is_run_again(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    studio.images = {1: data_uri(1), 2: "/etc/passwd", 3: data_uri(3), 4: "ftp://x"}
    up = start(launch, studio)
    first = command(up, studio)
    told, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "4 tasks lacked a prediction, 2 have one" in told
    assert "ImageRefused" in told
    studio.images[2] = studio.images[4] = data_uri(5)
    second = command(up, studio)
    told, _ = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "2 tasks lacked a prediction, 2 have one" in told
    assert len(studio.saved) == 4


def test_the_command_may_be_interrupted_or_not_wait_at_all(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    studio.images = {task: studio.images[task] for task in range(1, 41)}
    go_on = threading.Event()  # there is something to watch until then
    last = {f"/{task}.png" for task in range(21, 41)}
    image_host.before = lambda path, count: (path in last and go_on.wait(100), None)[1]
    up = start(launch, studio, IMAGE_TIMEOUT=100)
    told, _ = command(up, studio, "--no-wait").communicate(timeout=60)
    assert "40 tasks lacked a prediction" in told
    before = studio.listed
    watching = command(up, studio)
    wait_until(lambda: studio.listed > before)
    wait_until(lambda: len(studio.saved) > 0)
    watching.send_signal(signal.SIGINT)
    told, _ = watching.communicate(timeout=20)
    assert "goes on" in told
    assert watching.returncode == 130
    go_on.set()
    wait_until(lambda: pending(up) == 0, 60)
    assert set(studio.copies().values()) == {1}
    assert len(studio.saved) == 40


def test_an_opened_task_overtakes_the_background(
    launch: Callable[..., Up], studio: Studio, image_host: ImageHost
) -> None:
    image_host.before = lambda path, count: time.sleep(0.1)
    up = start(launch, studio, BATCH_SIZE=2)
    told, _ = command(up, studio, "--no-wait").communicate(timeout=60)
    assert "300 tasks" in told
    body: dict[str, Any] = {
        "tasks": [{"id": 299, "data": {"image": studio.images[299]}}],
        "project": f"{PROJECT}.1795303384",
        "label_config": LABEL_CONFIG,
    }
    (entry,) = requests.post(f"{up.url}/predict", json=body, timeout=60).json()["results"]
    assert entry["result"]
    assert len(image_host.asked) < 40
    assert image_host.asked.count("/299.png") == 1
