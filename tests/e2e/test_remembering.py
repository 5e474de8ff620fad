"""A phrase that an annotator found for a label is what the project's next images are asked with."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from backend.showcase import serving
from demo.scenes import Look
from tests.e2e.client import Client
from tests.e2e.conftest import Drawn, Promptbrush, accept, wait_until
from tests.e2e.editor import Editor, Mask, Region, iou
from tests.e2e.label_studio import Server

pytestmark = pytest.mark.e2e

LABEL = "Object"  # which is everything
STAR = Look("star", "blue", "plain")
LOOKS = [Look("circle", "red", "plain"), STAR]
CONFIG = f"""<View>
<TextArea name="prompt" toName="image" rows="1" maxSubmissions="1" editable="true"/>
<TextArea name="suggestions" toName="image" smart="false" editable="true"/>
<Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="{LABEL}"/></BrushLabels>
</View>"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of prompt books that the service and the command share."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def remembering(known: dict[str, str], models: Path) -> Iterator[str]:
    """A promptbrush with prompt books where commands find them; gives its address."""
    with serving({**known, "MODEL_DIR": str(models)}) as url:
        yield url


@pytest.fixture
def command(promptbrush: Promptbrush, remembering: str, models: Path) -> Callable[..., str]:
    """Runs `promptbrush` for that service; gives what it prints."""
    port = remembering.rpartition(":")[2]

    def run(*arguments: str) -> str:
        done = promptbrush(*arguments, PORT=port, MODEL_DIR=str(models))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def only(regions: Sequence[Region]) -> Mask:
    """The mask of the one region of the label."""
    [region] = regions
    assert region.label == LABEL
    assert region.mask is not None
    return region.mask


def test_a_phrase_that_was_chosen_and_accepted_draws_the_next_image(
    drawn: Callable[..., Drawn], client: Client, command: Callable[..., str], editor: Editor
) -> None:
    scenes = [drawn(f"star-{seed}", seed, LOOKS, radius=(0.1, 0.15)) for seed in (65, 66)]
    number = client.create_project(f"remembered {uuid.uuid4().hex[:6]}", CONFIG)["id"]
    project = ("--project", str(number))
    command("connect", *project, "--images", *(str(one.path) for one in scenes))
    # words alone, so that what is drawn tells which words were asked
    command("prompts", "set", *project, "--label", LABEL, "--weight", "0")
    first, second = (task["id"] for task in client.tasks(number))

    editor.open(number, first)
    assert iou(only(editor.regions(1)), scenes[0].truth(STAR)) < 0.6  # with the circle
    editor.remove(LABEL)
    editor.auto_annotation()
    editor.type_prompt("?")
    lines = editor.texts()["suggestions"]
    place = next(i for i, line in enumerate(lines) if "blue" in line or "star" in line)
    editor.edit_prompt(str(place + 1))
    [phrase] = editor.texts()["prompt"]
    assert iou(only(editor.suggestions(1)), scenes[0].truth(STAR)) >= 0.7
    editor.accept()
    editor.submit()
    editor.shot("accepted")
    [before] = client.predictions(task=first)

    # by itself, which takes some seconds
    wait_until(
        lambda: any(
            one["model_version"] != before["model_version"]
            for one in client.predictions(task=second)
        ),
        120,
        lambda: command("prompts", "list", *project),
    )
    told = command("prompts", "show", *project, "--label", LABEL)
    assert re.search(rf"^{phrase} +suggested .* yes$", told, re.MULTILINE), told

    editor.open(number, second)
    remembered = only(editor.regions(1))
    editor.shot("next-image")
    assert iou(remembered, scenes[1].truth(STAR)) >= 0.7
    [now] = client.predictions(task=second)
    assert now["model_version"] != before["model_version"]
    assert client.project(number)["model_version"] == now["model_version"]
    editor.submit()
    editor.type_prompt(phrase)
    np.testing.assert_array_equal(only(editor.suggestions(1)), remembered)

    command("prompts", "measure", *project)
    told = command("prompts", "show", *project, "--label", LABEL)
    assert re.search(rf"^{phrase} .* 1\.00 of 1 +yes$", told, re.MULTILINE), told
    assert re.search(r"^object .* 0\.00 of 1 +no: ", told, re.MULTILINE), told


def test_what_was_accepted_once_is_found_in_the_next_image_and_tells_how_to_say_it(
    drawn: Callable[..., Drawn],
    studio: Server,
    client: Client,
    command: Callable[..., str],
    editor: Editor,
) -> None:
    scenes = [drawn(f"shown-{seed}", seed, LOOKS, radius=(0.1, 0.15)) for seed in (65, 66)]
    number = client.create_project(f"shown {uuid.uuid4().hex[:6]}", CONFIG)["id"]
    project = ("--project", str(number))
    command("connect", *project, "--images", *(str(one.path) for one in scenes))
    first, second = (task["id"] for task in client.tasks(number))
    before = {one["model_version"] for one in client.predictions(task=first)}
    accept(studio, first, LABEL, scenes[0].truth(STAR))
    wait_until(
        lambda: (
            LABEL in command("prompts", "show", *project)
            and any(one["model_version"] not in before for one in client.predictions(task=second))
        ),
        120,
        lambda: command("prompts", "list", *project),
    )
    told = command("prompts", "show", *project, "--label", LABEL)
    assert f"exemplar of task {first}" in told, told

    editor.open(number, second)
    assert iou(only(editor.regions(1)), scenes[1].truth(STAR)) >= 0.7
    editor.auto_annotation()
    editor.type_prompt(f"{LABEL}?")
    editor.shot("how-to-say-it")
    best, *_ = editor.texts()["suggestions"]
    assert "star" in best or "blue" in best, best  # no word of it is in the label's name
    editor.edit_prompt("1")
    assert iou(only(editor.suggestions(1)), scenes[1].truth(STAR)) >= 0.7
