"""The adapter under the real label-studio-ml 1.0.9, on Flask 3.1, before a real service.

`make test` puts the package into out/label-studio-ml, without its pins.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from backend.showcase import free_port
from tests.live.conftest import LABEL_CONFIG, Up, data_uri, wait_until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "out/label-studio-ml"
PAGE = (ROOT / "docs/projects.md").read_text()
(WSGI,) = re.findall(r"```text\n(from label_studio_ml\.api.*?)```", PAGE, re.DOTALL)
OTHER_CONFIG = LABEL_CONFIG.replace("Red circle", "Blue thing")

Serve = Callable[[str], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a label-studio-ml server as docs/projects.md says; gives its address."""
    assert PACKAGE.is_dir(), "run `make out/label-studio-ml` first"
    (tmp_path / "_wsgi.py").write_text(WSGI)
    started: list[subprocess.Popen[bytes]] = []

    def start(service_url: str) -> str:
        port = free_port()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(ROOT)]),
            "PROMPTBRUSH_URL": service_url,
        }
        command = ["-m", "gunicorn", "--threads", "4", "--bind", f"127.0.0.1:{port}", "_wsgi:app"]
        started.append(subprocess.Popen([sys.executable, *command], cwd=tmp_path, env=environment))
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(url), 60)
        return url

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)


def answers(url: str) -> bool:
    try:
        return bool(requests.get(f"{url}/health", timeout=2).json()["status"] == "UP")
    except requests.RequestException:
        return False


def setup(url: str, project: str, config: str) -> Any:
    body = {"project": project, "schema": config, "hostname": "http://ls", "access_token": "t"}
    return requests.post(f"{url}/setup", json=body, timeout=10).json()


def predict(url: str, project: str, config: str, context: Any = None) -> requests.Response:
    body = {
        "tasks": [{"id": 1, "data": {"image": data_uri(1)}}, {"id": 2, "data": {"image": "/no"}}],
        "project": project,
        "label_config": config,
        "params": {"login": None, "password": None, "context": context},
    }
    return requests.post(f"{url}/predict", json=body, timeout=60)


def without_ids(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**region, "id": None} for region in entry["result"]]


def test_its_server_answers_as_the_service_does(up: Up, serve: Serve) -> None:
    url = serve(up.url)
    assert setup(url, "7.1", LABEL_CONFIG)["model_version"] == "INITIAL"
    ours = predict(up.url, "7.1", LABEL_CONFIG).json()["results"]
    theirs = predict(url, "7.1", LABEL_CONFIG).json()["results"]
    assert without_ids(theirs[0]) == without_ids(ours[0]) != []
    assert theirs[0]["score"] == ours[0]["score"]
    assert "model_version" not in theirs[0]  # so that Label Studio notes "INITIAL"
    assert theirs[1] == ours[1] == []


def test_a_typed_prompt_reaches_the_service(up: Up, serve: Serve) -> None:
    url = serve(up.url)
    setup(url, "7.1", LABEL_CONFIG)
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": ["dog: a small one"]}}
    entry = predict(url, "7.1", LABEL_CONFIG, {"result": [region]}).json()["results"][0]
    labels = [r["value"]["brushlabels"] for r in entry["result"] if r["type"] == "brushlabels"]
    assert labels == [["dog"]]


def test_two_projects_do_not_get_each_others_labels(up: Up, serve: Serve) -> None:
    url = serve(up.url)
    setup(url, "7.1", LABEL_CONFIG)
    setup(url, "8.1", OTHER_CONFIG)
    entry = predict(url, "7.1", LABEL_CONFIG).json()["results"][0]
    assert {r["value"]["brushlabels"][0] for r in entry["result"]} == {"Red circle", "dog"}


def test_a_service_that_is_not_there_is_named(serve: Serve) -> None:
    url = serve("http://127.0.0.1:9")
    setup(url, "7.1", LABEL_CONFIG)
    answer = predict(url, "7.1", LABEL_CONFIG)
    assert answer.status_code == 500
    assert "PROMPTBRUSH_URL" in answer.text
