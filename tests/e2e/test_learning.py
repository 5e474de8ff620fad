"""What annotators submit in a real Label Studio makes the next pre-annotations better."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from backend.learning.dataset import Part, part_of
from backend.showcase import serving
from demo.scenes import Look
from tests.e2e.client import Client
from tests.e2e.conftest import AUTH, Drawn, Promptbrush, accept, wait_until
from tests.e2e.editor import Editor
from tests.e2e.label_studio import Server

pytestmark = pytest.mark.e2e

LABEL = "Zorp"  # which says nothing to the model
ZORP, OTHER = Look("circle", "red", "plain"), Look("square", "blue", "plain")
ACCEPTED, OPEN, IN_EDITOR = 24, 4, 2


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of versions and prompt books that the service and commands share."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def learning(known: dict[str, str], models: Path) -> Iterator[str]:
    """A promptbrush that trains by itself, for a moment only; gives its address."""
    when = {"TRAIN_AFTER": str(ACCEPTED), "TRAIN_QUIET": "2", "TRAIN_STEPS": "50"}
    with serving({**known, **when, "MODEL_DIR": str(models)}) as url:
        yield url


@pytest.fixture
def scenes(drawn: Callable[..., Drawn]) -> dict[str, Drawn]:
    """By the name of their files."""
    made = (drawn(f"zorp-{n:02}", n, [ZORP, OTHER]) for n in range(ACCEPTED + OPEN))
    return {one.path.name: one for one in made}


@pytest.fixture
def project(
    connected: Callable[..., int], learning: str, scenes: dict[str, Drawn]
) -> Callable[[], int]:
    paths: list[Path] = [one.path for one in scenes.values()]
    return lambda: connected(paths, "--labels", LABEL, PORT=learning.rpartition(":")[2])


def scene_of(task: dict[str, Any], scenes: dict[str, Drawn]) -> Drawn:
    """The one that a task's image was uploaded from."""
    return next(one for name, one in scenes.items() if task["data"]["image"].endswith(name))


def test_what_is_submitted_in_the_editor_trains_a_version_that_annotators_get(
    learning: str,
    models: Path,
    project: Callable[[], int],
    promptbrush: Promptbrush,
    studio: Server,
    client: Client,
    editor: Editor,
    scenes: dict[str, Drawn],
) -> None:
    number = project()
    # the name alone: what was shown and typed would find all there is, and leave nothing to learn
    words = ("--label", LABEL, "--text", LABEL, "--weight", "0")
    port = learning.rpartition(":")[2]
    settings = {"PORT": port, "MODEL_DIR": str(models)}
    said = promptbrush("prompts", "set", "--project", str(number), *words, **settings)
    assert said.returncode == 0, said.stderr
    tasks = list(client.tasks(number))
    accepted, still_open = tasks[:ACCEPTED], tasks[ACCEPTED:]
    by_hand = [task for task in accepted if part_of(task["id"]) is Part.TRAINING][:IN_EDITOR]
    before = client.project(number)["model_version"]

    def training() -> Any:
        jobs = requests.get(f"{learning}/jobs?project={number}", auth=AUTH, timeout=30).json()
        return jobs["training"]["projects"]

    for task in accepted:
        if task not in by_hand:
            accept(studio, task["id"], LABEL, scene_of(task, scenes).truth(ZORP))
    for task in by_hand:
        editor.open(number, task["id"])
        editor.auto_annotation()
        editor.type_prompt(f"{LABEL}: a red circle")
        editor.accept()
        editor.submit()
    wait_until(lambda: bool(training()) and training()[0]["state"] == "done", 420, training)
    told = training()[0]
    assert told["outcome"] == "promoted", told
    versions = requests.get(f"{learning}/versions?project={number}", auth=AUTH, timeout=30).json()
    assert versions["served"] == told["version"]
    (version,) = versions["versions"]
    assert sum(version["metrics"]["data"]["images"].values()) == ACCEPTED

    wait_until(
        lambda: f"-{told['version'][:8]}-" in client.project(number)["model_version"],
        120,
        lambda: (before, training(), client.ml_backends(number)),
    )
    now = client.project(number)["model_version"]
    (backend,) = client.ml_backends(number)
    assert (backend["title"], backend["model_version"]) == (now, now)

    def predicted() -> set[int]:
        found = client.predictions(project=number)
        return {one["task"] for one in found if one["model_version"] == now}

    wait_until(lambda: predicted() == {task["id"] for task in still_open}, 120, predicted)
    editor.open(number, still_open[0]["id"])
    (region,) = editor.regions(1)
    editor.shot("of-the-new-version")
    assert region.label == LABEL


def test_the_command_trains_straight_from_label_studio(
    project: Callable[[], int],
    studio: Server,
    client: Client,
    promptbrush: Promptbrush,
    scenes: dict[str, Drawn],
    tmp_path: Path,
) -> None:
    number = project()
    tasks = list(client.tasks(number))[: ACCEPTED - 4]  # too few to start by themselves
    for task in tasks:
        accept(studio, task["id"], LABEL, scene_of(task, scenes).truth(ZORP))
    run = promptbrush("train", "--project", str(number), "--steps", "2", MODEL_DIR=str(tmp_path))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"{len(tasks)} images" in run.stdout
    assert " is active: " in run.stdout or " is rejected: " in run.stdout
    assert len(list((tmp_path / str(number) / "reports").glob("*.html"))) == 1
