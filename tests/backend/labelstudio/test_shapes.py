import io
import math
from base64 import b64encode
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from backend.inference.outlines import polygons
from backend.labelstudio import brush
from backend.labelstudio.regions import bitmask_value, polygon_value
from backend.labelstudio.shapes import FORMS, areas

HEIGHT, WIDTH = 12, 17
masks = arrays(np.bool_, (HEIGHT, WIDTH))


def region(kind: str, value: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "id": "a",
        "from_name": "brush",
        "to_name": "image",
        "type": kind,
        "original_height": HEIGHT,
        "original_width": WIDTH,
        "image_rotation": 0,
        "value": value,
        **rest,
    }


@given(masks, st.booleans())
def test_a_stroke_is_its_mask_as_a_list_and_as_base64(
    mask: np.ndarray[Any, Any], packed: bool
) -> None:
    rle = brush.encode(mask)
    value = {"rle": b64encode(rle).decode() if packed else list(rle), "brushlabels": ["Car"]}
    (area,) = areas([region("brushlabels", value)])
    assert area.labels == ("Car",)
    assert (area.mask() == mask).all()


@given(masks)
def test_a_bitmask_is_its_mask(mask: np.ndarray[Any, Any]) -> None:
    (area,) = areas([region("bitmasklabels", bitmask_value(mask))])
    assert (area.mask() == mask).all()


def test_a_bitmask_is_read_whatever_pillow_takes_for_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = np.eye(HEIGHT, WIDTH, dtype=bool)
    value = bitmask_value(mask)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    (area,) = areas([region("bitmasklabels", value)])
    assert (area.mask() == mask).all()


def test_the_soft_edge_of_a_stroke_counts_from_half() -> None:
    literal = [0, 1, 127, 128, 200, 255]  # alphas, as RGBA of an image of one row
    bits = f"{4 * len(literal):032b}" + f"{7:05b}" + "".join(f"{n - 1:04b}" for n in (3, 4, 8, 16))
    for alpha in literal:
        bits += "1" + "00" + f"{3:03b}" + f"{alpha:08b}"
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    value = {"rle": rle, "brushlabels": ["Car"]}
    (area,) = areas([region("brushlabels", value, original_height=1, original_width=6)])
    assert area.mask().tolist() == [[False, False, False, True, True, True]]


def test_an_outline_of_ours_is_read_back_as_the_mask_it_came_from() -> None:
    rows, columns = np.ogrid[:200, :300]
    radius = np.hypot(rows - 90, columns - 140)
    mask = (radius < 70) & (radius > 30)
    (ring,) = polygons(mask)
    value = {**polygon_value(ring.tolist()), "polygonlabels": ["Ring"]}
    (area,) = areas([region("polygonlabels", value, original_height=200, original_width=300)])
    found = area.mask()
    assert (found & mask).sum() / (found | mask).sum() > 0.97


def test_labels_of_their_own_tag_are_found_by_the_regions_id() -> None:
    box = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}
    (area,) = areas(
        [
            region("labels", {**box, "labels": ["Car"]}, from_name="labels"),
            region("rectangle", box, from_name="box"),
            region("labels", {**box, "labels": ["Dog"]}, id="b", from_name="labels"),
        ]
    )
    assert (area.control, area.form, area.labels) == ("box", "rectangle", ("Car",))


@pytest.mark.parametrize(
    ("told", "labels", "fault"),
    [(["Dirty"], ("Car", "Dirty"), False), ([], ("Car",), False), ([7], (), True)],
)
@pytest.mark.parametrize("turned", [False, True])
def test_labels_of_several_tags_are_all_of_the_region(
    told: list[Any], labels: tuple[str, ...], fault: bool, turned: bool
) -> None:
    car = region("labels", {"labels": ["Car"]}, from_name="labels")
    state = region("labels", {"labels": told}, from_name="state")
    (area,) = areas([region("rectangle", BOX), *([state, car] if turned else [car, state])])
    assert set(area.labels) == set(labels)
    assert bool(area.fault) is fault


def test_a_region_with_labels_of_its_own_may_have_those_of_another_tag_too() -> None:
    box = region("rectanglelabels", {**BOX, "rectanglelabels": ["Car"]}, from_name="box")
    state = region("labels", {**BOX, "labels": ["Dirty"]}, from_name="state")
    (area,) = areas([box, state])
    assert area.labels == ("Car", "Dirty")


def test_a_region_lies_where_it_was_drawn_however_the_image_was_turned_meanwhile() -> None:
    box = region("rectanglelabels", {**BOX, "rectanglelabels": ["Car"]})
    upright, turned = areas([box, {**box, "image_rotation": 270}])
    assert (upright.mask() == turned.mask()).all()


def test_points_and_texts_are_no_areas() -> None:
    assert not list(
        areas(
            [
                region("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["Car"]}),
                region("textarea", {"text": ["car"]}),
                region("choices", {"choices": ["car"]}),
            ]
        )
    )


CORNERS = [[0, 0], [50, 0], [50, 50]]
BOX = {"x": 0, "y": 0, "width": 50, "height": 50}
OVAL = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20}
ENDLESS = [math.nan, math.inf, -math.inf, "1e999", "nan", 10**400, 1e300, True, None, "a", [1]]


def picture(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("RGBA", (width, height)).save(file, "PNG")
    return b64encode(file.getvalue()).decode()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"value": {"rle": [1, 2, 3]}}, "cut short"),
        ({"value": {}}, "no list of bytes"),
        ({"value": {"rle": {"1": 2}}}, "no list of bytes"),
        ({"value": {"rle": [10**400]}}, "whole numbers from 0 to 255"),
        ({"value": {"rle": "AAAA"}}, "cut short"),
        ({"value": {"rle": "A"}}, "no base64"),
        ({"original_width": None}, "size"),
        ({"original_width": True}, "size"),
        ({"original_width": WIDTH + 0.5}, "size"),
        ({"original_width": math.nan}, "size"),
        ({"original_width": math.inf}, "size"),
        ({"original_height": -4}, "size"),
        ({"original_height": 10**400}, "size"),
        ({"original_width": 10**8, "original_height": 10**8}, "100000000 x 100000000 pixels"),
        ({"type": "polygonlabels", "value": {"points": [[1], [2]]}}, "no list of pairs"),
        ({"type": "polygonlabels", "value": {"points": ["12", "34"]}}, "no list of pairs"),
        ({"type": "polygonlabels", "value": {"points": {"12": 0}}}, "no list of pairs"),
        ({"type": "polygonlabels", "value": {}}, "no list of pairs"),
        ({"type": "ellipselabels", "value": {"x": "a"}}, '"x" cannot be read'),
        ({"type": "bitmasklabels", "value": {"imageDataURL": "data:,AAAA"}}, "no PNG"),
        ({"type": "bitmasklabels", "value": {"imageDataURL": "data:,é"}}, "no PNG"),
        ({"type": "bitmasklabels", "value": {"imageDataURL": None}}, "no PNG"),
        ({"type": "bitmasklabels", "value": {"imageDataURL": 5}}, "no PNG"),
        (
            {"type": "bitmasklabels", "value": {"imageDataURL": f"data:,{picture(9, 8)}"}},
            "9 x 8 pixels, not the image's",
        ),
        ({"value": None}, "no object"),
        ({"value": 5}, "no object"),
        ({"value": []}, "no object"),
    ],
)
def test_what_cannot_be_read_says_why(changed: dict[str, Any], words: str) -> None:
    (area,) = areas([{**region("brushlabels", {}), **changed}])
    with pytest.raises(ValueError, match=words):
        area.mask()


@pytest.mark.parametrize("number", ENDLESS)
@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        *(("rectanglelabels", BOX, key) for key in ("x", "width", "rotation")),
        *(("ellipselabels", OVAL, key) for key in ("y", "radiusX", "rotation")),
    ],
)
def test_a_number_that_no_place_can_have_is_told(
    kind: str, value: dict[str, Any], key: str, number: object
) -> None:
    if (key, number) == ("rotation", None):
        return  # an outline need not be turned
    (area,) = areas([region(kind, {**value, key: number})])
    with pytest.raises(ValueError, match=f'"{key}" cannot be read, or is too large'):
        area.mask()


@pytest.mark.parametrize("number", ENDLESS)
def test_a_corner_that_no_place_can_have_is_told(number: object) -> None:
    (area,) = areas([region("polygonlabels", {"points": [*CORNERS, [1, number]]})])
    with pytest.raises(ValueError, match='"points" cannot be read, or is too large'):
        area.mask()


def test_a_size_may_be_written_as_a_number_with_a_point() -> None:
    sizes = {"original_width": float(WIDTH), "original_height": float(HEIGHT)}
    box, same = areas([region("rectangle", BOX), region("rectangle", BOX, **sizes)])
    assert same.size == (HEIGHT, WIDTH)
    assert (same.mask() == box.mask()).all()


def test_a_mask_is_not_made_for_another_size_than_the_images() -> None:
    side = 10**8  # a byte for each pixel would be ten petabytes
    huge = region("polygonlabels", {"points": CORNERS}, original_width=side, original_height=side)
    (area,) = areas([huge])
    with pytest.raises(ValueError, match="and the image has 17 x 12"):
        area.mask((HEIGHT, WIDTH))


@pytest.mark.parametrize("labels", [5, "Car", {"Car": 1}, [5], True])
def test_labels_that_cannot_be_told_are_a_fault(labels: object) -> None:
    (area,) = areas([region("polygonlabels", {"points": CORNERS, "polygonlabels": labels})])
    assert area.labels == ()
    with pytest.raises(ValueError, match="does not tell what labels"):
        area.mask()


def test_labels_are_no_others_where_an_id_cannot_tell_whose_they_are() -> None:
    for number in ([1], {"a": 1}, None):
        box = region("rectangle", BOX, id=number)
        car = region("labels", {**BOX, "labels": ["Car"]}, id=number)
        dog = region("labels", {**BOX, "labels": ["Dog"]})
        (area, found) = areas([box, car, region("rectangle", BOX), dog])
        assert (area.labels, found.labels) == ((), ("Dog",))
        assert area.fault
        assert not found.fault


@pytest.mark.parametrize("score", [math.nan, math.inf, 10**400, -1, 87, True, "1", [1]])
def test_a_score_that_is_no_share_is_none(score: object) -> None:
    (area,) = areas([region("rectanglelabels", BOX, score=score)])
    assert area.score is None


numbers = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
anything = st.recursive(
    numbers,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
kinds = st.sampled_from([f"{form}{end}" for form in FORMS for end in ("", "labels")] + ["labels"])
keys = ("points", "rle", "imageDataURL", "x", "y", "width", "height", "radiusX", "radiusY")
values = st.fixed_dictionaries({}, optional=dict.fromkeys((*keys, "rotation"), anything))
names = ("id", "from_name", "to_name", "image_rotation", "origin", "score", "meta", "parentID")


@given(
    kinds,
    values.map(lambda value: {**BOX, **OVAL, "points": CORNERS, **value}) | anything,
    anything,
    st.fixed_dictionaries({}, optional=dict.fromkeys((*names, "original_width"), anything)),
)
def test_whatever_is_in_a_region_it_is_a_mask_or_says_why_not(
    kind: str, value: object, labels: object, rest: dict[str, Any]
) -> None:
    if isinstance(value, dict):
        value = {**value, kind: labels}
    for area in areas([{**region(kind, {}), "value": value, **rest}, region("labels", {})]):
        with suppress(ValueError):
            assert area.mask((HEIGHT, WIDTH)).shape == (HEIGHT, WIDTH)
