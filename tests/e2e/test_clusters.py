"""Images that look alike are in one cluster, and an annotator is shown one of each first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.inference.clusters import FIRST, GROUPS
from backend.labelstudio.studio import UNCERTAINTY
from demo.scenes import generate
from tests.e2e.client import Client
from tests.e2e.conftest import Promptbrush
from tests.e2e.editor import Editor

pytestmark = pytest.mark.e2e

BEYOND = 16  # images after those that tell the clusters
SHOWN = 4


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Scenes, and between them pictures of nothing but noise."""
    paths = []
    for seed in range(FIRST + BEYOND):
        path = tmp_path / f"{'scene' if seed % 2 else 'noise'}-{seed:02}.png"
        picture = generate(seed, (160, 120)).image
        if not seed % 2:
            noise = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), dtype=np.uint8)
            picture = Image.fromarray(noise)
        picture.save(path)
        paths.append(path)
    return paths


def test_what_is_pushed_has_the_clusters_by_which_tasks_are_served(
    client: Client,
    connected: Callable[..., int],
    promptbrush: Promptbrush,
    editor: Editor,
    images: list[Path],
) -> None:
    project = connected(images)
    client.update_project(project, sampling=UNCERTAINTY)  # at once, as in its settings
    run = promptbrush("prelabel", "--project", str(project))
    assert run.returncode == 0, run.stdout + run.stderr
    predictions = {one["task"]: one for one in client.predictions(project=project)}
    assert len(predictions) == len(images)
    cluster = {task: one["cluster"] for task, one in predictions.items()}
    kinds: dict[str, set[int]] = {"noise": set(), "scene": set()}
    for task in client.tasks(project):
        (kind,) = (kind for kind in kinds if kind in task["data"]["image"])
        if cluster[task["id"]] is not None:
            kinds[kind].add(cluster[task["id"]])
    assert sum(one is not None for one in cluster.values()) == BEYOND + 1
    assert kinds["noise"]
    assert kinds["scene"]
    assert not kinds["noise"] & kinds["scene"]
    assert kinds["noise"] | kinds["scene"] <= set(range(GROUPS))

    served = [editor.label_all(project)]
    editor.shot("first")
    served += [editor.submit_for_next() for _ in range(SHOWN - 1)]
    assert len({cluster[task] for task in served}) == SHOWN
