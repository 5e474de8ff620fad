"""Uncertainty sampling: the least certain task is served first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from demo import IMAGES
from tests.e2e.client import Client
from tests.e2e.conftest import Promptbrush
from tests.e2e.editor import Editor

pytestmark = pytest.mark.e2e

Connected = Callable[..., int]


def test_the_least_certain_task_is_served_first_and_the_next_after_it(
    client: Client, connected: Connected, promptbrush: Promptbrush, editor: Editor
) -> None:
    images = sorted(path for path in IMAGES.iterdir() if path.suffix in {".jpg", ".png"})
    project = connected(images, "--sampling", "uncertainty")
    editor.retrieve_predictions(project)
    score = {one["task"]: one["score"] for one in client.predictions(project=project)}
    assert len(set(score.values())) == len(images), "scores are alike: any order would do"
    least_certain_first = sorted(score, key=lambda task: float(score[task]))
    served = [editor.label_all(project)]
    editor.shot("least-certain")
    served += [editor.submit_for_next() for _ in images[1:]]
    assert served == least_certain_first
