"""Accepted work from Label Studio, and without an API key from what its webhooks brought."""

import json
import math
from base64 import b64encode
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend import cli
from backend.errors import TooLittleData
from backend.labelstudio import brush
from backend.labelstudio.events import Annotated, Event, Kind
from backend.labelstudio.images import ImageStore, TaskImage
from backend.labelstudio.shapes import Mask
from backend.labelstudio.starter import label_config
from backend.learning.acceptance import measure
from backend.learning.collected import Collected
from backend.learning.commands import accepted_in_studio
from backend.learning.dataset import Account, Part
from backend.learning.predicted import Predicted
from backend.learning.pulled import Pulled
from backend.learning.source import studio_of
from backend.settings import Settings
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio

MASK = np.arange(24).reshape(4, 6) > 15


def region(mask: Mask) -> dict[str, Any]:
    return {
        "id": "r",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": 4,
        "original_width": 6,
        "value": {"rle": b64encode(brush.encode(mask)).decode(), "brushlabels": ["Car"]},
    }


def submitted(task: int, image: str, parent: int | None = None) -> Event:
    saved = Annotated(
        10 + task, task, {"image": image}, (region(MASK),), False, parent_prediction=parent
    )
    xml = label_config(["Car"])
    return Event(Kind.ANNOTATED, "ANNOTATION_CREATED", 7, saved=(saved,), label_config=xml)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    images = tmp_path / "images"
    images.mkdir()
    Image.new("RGB", (6, 4)).save(images / "one.png")
    for name, value in {
        "MODEL_DIR": tmp_path / "models",
        "PROMPTBRUSH_DATA_DIR": tmp_path / "data",
        "LOCAL_FILES_DOCUMENT_ROOT": images,
    }.items():
        monkeypatch.setenv(name, str(value))
    return Settings.from_environment()


def test_without_a_key_an_export_holds_what_webhooks_brought(
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    collected = Collected(settings.model_dir)
    collected.take(asdict(submitted(1, "/data/local-files/?d=one.png")))
    collected.take(asdict(submitted(2, "/data/upload/7/behind-a-login.png")))
    out = tmp_path / "out"
    assert cli.main(["export", "--project", "7", "--out", str(out)]) == 0
    (image,) = json.loads((out / "coco-rle.json").read_text())["images"]
    assert image["task"] == 1
    (path,) = (out / "masks").iterdir()
    with Image.open(path) as picture:
        assert (np.asarray(picture) == 255 * MASK).all()
    told = capsys.readouterr().out
    assert "1 images" in told
    assert "the image cannot be had (ImageRefused)" in told
    assert "set LABEL_STUDIO_URL to the address" in caplog.text  # what to do about it


CORNERS = [[0, 0], [50, 0], [50, 50], [0, 50]]
BOX = {"x": 0, "y": 0, "width": 50, "height": 50}
MALFORMED: dict[str, tuple[str, Any, str]] = {  # a region's type, its value, and what is told
    **{
        f"a corner at {number}": (
            "polygonlabels",
            {"points": [*CORNERS, [1, number]], "polygonlabels": ["Car"]},
            'its "points" cannot be read',
        )
        for number in (math.nan, math.inf, "1e999")
    },
    "an endless ellipse": (
        "ellipselabels",
        {"x": 5, "y": 5, "radiusX": math.inf, "radiusY": 5, "ellipselabels": ["Car"]},
        'its "radiusX" cannot be read',
    ),
    "an endless rectangle": (
        "rectanglelabels",
        {**BOX, "width": math.inf, "rectanglelabels": ["Car"]},
        'its "width" cannot be read',
    ),
    "no picture": ("bitmasklabels", {"imageDataURL": None, "bitmasklabels": ["Car"]}, "is no PNG"),
    "labels that are a number": (
        "polygonlabels",
        {"points": CORNERS, "polygonlabels": 5},
        "does not tell what labels",
    ),
    "no value": ("brushlabels", 5, "its value is no object"),
}


def imported(task: int, image: str, *result: Any) -> dict[str, Any]:
    """The body of a webhook, as an import or a script has it sent, through a broker."""
    body = {
        "action": "ANNOTATION_CREATED",
        "annotation": {"id": 10 + task, "task": task, "result": [*result]},
        "task": {"id": task, "data": {"image": image}},
        "project": {
            "id": 7,
            "label_config": "<View><Image name='image' value='$image'/>"
            + "".join(
                f"<{form}Labels name='{form}' toName='image'><Label value='Car'/>"
                f"<Label value='Dog'/></{form}Labels>"
                for form in ("Polygon", "Rectangle")
            )
            + "</View>",
        },
    }
    told: dict[str, Any] = json.loads(json.dumps(asdict(Event.from_json(body))))
    return told


@pytest.mark.parametrize("name", MALFORMED)
def test_a_region_that_cannot_be_read_costs_neither_its_annotation_nor_its_project(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    kind, value, reason = MALFORMED[name]
    dog = {**region(MASK), "value": {**region(MASK)["value"], "brushlabels": ["Dog"]}}
    broken = {**region(MASK), "id": "x", "type": kind, "from_name": "Polygon", "value": value}
    if kind == "rectanglelabels":
        broken["from_name"] = "Rectangle"
    collected = Collected(settings.model_dir)
    collected.take(imported(1, "/data/local-files/?d=one.png", broken, dog))
    collected.take(imported(2, "/data/local-files/?d=one.png", region(MASK)))
    assert cli.main(["export", "--project", "7", "--out", str(tmp_path / "out")]) == 0
    assert reason in capsys.readouterr().out
    listed = json.loads((tmp_path / "out" / "coco-rle.json").read_text())
    assert [image["labels"] for image in listed["images"]] == [["Dog"], ["Car", "Dog"]]
    accepted = accepted_in_studio(settings, studio_of(settings), 7)
    first, second = accepted.source(tuple(Part), Account())  # as training and measuring have it
    assert (first.mask("Dog") == MASK).all()
    assert (second.mask("Car") == MASK).all()
    assert len(accepted.acceptance().works) == 2


def test_ids_that_pair_nothing_cost_neither_their_annotation_nor_their_project(
    settings: Settings,
) -> None:
    box = {**region(MASK), "id": [1], "type": "rectangle", "from_name": "Rectangle", "value": BOX}
    label = {**box, "type": "labels", "value": {**BOX, "labels": ["Car"]}}
    collected = Collected(settings.model_dir)
    collected.take(imported(1, "/data/local-files/?d=one.png", box, label, region(MASK)))
    source = accepted_in_studio(settings, studio_of(settings), 7).source
    account = Account()
    (sample,) = source(tuple(Part), account)
    assert (sample.mask("Car") == MASK).all()
    assert account.left_out == {"it does not tell what labels it has": 1}


def test_a_project_that_nothing_is_known_of_is_told(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TooLittleData, match="No webhook has told of project 8"):
        studio_of(settings).project(8)
    assert cli.main(["export", "--project", "8"]) == 1
    assert "LABEL_STUDIO_API_KEY" in capsys.readouterr().err


def test_what_annotations_say_is_known_before_any_image_is_asked_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    fetch = ImageStore.fetch

    def counting(self: ImageStore, url: str) -> TaskImage:
        fetched.append(url)
        return fetch(self, url)

    monkeypatch.setattr(ImageStore, "fetch", counting)
    for task in (1, 2, 3):
        Collected(settings.model_dir).take(asdict(submitted(task, "/data/local-files/?d=one.png")))
    account = Account()
    found = list(accepted_in_studio(settings, studio_of(settings), 7).marked(account))
    assert [one.task for one in found] == [1, 2, 3]
    assert (found[0].masks["Car"] == MASK).all()
    assert not fetched
    sample = found[1].see()
    assert sample is not None
    assert (sample.mask("Car") == MASK).all()
    assert len(fetched) == account.parts.total() == 1


def test_training_hears_from_label_studio_what_was_changed_of_a_prediction(
    settings: Settings, studio: FakeLabelStudio
) -> None:
    known = replace(settings, label_studio_url=studio.url, label_studio_api_key=TOKEN)
    asked = studio_of(known)
    assert isinstance(asked, Pulled)
    project = studio.add_project("Cars", label_config(["Car"]))
    task = studio.add_task(project, image="/data/local-files/?d=one.png")
    predicted = np.ones((4, 6), bool)
    asked.api.create_predictions(
        project, [{"task": task, "result": [region(predicted)], "model_version": "v", "score": 1}]
    )
    studio.annotate(task, [region(MASK)], parent_prediction=studio.predictions[0]["id"])
    accepted = accepted_in_studio(known, asked, project)
    (sample,) = accepted.source(tuple(Part), Account())
    assert (sample.corrected["Car"] == (predicted ^ MASK)).all()


def test_without_a_key_training_hears_what_was_changed_of_what_was_answered(
    settings: Settings,
) -> None:
    predicted = np.ones((4, 6), bool)
    answered = {"result": [region(predicted)], "score": 1.0, "model_version": "v"}
    Predicted.of(settings).keep(1, answered)
    Collected(settings.model_dir).take(asdict(submitted(1, "/data/local-files/?d=one.png", 5)))
    (sample,) = accepted_in_studio(settings, studio_of(settings), 7).source(tuple(Part), Account())
    assert (sample.corrected["Car"] == (predicted ^ MASK)).all()


def test_without_a_key_what_was_accepted_is_held_against_what_was_answered(
    settings: Settings,
) -> None:
    version = "clipseg-1f0c93aa-aaaaaaaa"
    answered = [region(np.ones((4, 6), bool)), {**region(MASK), "id": "gone"}]
    predicted = Predicted.of(settings)
    for task in (1, 2):
        predicted.keep(task, {"result": answered[:task], "score": 1.0, "model_version": version})
        Collected(settings.model_dir).take(asdict(submitted(task, "one.png", task)))
    figures = measure(studio_of(settings), 7, settings.model_dir).figures()["1f0c93aa"]
    assert (figures.annotations, figures.predicted, figures.untouched) == (2, 2, 0)
    assert figures.iou == MASK.mean()


def test_label_studio_is_asked_where_it_is_known() -> None:
    known = Settings(label_studio_url="http://studio", label_studio_api_key="k")
    assert isinstance(studio_of(known), Pulled)
