from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.inference.outlines import polygons
from backend.labelstudio import brush
from backend.labelstudio.regions import bitmask_value, polygon_value
from backend.labelstudio.shapes import areas

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


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"value": {"rle": [1, 2, 3]}}, "cut short"),
        ({"value": {}}, "malformed"),
        ({"value": {"rle": "AAAA"}}, "cut short"),
        ({"image_rotation": 90}, "rotation tool"),
        ({"original_width": None}, "size"),
        ({"type": "polygonlabels", "value": {"points": [[1], [2]]}}, "unpack"),
        ({"type": "ellipselabels", "value": {"x": "a"}}, "convert"),
        ({"type": "bitmasklabels", "value": {"imageDataURL": "data:,AAAA"}}, "malformed"),
    ],
)
def test_what_cannot_be_read_says_why(changed: dict[str, Any], words: str) -> None:
    (area,) = areas([{**region("brushlabels", {}), **changed}])
    with pytest.raises(ValueError, match=words):
        area.mask()
