"""What leaves for Label Studio: regions that its own checks and its editor can take."""

import base64
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface
from numpy.typing import NDArray
from PIL import Image

from backend.labelstudio import brush
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.regions import (
    Json,
    bitmask_value,
    brush_value,
    polygon_value,
    prediction,
    rectangle_value,
    shape,
)

RECORDED = Path(__file__).parents[2] / "recorded"
MASK = np.zeros((20, 30), np.bool_)
MASK[5:15, 10:28] = True

VALUES: dict[str, Json] = {
    "Brush": brush_value(MASK),
    "Bitmask": bitmask_value(MASK),
    "Rectangle": rectangle_value(10.5, 20, 30, 80),
    "Polygon": polygon_value([[0, 0], [100, 0], [50, 99.5]]),
}


def labeled(form: str) -> str:
    return f"""<View><Image name="image" value="$image"/>
    <{form}Labels name="shape" toName="image"><Label value="dog"/><Label value="cat"/>
    </{form}Labels></View>"""


def split(form: str) -> str:
    return f"""<View><Image name="image" value="$image"/><{form} name="shape" toName="image"/>
    <Labels name="labels" toName="image"><Label value="dog"/><Label value="cat"/></Labels></View>"""


def answer(*regions: Json) -> dict[str, Any]:
    return {"regions": list(regions), "score": 0.5, "model_version": "v1"}


def dog(xml: str, value: Json, **changes: Any) -> Json:
    [control] = parse_label_config(xml).outputs
    return {**shape(control, "dog", value, (20, 30), 0.75), **changes}


def sent(xml: str, value: Json, **changes: Any) -> list[Json]:
    config = parse_label_config(xml)
    regions: list[Json] = prediction(answer(dog(xml, value, **changes)), config, 7)["result"]
    return regions


def test_a_prediction_holds_regions_score_and_version() -> None:
    config = parse_label_config(labeled("Brush"))
    assert prediction(answer(), config) == {"result": [], "score": 0.5, "model_version": "v1"}


@pytest.mark.parametrize("form", VALUES)
@pytest.mark.parametrize("xml", [labeled, split])
def test_every_form_passes_label_studios_own_check(form: str, xml: Any) -> None:
    config = xml(form)
    made = prediction(answer(dog(config, VALUES[form])), parse_label_config(config))
    assert made["result"]
    judge: Any = LabelInterface(config)
    judge.validate()
    assert judge.validate_prediction(json.loads(json.dumps(made)), return_errors=True) == []


@pytest.mark.parametrize("form", VALUES)
def test_a_control_with_labels_takes_one_region(form: str) -> None:
    [region] = sent(labeled(form), VALUES[form])
    kind = f"{form.lower()}labels"
    assert (region["from_name"], region["to_name"], region["type"]) == ("shape", "image", kind)
    assert (region["original_width"], region["original_height"]) == (30, 20)
    assert (region["value"][kind], region["score"]) == (["dog"], 0.75)


@pytest.mark.parametrize("form", VALUES)
def test_a_control_without_labels_takes_its_shape_and_its_label_under_one_id(form: str) -> None:
    bare, named = sent(split(form), VALUES[form])
    assert (bare["from_name"], bare["type"]) == ("shape", form.lower())
    assert (named["from_name"], named["type"]) == ("labels", "labels")
    assert bare["id"] == named["id"]
    assert named["value"] == {**bare["value"], "labels": ["dog"]}


def test_a_brush_region_is_what_the_editor_draws() -> None:
    [region] = sent(labeled("Brush"), brush_value(MASK))
    value = region["value"]
    assert (value["format"], value["brushlabels"]) == ("rle", ["dog"])
    assert isinstance(value["rle"], list)
    np.testing.assert_array_equal(brush.decode(value["rle"], 20, 30) == 255, MASK)


def test_our_brush_regions_have_the_keys_of_recorded_ones() -> None:
    request = json.loads((RECORDED / "predict-interactive-textarea.json").read_text())["json"]
    [saved] = request["tasks"][0]["predictions"]
    [ours] = sent(labeled("Brush"), brush_value(MASK))
    assert set(saved["result"][0]) - set(ours) == {"origin", "readonly"}  # added when it is saved
    assert set(saved["result"][0]["value"]) == set(ours["value"])


def test_a_bitmask_is_black_where_the_mask_is_and_else_transparent() -> None:
    [region] = sent(labeled("Bitmask"), bitmask_value(MASK))
    encoded = region["value"]["imageDataURL"].removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] == 255, MASK)
    assert not pixels[..., :3].any()
    assert set(np.unique(pixels[..., 3])) == {0, 255}


def test_a_bitmask_of_a_large_image_is_sent_whatever_pillow_takes_for_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    [region] = sent(labeled("Bitmask"), bitmask_value(MASK))
    assert region["value"]["imageDataURL"] == bitmask_value(MASK)["imageDataURL"]


def not_png(mask: NDArray[np.uint8]) -> Json:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "BMP")
    return {"imageDataURL": "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()}


EMPTY = np.zeros((20, 30), np.bool_)


@pytest.mark.parametrize(
    ("form", "value", "changes", "told"),
    [
        ("Brush", brush_value(MASK), {"control": "gone"}, "no such control"),
        ("Brush", brush_value(MASK), {"label": "zebra"}, "no such label"),
        ("Brush", brush_value(MASK), {"height": 21}, "does not fit"),
        ("Brush", brush_value(EMPTY), {}, "empty"),
        ("Brush", {"format": "rle", "rle": ""}, {}, "cut short"),
        ("Brush", {"format": "rle", "rle": "AAAA"}, {}, "cut short"),
        ("Bitmask", bitmask_value(MASK), {"width": 31}, "30 x 20"),
        ("Bitmask", bitmask_value(EMPTY), {}, "empty"),
        ("Bitmask", not_png(np.zeros((20, 30), np.uint8)), {}, "no PNG"),
        ("Bitmask", {"imageDataURL": "https://example.com/x.png"}, {}, "does not start"),
        ("Rectangle", rectangle_value(90, 0, 10, 100), {}, None),
        ("Rectangle", rectangle_value(90, 0, 11, 10), {}, "not in the image"),
        ("Rectangle", rectangle_value(0, -1, 10, 10), {}, "not in the image"),
        ("Rectangle", rectangle_value(5, 5, 0, 10), {}, "not in the image"),
        ("Rectangle", rectangle_value(5, 5, float("nan"), 10), {}, "not in the image"),
        ("Polygon", polygon_value([[0, 0], [100, 0]]), {}, "fewer than three points"),
        ("Polygon", polygon_value([[0, 0], [100, 0], [50, 100.1]]), {}, "not in the image"),
        ("Polygon", polygon_value([[0, 0], [-1, 0], [50, 100]]), {}, "not in the image"),
        ("Polygon", polygon_value([[0, 0], [50, 50], [100, 100]]), {}, "no area"),
    ],
)
def test_what_does_not_fit_is_dropped_alone_and_told(
    form: str, value: Json, changes: Json, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    xml = labeled(form)
    good = dog(xml, VALUES[form])
    with caplog.at_level(logging.WARNING):
        made = prediction(
            answer(good, dog(xml, value, **changes), good), parse_label_config(xml), 7
        )
    assert len(made["result"]) == (3 if told is None else 2)
    if told is None:
        assert not caplog.records
    else:
        [record] = caplog.records
        assert told in record.getMessage()
        assert "task 7" in record.getMessage()
