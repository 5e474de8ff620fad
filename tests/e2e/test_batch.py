"""Forty tasks through the Data Manager, with less time than they take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from backend.showcase import serving
from demo.scenes import Look
from tests.e2e.client import Client
from tests.e2e.conftest import Drawn, Promptbrush, pushed
from tests.e2e.editor import Editor

pytestmark = pytest.mark.e2e

TASKS = 40
PUSHED_WITHIN = 120.0  # seconds

Connected = Callable[..., int]
Draw = Callable[..., Drawn]


@pytest.fixture(scope="module")
def backend(known: dict[str, str]) -> Iterator[str]:
    """`promptbrush up` that answers after a tenth of a second, whatever is ready."""
    with serving({**known, "PREDICT_DEADLINE": "0.1"}) as url:
        yield url


def saved(client: Client, project: int) -> Counter[tuple[int, str]]:
    """How many predictions each task has, by version."""
    found = client.predictions(project=project)
    return Counter((one["task"], one["model_version"]) for one in found)


def await_predictions(client: Client, project: int, version: str) -> None:
    """Until every task has one of a version."""
    end = time.monotonic() + PUSHED_WITHIN
    while left := [task["id"] for task in client.tasks(project, lacking=version)]:
        assert time.monotonic() < end, f"tasks {left} got no prediction"
        time.sleep(0.5)


@pytest.mark.parametrize("known", ["legacy"], indirect=True)
def test_every_task_is_saved_once_and_again_only_when_the_prompts_change(
    client: Client,
    backend: str,
    connected: Connected,
    promptbrush: Promptbrush,
    drawn: Draw,
    editor: Editor,
) -> None:
    looks = [Look("circle", "red", "plain"), Look("star", "green", "plain")]
    images = [drawn(f"scene-{i:02}", 100 + i, looks).path for i in range(TASKS)]
    project = connected(images, "--labels", "red circle", "green star")
    first = client.project(project)["model_version"]

    editor.retrieve_predictions(project)
    editor.shot("answered-in-time")
    await_predictions(client, project, first)
    assert pushed(backend, project) > 0, "the deadline was long enough for all"
    every = {(task["id"], first): 1 for task in client.tasks(project)}
    assert saved(client, project) == every
    assert len(every) == TASKS

    editor.retrieve_predictions(project)
    time.sleep(3)  # what would be asked for twice would be pushed by now
    assert saved(client, project) == every

    xml = client.project(project)["label_config"]
    client.update_project(project, label_config=xml.replace('value="green star"', 'value="star"'))
    assert promptbrush("connect", "--project", str(project)).returncode == 0
    second = client.project(project)["model_version"]
    assert second != first
    editor.retrieve_predictions(project)
    await_predictions(client, project, second)
    assert saved(client, project) == every | {(task, second): 1 for task, _ in every}
    editor.page.reload()
    editor.page.get_by_label("Select all rows").wait_for()
