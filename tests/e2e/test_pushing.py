"""Batches that are larger than the deadline, through the Data Manager of a real Label Studio."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.showcase import serving
from demo import scenes
from tests.e2e.client import Client
from tests.e2e.conftest import Promptbrush, pushed
from tests.e2e.label_studio import Server

pytestmark = pytest.mark.e2e

TASKS = 40


@pytest.fixture(scope="module")
def hurried(known: dict[str, str]) -> Iterator[str]:
    """A promptbrush that has a tenth of a second for an answer; gives its port."""
    with serving({**known, "PREDICT_DEADLINE": "0.1"}) as url:
        yield url.rpartition(":")[2]


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.jpg" for seed in range(TASKS)]
    for seed, path in enumerate(paths):
        scenes.generate(seed, (320, 240)).image.save(path)
    return paths


def saved(client: Client, project: int) -> Counter[tuple[int, str]]:
    """How many predictions there are per task and version."""
    found = client.predictions(project=project)
    return Counter((one["task"], one["model_version"]) for one in found)


def wait_for(client: Client, project: int, count: int) -> None:
    end = time.monotonic() + 120
    while sum(saved(client, project).values()) < count:
        assert time.monotonic() < end, f"{saved(client, project)} after two minutes"
        time.sleep(0.5)


def test_a_batch_beyond_the_deadline_is_saved_once_and_a_changed_prompt_asks_anew(
    hurried: str,
    studio: Server,
    client: Client,
    connected: Callable[..., int],
    promptbrush: Promptbrush,
    images: list[Path],
) -> None:
    project = connected(images, PORT=hurried)
    action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
    everything = {"selectedItems": {"all": True, "excluded": []}}
    studio.ask("POST", action, json=everything)
    studio.ask("POST", action, json=everything)  # impatiently
    wait_for(client, project, TASKS)
    assert pushed(f"http://127.0.0.1:{hurried}", project) > 0
    studio.ask("POST", action, json=everything)
    tasks = {task["id"] for task in client.tasks(project, include=("id",))}
    (first,) = {version for _, version in saved(client, project)}
    assert saved(client, project) == {(task, first): 1 for task in tasks}

    config = client.project(project)["label_config"]
    changed = config.replace('predicted_values="a red circle', 'predicted_values="the red disc')
    assert changed != config
    client.update_project(project, label_config=changed)
    run = promptbrush("prelabel", "--project", str(project), PORT=hurried)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{TASKS} tasks lacked a prediction, {TASKS} have one" in run.stdout
    again = promptbrush("prelabel", "--project", str(project), PORT=hurried)
    assert "no task lacks a prediction" in again.stdout
    (second,) = {version for _, version in saved(client, project)} - {first}
    assert saved(client, project) == {
        (task, version): 1 for task in tasks for version in (first, second)
    }
