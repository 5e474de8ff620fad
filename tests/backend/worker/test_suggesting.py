import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.pipeline import Served
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, Origin, Phrase
from backend.inference.sighting import Sighting
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.events import Annotated, Event, Kind
from backend.labelstudio.images import ImageStore
from backend.labelstudio.regions import brush_value
from backend.learning.collected import Collected
from backend.prompting import Query
from backend.settings import Settings
from backend.worker import suggesting
from backend.worker.suggesting import Suggester
from models import Segmenter
from tests.backend.fake_label_studio import LABEL_CONFIG, TOKEN, FakeLabelStudio

TWO_IMAGES = """<View><Image name="i" value="$image"/><Image name="j" value="$other"/>
<BrushLabels name="b" toName="i"><Label value="Dog"/></BrushLabels>
<BrushLabels name="c" toName="j"><Label value="Car"/></BrushLabels></View>"""
WORDS = Vocabulary((("car",), ("tree",)), (("red",),))


def uri() -> str:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((64, 48)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def region() -> dict[str, Any]:
    """A mask of a red car, in the middle of that image."""
    mask = np.zeros((48, 64), bool)
    mask[12:36, 16:48] = True
    named = {"id": "r", "from_name": "brush", "to_name": "image", "type": "brushlabels"}
    value = {**brush_value(mask), "brushlabels": ["RedCar"]}
    return {**named, "original_height": 48, "original_width": 64, "value": value}


def payload(**said: Any) -> dict[str, Any]:
    task = {"id": said.pop("task", None)}
    return {"project": None, "label": None, "image": None, **said, "task": task}


@pytest.fixture
def settings(studio: FakeLabelStudio, tmp_path: Path) -> Settings:
    return Settings(
        label_studio_url=studio.url,
        label_studio_api_key=TOKEN,
        model_dir=tmp_path / "models",
        data_dir=tmp_path,
        threshold=0.01,
    )


@pytest.fixture
def made(segmenter: Segmenter, store: Callable[..., ImageStore]) -> Callable[[Settings], Suggester]:
    """Makes one of settings."""
    served = Served(Predictor(segmenter, FeatureCache(10**7)), "clipseg", "0" * 64)
    return lambda settings: Suggester(settings, lambda _: served, store(), WORDS)


@pytest.fixture
def suggester(made: Callable[[Settings], Suggester], settings: Settings) -> Suggester:
    return made(settings)


def test_an_image_of_no_project_is_looked_at(suggester: Suggester) -> None:
    [(answer, seconds)] = suggester.answer([payload(image=uri())])
    assert {one["text"] for one in answer["image"]} <= {"car", "tree", "red", "red car", "red tree"}
    assert 0 < seconds < 60


def test_of_a_projects_image_the_labels_own_prompts_are_tried(
    suggester: Suggester, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[list[str]] = []

    def looked(_: object, __: object, asked: Sequence[Query], *___: object) -> list[Sighting]:
        tried.append([query.label for query in asked])
        return []

    monkeypatch.setattr(suggesting, "of_image", looked)
    project = studio.add_project(label_config=TWO_IMAGES)
    task = studio.add_task(project, image=uri())
    suggester.answer([payload(project=project, image=uri()), payload(project=project, task=task)])
    assert tried == [["Dog", "Car"]] * 2


def test_a_tasks_image_is_looked_at(suggester: Suggester, studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    task = studio.add_task(project, image=uri())
    [(answer, _)] = suggester.answer([payload(project=project, task=task)])
    assert {one["source"] for one in answer["image"]} <= {
        "prompt",
        "vocabulary",
        "attribute",
        "composition",
    }
    [(missing, _)] = suggester.answer([payload(project=project, task=10**6)])
    assert "has no task" in missing["detail"]


def test_of_several_images_one_that_the_task_has_and_the_label_is_on_is_looked_at(
    suggester: Suggester, studio: FakeLabelStudio
) -> None:
    project = studio.add_project(label_config=TWO_IMAGES)

    def told(label: str | None, **data: str) -> str | None:
        task = studio.add_task(project, **data)
        [(answer, _)] = suggester.answer([payload(project=project, label=label, task=task)])
        return answer.get("detail")

    assert told(None, image="", other=uri()) is None
    assert told("Car", image="http://127.0.0.1:1/a.png", other=uri()) is None
    assert 'has no "image"' in str(told(None, image="", other=""))
    assert 'has no "other"' in str(told("Car", image=uri(), other=""))
    assert "no label" in str(told("Moon", image=uri(), other=uri()))


def test_a_label_in_an_image_is_told_its_own_phrases(
    suggester: Suggester, studio: FakeLabelStudio
) -> None:
    project = studio.add_project()
    [(answer, _)] = suggester.answer([payload(project=project, label="RedCar", image=uri())])
    [found] = answer["labels"]
    assert (found["label"], found["basis"], found["asked"]) == ("RedCar", "image", ["red car"])


def test_a_label_is_asked_with_the_words_of_its_projects_book(
    suggester: Suggester, studio: FakeLabelStudio, settings: Settings
) -> None:
    project = studio.add_project()
    said = Entry("RedCar").setting(texts=(Phrase("a red lorry", Origin.HAND),))
    Books(settings.model_dir).put(project, "by hand", said)
    [(answer, _)] = suggester.answer([payload(project=project, label="RedCar", image=uri())])
    assert answer["labels"][0]["asked"] == ["a red lorry"]


def test_a_projects_labels_are_told_phrases_by_what_was_accepted(
    suggester: Suggester, studio: FakeLabelStudio
) -> None:
    project = studio.add_project()
    for _ in range(3):  # the tasks that are there to judge tell nothing
        studio.annotate(studio.add_task(project, image=uri()), [region()])
    answers = suggester.answer([payload(project=project), payload(project=project, label="RedCar")])
    for answer, _ in answers:
        found = {one["label"]: (one["basis"], one["phrases"]) for one in answer["labels"]}
        basis, phrases = found["RedCar"]
        assert basis == "accepted"
        assert {one["text"] for one in phrases} >= {"red car", "car"}


def test_without_label_studios_address_what_webhooks_brought_is_gone_by_and_no_task_is_known(
    made: Callable[[Settings], Suggester], settings: Settings
) -> None:
    saved = Annotated(11, 1, {"image": uri()}, (region(),), False)
    event = Event(
        Kind.ANNOTATED, "ANNOTATION_CREATED", 7, saved=(saved,), label_config=LABEL_CONFIG
    )
    Collected(settings.model_dir).take(asdict(event))
    alone = made(replace(settings, label_studio_url=None, label_studio_api_key=None))
    asked = [payload(project=7, label="RedCar"), payload(project=7, task=1)]
    (gone_by, _), (refused, _) = alone.answer(asked)
    assert gone_by["labels"][0]["basis"] == "accepted"
    assert refused["error"] == "BadRequest"
    assert "LABEL_STUDIO_URL" in refused["detail"]


def test_each_failure_stays_with_who_asked(suggester: Suggester, studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    asked = [
        payload(project=project),
        payload(project=project, label="Moon"),
        payload(image="data:image/png;base64,AAAA"),
        payload(image=uri()),
    ]
    names = [answer.get("error") for answer, _ in suggester.answer(asked)]
    assert names == ["NothingToGoBy", "BadRequest", "ImageUnreadable", None]


def test_an_image_that_needs_more_memory_than_there_is_says_so(
    suggester: Suggester, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short_of_memory(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(segmenter, "encode_image", short_of_memory)
    [(answer, _)] = suggester.answer([payload(image=uri())])
    assert answer["error"] == "OutOfMemory"
    assert "too little memory" in answer["detail"]
