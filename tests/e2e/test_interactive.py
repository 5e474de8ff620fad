"""Smart tools in the real editor, on scenes of known truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from backend.labelstudio import brush
from backend.labelstudio.shapes import areas
from demo.scenes import Look
from tests.e2e.client import Client
from tests.e2e.conftest import Drawn
from tests.e2e.editor import Editor, Mask, Region, iou

pytestmark = pytest.mark.e2e

RED_CIRCLE = Look("circle", "red", "plain")
BLUE_SQUARE = Look("square", "blue", "plain")
GREEN_STAR = Look("star", "green", "plain")
LOOKS = [RED_CIRCLE, RED_CIRCLE, RED_CIRCLE, BLUE_SQUARE, GREEN_STAR]
LABELS = ("--labels", "Yellow ring", "Purple cross")  # which are not there

Connected = Callable[..., int]
Draw = Callable[..., Drawn]


@pytest.fixture
def scene(drawn: Draw) -> Drawn:
    """Three red circles, a blue square and a green star."""
    return drawn("three-circles", 65, LOOKS, radius=(0.1, 0.15))


@pytest.fixture
def task(scene: Drawn, client: Client, connected: Connected, editor: Editor) -> int:
    """The scene, opened in the editor with auto-annotation on; gives the task's id."""
    project = connected([scene.path], *LABELS)
    [task] = client.tasks(project)
    editor.open(project, task["id"])
    editor.auto_annotation()
    return int(task["id"])


def only_suggestion(editor: Editor) -> tuple[Region, Mask]:
    """The one suggestion, and its mask."""
    [region] = editor.suggestions(1)
    assert region.mask is not None
    return region, region.mask


def test_a_typed_phrase_gives_a_mask_that_is_accepted_and_submitted(
    scene: Drawn, task: int, client: Client, editor: Editor
) -> None:
    editor.type_prompt("Purple cross: a blue square")
    region, mask = only_suggestion(editor)
    editor.shot("suggested")
    assert region.label == "Purple cross"
    assert iou(mask, scene.truth(BLUE_SQUARE)) >= 0.7
    editor.accept()
    editor.submit()
    [annotation] = client.annotations(task)
    [saved] = [region for region in annotation["result"] if region["type"] == "brushlabels"]
    assert saved["value"]["brushlabels"] == ["Purple cross"]
    height, width = mask.shape
    kept = brush.decode(saved["value"]["rle"], height, width) >= 128
    np.testing.assert_array_equal(kept, mask)


def test_a_second_phrase_replaces_the_suggestion(scene: Drawn, task: int, editor: Editor) -> None:
    editor.type_prompt("Purple cross: a blue square")
    only_suggestion(editor)
    editor.edit_prompt("Purple cross: a green star")
    _, mask = only_suggestion(editor)
    assert iou(mask, scene.truth(GREEN_STAR)) >= 0.7


def test_a_smart_rectangle_around_one_shape_gives_all_that_are_like_it(
    scene: Drawn, task: int, editor: Editor
) -> None:
    editor.draw_box("Yellow ring", scene.box(RED_CIRCLE))
    region, mask = only_suggestion(editor)
    editor.shot("suggested")
    assert region.label == "Yellow ring"
    assert iou(mask, scene.truth(RED_CIRCLE)) >= 0.7


def test_a_rectangle_drawn_at_once_after_a_phrase_is_where_it_is_looked_for(
    scene: Drawn, task: int, editor: Editor
) -> None:
    editor.type_prompt("Yellow ring: a red circle")
    editor.accept()
    editor.draw_box("Yellow ring", scene.box(RED_CIRCLE))
    _, mask = only_suggestion(editor)
    left, top, right, bottom = scene.box(RED_CIRCLE)
    rows, columns = np.nonzero(mask)  # of one circle, and not of all three
    corners = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(corners, (left, top, right, bottom), atol=15)
    assert editor.texts()["prompt"] == ["Yellow ring: a red circle"]


def test_a_smart_keypoint_gives_the_thing_under_it(scene: Drawn, task: int, editor: Editor) -> None:
    left, top, right, bottom = scene.box(BLUE_SQUARE)
    editor.click_point("Yellow ring", (left + right) / 2, (top + bottom) / 2)
    region, mask = only_suggestion(editor)
    editor.shot("suggested")
    assert region.label == "Yellow ring"
    assert iou(mask, scene.truth(BLUE_SQUARE)) >= 0.7


@pytest.fixture
def turned(scene: Drawn, client: Client, connected: Connected, editor: Editor) -> Editor:
    """The scene in the editor, which turned it a quarter."""
    project = connected([scene.path], *LABELS)
    xml = client.project(project)["label_config"]
    turns = xml.replace("<Image ", '<Image rotateControl="true" ')
    client.update_project(project, label_config=turns)
    [task] = client.tasks(project)
    editor.open(project, task["id"])
    editor.turn()
    return editor


def test_a_stroke_on_a_turned_image_is_where_it_lies_in_its_file(
    scene: Drawn, turned: Editor
) -> None:
    box = scene.box(BLUE_SQUARE)
    turned.stroke("Yellow ring", box)
    turned.page.wait_for_timeout(1000)
    [region] = turned.submit()["result"]
    assert region["image_rotation"] == 270
    [area] = areas([region])
    rows, columns = np.nonzero(area.mask())
    corners = columns.min(), rows.min(), columns.max(), rows.max()
    np.testing.assert_allclose(corners, box, atol=15)  # half the brush


def test_a_smart_keypoint_on_a_turned_image_gives_the_thing_under_it(
    scene: Drawn, turned: Editor
) -> None:
    turned.auto_annotation()
    left, top, right, bottom = scene.box(BLUE_SQUARE)
    turned.click_point("Yellow ring", (left + right) / 2, (top + bottom) / 2)
    _, mask = only_suggestion(turned)
    turned.shot("suggested")
    assert iou(mask, scene.truth(BLUE_SQUARE)) >= 0.7
    turned.accept()
    [region] = turned.submit()["result"]
    assert region["image_rotation"] == 270
    [area] = areas([region])
    assert (area.mask() == mask).all()


def test_a_phrase_for_what_is_not_there_is_answered_in_words(task: int, editor: Editor) -> None:
    editor.type_prompt("Purple cross: a striped yellow ring")
    assert editor.suggestions() == []
    editor.shot("nothing-found")
    assert "⚠" in editor.texts()["prompt"][0]
