import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from backend.inference.books import Books
from backend.inference.clusters import FIRST, Clusters
from backend.inference.features import FeatureCache
from backend.inference.forms import shapes
from backend.inference.pipeline import Pipeline, Served
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, Origin, Phrase, Shown
from backend.inference.scores import Scores
from backend.labelstudio import brush
from backend.labelstudio.config import Role, parse_label_config
from backend.labelstudio.geometry import Rectangle
from backend.labelstudio.images import ImageStore
from backend.labelstudio.interaction import Interaction
from backend.labelstudio.regions import prediction
from models import ImageFeatures, Segmenter
from models.segmenter import marked

CONFIG = """<View><TextArea name="prompt" toName="i"/><Image name="i" value="$image"/>
<Image name="j" value="$other"/>
<BrushLabels name="b" toName="i" model_score_threshold="0.01"><Label value="dog"/>
<Label value="long" predicted_values="{long}"/></BrushLabels>
<BrushLabels name="c" toName="j" model_score_threshold="0.01"><Label value="cat"/></BrushLabels>
</View>"""
CHOICES = """<Choices name="suggestions" toName="i"><Choice value="sky"/><Choice value="sea"/>
</Choices>"""


def uri(seed: int, width: int = 40, height: int = 30, orientation: int = 1) -> str:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def payload(**changes: Any) -> dict[str, Any]:
    data = {"image": uri(1), "other": uri(2, 20, 50)}
    return {
        "task": {"id": 1, "data": {**data, **changes.pop("data", {})}},
        "label_config": CONFIG.format(long="red"),
        "interaction": None,
        **changes,
    }


@pytest.fixture
def pipeline(segmenter: Segmenter, tmp_path: Path) -> Pipeline:
    images = ImageStore(
        cache_dir=tmp_path,
        cache_bytes=10**6,
        label_studio_url=None,
        api_key=None,
        local_root=None,
        allowed_hosts=frozenset(),
        max_bytes=10**6,
        max_pixels=10**6,
        timeout=1,
    )
    served = Served(Predictor(segmenter, FeatureCache(10**7)), "clipseg", "0" * 64)
    return Pipeline(lambda _: served, images, threshold=0.4)


def test_each_control_draws_on_its_own_image(pipeline: Pipeline) -> None:
    ((answer, _),) = pipeline.answer([payload()])
    sizes = {r["control"]: (r["width"], r["height"]) for r in answer["regions"]}
    assert sizes == {"b": (40, 30), "c": (20, 50)}
    assert {r["label"] for r in answer["regions"]} == {"dog", "long", "cat"}
    for region in answer["regions"]:
        mask = brush.decode(
            base64.b64decode(region["value"]["rle"]), region["height"], region["width"]
        )
        assert (mask == 255).any()


def test_masks_are_packed_one_by_one(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    deeds = []

    def noted(deed: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def do(*given: Any) -> Any:
            deeds.append(deed)
            return does(*given)

        return do

    monkeypatch.setattr("backend.inference.predictor.marked", noted("drawn", marked))
    monkeypatch.setattr("backend.inference.pipeline.shapes", noted("packed", shapes))
    pipeline.answer([payload()])
    assert deeds == ["drawn", "packed"] * 3


def test_an_answer_tells_where_its_time_went(pipeline: Pipeline) -> None:
    ((answer, seconds),) = pipeline.answer([payload()])
    assert set(answer["seconds"]) == {"fetch", "encode", "draw"}
    assert all(spent > 0 for spent in answer["seconds"].values())
    assert sum(answer["seconds"].values()) == seconds


@pytest.mark.parametrize("form", ["Brush", "Bitmask", "Polygon", "Rectangle"])
def test_every_form_fits_the_image_as_it_is_shown(pipeline: Pipeline, form: str) -> None:
    xml = f"""<View><Image name="i" value="$image"/>
    <{form}Labels name="a" toName="i" model_score_threshold="0.01"><Label value="dog"/>
    </{form}Labels></View>"""
    turned = {"image": uri(1, 40, 30, orientation=6)}  # a quarter turn: shown 30 wide, 40 high
    ((answer, _),) = pipeline.answer([payload(label_config=xml, data=turned)])
    result = prediction(answer, parse_label_config(xml))["result"]
    assert {(r["original_width"], r["original_height"]) for r in result} == {(30, 40)}


def test_a_label_that_cannot_be_asked_costs_the_others_nothing(pipeline: Pipeline) -> None:
    config = CONFIG.format(long="red " * 100)
    ((answer, _),) = pipeline.answer([payload(label_config=config)])
    assert {r["label"] for r in answer["regions"]} == {"dog", "cat"}
    assert set(answer["refused"]) == {"long"}
    assert "token" in answer["refused"]["long"]


def test_what_a_label_is_not_costs_nothing_but_itself_where_it_is_too_long(
    pipeline: Pipeline,
) -> None:
    config = CONFIG.format(long=f"a dog, not {'red ' * 100}")
    ((answer, _),) = pipeline.answer([payload(label_config=config)])
    assert {r["label"] for r in answer["regions"]} == {"dog", "long", "cat"}
    assert "token" in answer["refused"]["long"]


def test_a_changed_book_counts_from_the_next_task_on(
    segmenter: Segmenter, pipeline: Pipeline, store: Callable[..., ImageStore], tmp_path: Path
) -> None:
    books, served = Books(tmp_path / "models"), pipeline._serving(7)
    asking = Pipeline(lambda _: served, store(), threshold=0.4, books=books.serving)

    def answer(project: int = 7) -> dict[str, Any]:
        ((told, _),) = asking.answer([payload(project=project)])
        return {name: value for name, value in told.items() if name != "seconds"}

    before = answer()
    condition = segmenter.encode_text(["blue"])[0].numpy()
    books.keep(7, "ab", condition)
    books.put(7, "", Entry("dog", exemplars=(Shown("ab", 1),), weight=1.0))
    shown = answer()
    assert shown["model_version"] != before["model_version"]
    assert shown["regions"] != before["regions"]
    books.put(7, "", Entry("dog").setting(texts=(Phrase("blue", Origin.HAND),)))
    assert answer()["regions"] == shown["regions"]
    assert answer(8) == before
    books.rollback(7, 0)
    assert answer() == before


def test_a_pre_annotation_tells_the_cluster_of_its_image(
    pipeline: Pipeline, store: Callable[..., ImageStore], tmp_path: Path
) -> None:
    served, clusters = pipeline._serving(7), Clusters(tmp_path / "models")
    grouping = Pipeline(lambda _: served, store(), threshold=0.4, clusters=clusters.of)

    def told(seed: int, **changes: Any) -> object:
        one = payload(data={"image": uri(seed)}, **{"project": 7, **changes})
        ((answer, _),) = grouping.answer([one])
        return answer.get("cluster")

    *before, known = [told(seed) for seed in range(FIRST)]
    assert set(before) == {None}
    assert known == told(FIRST - 1)
    assert told(FIRST - 1, interaction=Interaction("red").to_json()) is None
    assert told(FIRST - 1, project=None) is None


def test_failures_stay_with_their_task(pipeline: Pipeline) -> None:
    bad = [
        payload(data={"image": "data:image/png;base64,AAAA"}),
        payload(label_config="<View/>"),
        payload(task={"id": 3}),
        payload(interaction=Interaction("red " * 100).to_json()),
    ]
    answers = [answer for answer, _ in pipeline.answer([bad[0], payload(), *bad[1:]])]
    names = ["ImageUnreadable", None, "BadLabelConfig", "BadRequest", "BadPrompt"]
    assert [answer.get("error") for answer in answers] == names


def test_the_images_of_a_batch_take_no_longer_than_one(
    pipeline: Pipeline, store: Callable[..., ImageStore], server: Any
) -> None:
    served = pipeline._serving(None)
    asking = Pipeline(lambda _: served, store(timeout=1.0), threshold=0.4)  # two seconds in all
    drawn = base64.b64decode(uri(1, 4, 4).partition(",")[2])
    server.reply("/a.png", drawn, wait=0.5)
    server.reply("/b.png", drawn, drip=1.8 / len(drawn))
    one, two = {"image": f"{server.url}/a.png"}, {"other": f"{server.url}/b.png"}
    ((both, _), (neither, _)) = asking.answer([payload(data=one | two), payload()])
    assert "b.png" in both["detail"]
    assert "took too long" in both["detail"]
    assert neither["regions"]


def test_a_task_that_lacks_one_of_two_images_is_answered_on_the_other(pipeline: Pipeline) -> None:
    for lacking, others in (("image", {"c"}), ("other", {"b"})):
        for nothing in (None, " "):
            ((answer, _),) = pipeline.answer([payload(data={lacking: nothing})])
            assert {region["control"] for region in answer["regions"]} == others
    ((answer, _),) = pipeline.answer([payload(data={"image": None, "other": None})])
    assert answer["error"] == "ImageMissing"


@pytest.mark.parametrize("gone", [None, "http://127.0.0.1:9/gone.png"])
def test_shapes_on_one_image_need_no_other(pipeline: Pipeline, gone: str | None) -> None:
    box = Rectangle(0, 0, 50, 50, 0)
    asked = Interaction(to_name="j", label="cat", rectangles=(box,)).to_json()
    ((answer, _),) = pipeline.answer([payload(data={"image": gone}, interaction=asked)])
    assert answer.get("error") is None
    assert {region["control"] for region in answer["regions"]} <= {"c"}


def test_a_phrase_is_looked_for_on_the_image_that_is_there(pipeline: Pipeline) -> None:
    asked = Interaction(prompt="dog").to_json()
    ((answer, _),) = pipeline.answer([payload(data={"image": ""}, interaction=asked)])
    assert {region["control"] for region in answer["regions"]} == {"c"}


def test_a_batch_that_fails_as_a_whole_is_done_one_by_one(
    pipeline: Pipeline, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = segmenter.encode_image

    def short_of_memory(images: Any) -> list[ImageFeatures]:
        if len(images) > 1:
            raise RuntimeError("out of memory")
        return encode(images)

    monkeypatch.setattr(segmenter, "encode_image", short_of_memory)
    answers = pipeline.answer([payload(), payload(data={"image": uri(7)})])
    assert all(answer["regions"] for answer, _ in answers)


def test_a_defect_is_told_without_its_traceback(
    pipeline: Pipeline, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Any) -> list[ImageFeatures]:
        raise ZeroDivisionError("secret path")

    monkeypatch.setattr(segmenter, "encode_image", broken)
    ((answer, _),) = pipeline.answer([payload()])
    assert answer["error"] == "InternalError"
    assert "secret" not in answer["detail"]


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "another DEVICE"),
        (RuntimeError("MPS backend out of memory"), "another DEVICE"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "WORKERS"),
        (MemoryError(), "WORKERS"),
    ],
)
def test_an_image_that_needs_more_memory_than_there_is_says_so_alone(
    pipeline: Pipeline,
    segmenter: Segmenter,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    advice: str,
) -> None:
    encode = segmenter.encode_image

    def short_of_memory(images: Any) -> list[ImageFeatures]:
        if any(image.size == (41, 31) for image in images):
            raise failure
        return encode(images)

    monkeypatch.setattr(segmenter, "encode_image", short_of_memory)
    large = payload(data={"image": uri(7, 41, 31)})
    ((before, _), (told, _), (after, _)) = pipeline.answer([payload(), large, payload()])
    assert before["regions"]
    assert after["regions"]
    assert told["error"] == "OutOfMemory"
    assert "too little memory" in told["detail"]
    assert advice in told["detail"]


@pytest.mark.parametrize(("on", "control"), [("i", "b"), ("j", "c")])
def test_a_label_of_two_images_is_asked_on_the_one_that_the_prompt_is_of(
    pipeline: Pipeline, on: str, control: str
) -> None:
    both = (
        CONFIG.format(long="red").replace("cat", "dog").replace('toName="i"/>', f'toName="{on}"/>')
    )
    for typed in ("dog", "dog: the small one"):
        asked = payload(interaction=Interaction(typed).to_json(), label_config=both)
        ((answer, _),) = pipeline.answer([asked])
        assert {region["control"] for region in answer["regions"]} == {control}


def test_a_typed_prompt_is_asked_for_the_label_it_means(pipeline: Pipeline) -> None:
    ((answer, _),) = pipeline.answer(
        [payload(interaction=Interaction("cat: the small one").to_json())]
    )
    assert [(r["control"], r["label"]) for r in answer["regions"]] == [("c", "cat")]


def test_an_annotator_is_told_in_words_how_it_went(pipeline: Pipeline) -> None:
    strict = CONFIG.replace("0.01", "0.999").format(long="red")
    asked = Interaction("dog").to_json()
    found = payload(interaction=asked)
    nothing = payload(interaction=asked, label_config=strict)
    ((yes, _), (no, _)) = pipeline.answer([found, nothing])
    assert yes["remark"] == f"dog: found, score {yes['regions'][0]['score']:.2f}"
    assert (no["remark"], no["regions"]) == ("dog: nothing found", [])
    ((batch, _),) = pipeline.answer([payload()])
    assert "remark" not in batch


def test_rectangles_are_places_on_the_image_as_it_is_displayed(pipeline: Pipeline) -> None:
    stored, file = Image.new("RGB", (40, 24), "teal"), io.BytesIO()
    exif = stored.getexif()
    exif[0x0112] = 6  # displayed a quarter turned: 24 wide, 40 high
    stored.save(file, "JPEG", exif=exif)
    turned = "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
    asked = Interaction(
        label="dog", to_name="i", rectangles=(Rectangle(0, 75, 50, 25),), role=Role.REGION
    )
    ((answer, _),) = pipeline.answer([payload(data={"image": turned}, interaction=asked.to_json())])
    (region,) = answer["regions"]
    assert (region["width"], region["height"]) == (24, 40)
    mask = brush.decode(base64.b64decode(region["value"]["rle"]), 40, 24) == 255
    assert mask.any()
    assert not mask[:30].any()
    assert not mask[:, 12:].any()


def test_scores_are_certainties(pipeline: Pipeline) -> None:
    strict = CONFIG.replace("0.01", "0.999").format(long="red")
    ((found, _), (nothing, _)) = pipeline.answer([payload(), payload(label_config=strict)])
    assert nothing["regions"] == []
    assert 0 < nothing["score"] < 1
    scores = [region["score"] for region in found["regions"]]
    assert found["score"] == pytest.approx(sum(scores) / 3)


def test_a_question_mark_is_answered_with_phrases(pipeline: Pipeline) -> None:
    low = CONFIG.replace("</View>", CHOICES + "</View>").format(long="red")
    asked = payload(interaction=Interaction("?", wonders="").to_json(), label_config=low)
    ((answer, _),) = pipeline.answer([asked])
    assert answer["regions"] == []
    assert {one["text"] for one in answer["phrases"]} <= {"sky", "sea"}
    assert answer["remark"] == f"{len(answer['phrases'])} phrases find something"


def test_phrases_for_a_label_are_its_own(pipeline: Pipeline) -> None:
    asked = payload(interaction=Interaction("dog?", wonders="dog").to_json())
    ((answer, _),) = pipeline.answer([asked])
    assert {one["source"] for one in answer["phrases"]} <= {"prompt", "name", "composition"}
    unknown = payload(interaction=Interaction("whale?", wonders="whale").to_json())
    ((answer, _),) = pipeline.answer([unknown])
    assert answer["error"] == "BadPrompt"
    assert '"whale"' in answer["detail"]


def test_a_score_is_how_likely_it_is_accepted_once_that_is_known(
    segmenter: Segmenter, pipeline: Pipeline
) -> None:
    measured = Scores(slope=1.0, offset=-1.0, regions=30, accepted=10, error=0.1)
    served = Served(Predictor(segmenter, FeatureCache(10**7)), "clipseg", "0" * 64)
    told = Pipeline(lambda _: served, pipeline._images, threshold=0.4, scores=lambda _: measured)
    ((before, _), (after, _)) = (one.answer([payload()])[0] for one in (pipeline, told))
    confidences = [region["score"] for region in before["regions"]]
    assert [region["confidence"] for region in after["regions"]] == confidences
    assert [region["score"] for region in after["regions"]] == [
        measured.of(one) for one in confidences
    ]
    assert after["score"] < before["score"]
    assert after["model_version"] == before["model_version"]
