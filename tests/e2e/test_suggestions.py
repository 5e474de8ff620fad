"""Phrases offered in the real editor: asked for, chosen, and answered with a mask."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

import pytest

from backend.labelstudio.client import LabelStudio
from demo.scenes import Look
from tests.e2e.conftest import Drawn, Promptbrush
from tests.e2e.editor import Editor, Mask, iou

pytestmark = pytest.mark.e2e

RED_CIRCLE = Look("circle", "red", "plain")
BLUE_STAR = Look("star", "blue", "plain")
LOOKS = [RED_CIRCLE, RED_CIRCLE, BLUE_STAR]
CONFIG = """<View>
<TextArea name="prompt" toName="image" rows="1" maxSubmissions="1" editable="true"/>
{controls}
<Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="Part"/><Label value="Car"/></BrushLabels>
</View>"""
AREA = '<TextArea name="suggestions" toName="image" smart="false" editable="true"/>'
CHOICES = """<Choices name="suggestions" toName="image" choice="multiple" showInline="true">
<Choice value="red circle"/><Choice value="green ring"/><Choice value="blue star"/></Choices>"""


@pytest.fixture
def scene(drawn: Callable[..., Drawn]) -> Drawn:
    """Two red circles and a blue star."""
    return drawn("circles-and-star", 65, LOOKS, radius=(0.1, 0.15))


@pytest.fixture
def opened(
    scene: Drawn, client: LabelStudio, promptbrush: Promptbrush, editor: Editor
) -> Callable[[str], None]:
    """Makes a project whose labeling configuration has controls, and opens the scene in it."""

    def open_with(controls: str) -> None:
        xml = CONFIG.format(controls=controls)
        project = client.create_project(f"suggestions {uuid.uuid4().hex[:6]}", xml)["id"]
        run = promptbrush("connect", "--project", str(project), "--images", str(scene.path))
        assert run.returncode == 0, run.stdout + run.stderr
        [task] = client.tasks(project)
        editor.open(project, task["id"])
        editor.auto_annotation()

    return open_with


def only_mask(editor: Editor) -> Mask:
    [region] = editor.suggestions(1)
    assert region.mask is not None
    return region.mask


def test_phrases_are_listed_and_a_number_gives_the_mask_of_one(
    scene: Drawn, opened: Callable[[str], None], editor: Editor
) -> None:
    opened(AREA)
    editor.type_prompt("?")
    lines = editor.texts()["suggestions"]
    editor.shot("offered")
    phrases = [line.split(" ", 1)[1].rpartition(" (")[0] for line in lines]
    place = next(i for i, phrase in enumerate(phrases) if set(phrase.split()) <= {"blue", "star"})
    editor.edit_prompt(str(place + 1))
    assert iou(only_mask(editor), scene.truth(BLUE_STAR)) >= 0.7
    editor.shot("chosen")
    assert editor.texts()["prompt"] == [phrases[place]]


def test_phrases_of_choices_are_ticked_and_what_is_ticked_gives_its_mask(
    scene: Drawn, opened: Callable[[str], None], editor: Editor
) -> None:
    opened(CHOICES)
    editor.type_prompt("?")
    editor.shot("ticked")
    assert set(editor.ticked("suggestions")) == {"red circle", "blue star"}
    editor.tick("red circle")
    editor.edit_prompt("Car: !")
    editor.shot("chosen")
    assert iou(only_mask(editor), scene.truth(BLUE_STAR)) >= 0.7
    assert editor.texts()["prompt"] == ["Car: blue star"]


def test_without_controls_for_them_phrases_are_told_in_the_prompt(
    scene: Drawn, opened: Callable[[str], None], editor: Editor
) -> None:
    opened("")
    editor.type_prompt("?")
    [told] = editor.texts()["prompt"]
    assert told.startswith("? ⚠ 1 ")
    numbers = dict(re.findall(r"(\d) ([a-z ]*) \(", told))
    number, phrase = next(one for one in numbers.items() if "red" in one[1].split())
    editor.edit_prompt(f"Car: {number}")  # over the list, at once
    [region] = editor.suggestions(1)
    assert region.label == "Car"
    assert region.mask is not None
    assert iou(region.mask, scene.truth(RED_CIRCLE)) >= 0.7
    assert editor.texts()["prompt"] == [f"Car: {phrase}"]
    editor.shot("chosen")
