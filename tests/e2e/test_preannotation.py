"""Masks on opening a task, in the real editor."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import requests

from backend.labelstudio import brush
from demo import IMAGES, LABEL_CONFIG
from tests.e2e.client import Client
from tests.e2e.conftest import AUTH
from tests.e2e.editor import Editor

pytestmark = pytest.mark.e2e

Connected = Callable[..., int]


@pytest.mark.parametrize(
    ("known", "name"),
    [("legacy", "02-wide.jpg"), ("personal", "05-turned.jpg")],
    indirect=["known"],
)
def test_an_opened_task_shows_the_backends_masks_pixel_for_pixel(
    backend: str, client: Client, connected: Connected, editor: Editor, name: str
) -> None:
    project = connected([IMAGES / name])
    [task] = client.tasks(project)
    assert client.predictions(task=task["id"]) == []
    editor.open(project, task["id"])
    answer = requests.post(
        f"{backend}/predict",
        auth=AUTH,
        json={"tasks": [task], "label_config": LABEL_CONFIG.read_text(), "project": project},
        timeout=100,
    )
    [prediction] = answer.json()["results"]
    expected = {region["value"]["brushlabels"][0]: region for region in prediction["result"]}
    drawn = editor.regions(len(expected))
    editor.shot("opened")
    assert {region.label for region in drawn} == set(expected)
    for region in drawn:
        theirs = expected[region.label]
        height, width = theirs["original_height"], theirs["original_width"]
        assert region.mask is not None
        ours = brush.decode(theirs["value"]["rle"], height, width) == 255
        assert region.mask.shape == ours.shape
        np.testing.assert_array_equal(region.mask, ours)
        assert region.score == pytest.approx(theirs["score"])
    [saved] = client.predictions(task=task["id"])
    assert saved["model_version"] == prediction["model_version"]


def test_a_task_that_is_opened_again_is_not_predicted_again(
    client: Client, connected: Connected, editor: Editor
) -> None:
    project = connected([IMAGES / "01-table.jpg"])
    [task] = client.tasks(project)
    for _ in range(2):
        editor.open(project, task["id"])
        editor.regions(4)
    assert len(client.predictions(task=task["id"])) == 1


def test_what_is_submitted_holds_the_masks_and_their_prediction(
    client: Client, connected: Connected, editor: Editor
) -> None:
    project = connected([IMAGES / "01-table.jpg"])
    [task] = client.tasks(project)
    editor.open(project, task["id"])
    drawn = {region.label: region.mask for region in editor.regions(4)}
    editor.submit()
    [annotation] = client.annotations(task["id"])
    [prediction] = client.predictions(task=task["id"])
    assert annotation["parent_prediction"] == prediction["id"]
    for region in annotation["result"]:
        height, width = region["original_height"], region["original_width"]
        kept = brush.decode(region["value"]["rle"], height, width) >= 128
        np.testing.assert_array_equal(kept, drawn[region["value"]["brushlabels"][0]])
