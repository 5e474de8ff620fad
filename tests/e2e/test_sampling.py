"""Uncertainty sampling: the least certain task is served first, once enough is annotated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from backend.labelstudio.studio import UNCERTAINTY
from backend.sampling import ENOUGH, UNIFORM, waits
from demo import IMAGES
from demo.scenes import generate
from tests.e2e.client import Client
from tests.e2e.conftest import Promptbrush, accept
from tests.e2e.editor import Editor
from tests.e2e.label_studio import Server

pytestmark = pytest.mark.e2e

Connected = Callable[..., int]


def test_the_least_certain_task_is_served_first_and_the_next_after_it(
    client: Client, connected: Connected, promptbrush: Promptbrush, editor: Editor
) -> None:
    images = sorted(path for path in IMAGES.iterdir() if path.suffix in {".jpg", ".png"})
    project = connected(images)
    client.update_project(project, sampling=UNCERTAINTY)  # at once, as in its settings
    editor.retrieve_predictions(project)
    score = {one["task"]: one["score"] for one in client.predictions(project=project)}
    assert len(set(score.values())) == len(images), "scores are alike: any order would do"
    least_certain_first = sorted(score, key=lambda task: float(score[task]))
    served = [editor.label_all(project)]
    editor.shot("least-certain")
    served += [editor.submit_for_next() for _ in images[1:]]
    assert served == least_certain_first


def test_a_project_is_served_in_random_order_until_enough_is_annotated(
    studio: Server,
    client: Client,
    connected: Connected,
    promptbrush: Promptbrush,
    tmp_path: Path,
) -> None:
    images = [tmp_path / f"{number}.png" for number in range(ENOUGH + 2)]
    for number, path in enumerate(images):
        generate(number, (160, 120)).image.save(path)
    project = connected(images, "--sampling", "uncertainty")

    def served() -> tuple[str, bool]:
        (connection,) = client.ml_backends(project)
        return client.project(project)["sampling"], waits(connection)

    assert served() == (UNIFORM, True)
    everything = np.ones((120, 160), bool)
    for task in [task["id"] for task in client.tasks(project)][:ENOUGH]:
        accept(studio, task, "Red circle", everything)
    assert served() == (UNIFORM, True)
    run = promptbrush("connect", "--project", str(project))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "uncertainty sampling from now on" in run.stdout
    assert served() == (UNCERTAINTY, False)
    assert promptbrush("doctor", "--project", str(project)).returncode == 0
