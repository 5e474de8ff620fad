"""Which regions say where a label is, and which leave that open."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from backend.labelstudio.config import parse_label_config
from backend.learning.dataset import Account
from backend.learning.drawn import BOXED
from tests.backend.learning.strokes import (
    XML,
    Images,
    annotation,
    mask,
    read,
    samples,
    stroke,
)


def test_a_label_whose_region_cannot_be_read_is_neither_present_nor_absent() -> None:
    broken = stroke("Car", mask((0, 0))) | {"value": {"rle": [1], "brushlabels": ["Car"]}}
    (sample,), account = read(annotation(1, broken, stroke("Car", mask((1, 1)))))
    assert sample.labels == ("Dog",)
    assert not sample.masks
    assert account.left_out.total() == 1


@pytest.mark.parametrize(
    ("labels", "told"),
    [(5, "it does not tell what labels it has"), ([], "the region has no label")],
)
def test_a_region_that_does_not_tell_its_label_leaves_open_what_nobody_drew(
    labels: object, told: str
) -> None:
    nameless = stroke("Car", mask((0, 0))) | {"value": {"rle": [1], "brushlabels": labels}}
    (sample,), account = read(annotation(1, nameless, stroke("Dog", mask((1, 1)))))
    assert sample.labels == ("Dog",)  # the other one may be a car
    assert (sample.mask("Dog") == mask((1, 1))).all()
    assert told in str(account)


def test_a_label_that_is_drawn_as_a_vector_is_neither_present_nor_absent() -> None:
    path = {"vertices": [{"x": 1, "y": 2}, {"x": 50, "y": 60}], "closed": False}
    vector = stroke("Car", mask()) | {
        "type": "vectorlabels",
        "value": {**path, "vectorlabels": ["Car"]},
    }
    (sample,), account = read(annotation(1, vector))
    assert (sample.labels, sample.masks) == (("Dog",), {})
    assert account.left_out == {"it is a vector, which is not filled: draw a polygon instead": 1}


def test_a_region_without_a_value_is_left_out_and_told() -> None:
    (sample,), account = read(
        annotation(1, stroke("Car", mask(), value=None), stroke("Dog", mask((1, 1))))
    )
    assert sample.labels == ("Dog",)
    assert "its value is no object" in str(account)


def test_what_was_drawn_while_the_image_had_another_name_is_told_and_says_of_no_absence() -> None:
    (sample,), account = read(annotation(1, stroke("Car", mask((0, 0)), to_name="photo")))
    assert (sample.labels, sample.masks) == (("Dog",), {})
    told = 'the labeling configuration has no image "photo" to look at'
    assert account.left_out == Counter({told: 1})


def test_what_is_on_another_image_is_of_no_account_here() -> None:
    beside = '<Image name="map" value="https://example.org/legend.png"/></View>'
    config = parse_label_config(XML.replace("</View>", beside))
    drawn = annotation(1, stroke("Car", mask((0, 0)), to_name="map"))
    account = Account()
    task = {"id": 1, "data": {"image": "u"}, "annotations": [drawn]}
    (sample,) = samples([task], config, Images(), account)
    assert (sample.labels, sample.masks) == (("Car", "Dog"), {})
    assert not account.left_out


def test_what_is_on_a_later_image_of_a_list_is_told_and_not_drawn_on_the_first() -> None:
    (sample,), account = read(
        annotation(
            1,
            stroke("Car", mask((0, 0)), item_index=1),
            stroke("Dog", mask((1, 1)), item_index=0),
        )
    )
    assert (sample.labels, set(sample.masks)) == (("Car", "Dog"), {"Dog"})
    assert account.left_out == {"the region is on a later image of a list": 1}


def test_a_tool_to_prompt_with_leaves_nothing_open_whatever_it_holds() -> None:
    tool = stroke("Car", mask()) | {"from_name": "box", "type": "rectanglelabels", "value": None}
    (sample,), _ = read(annotation(1, tool))
    assert sample.labels == ("Car", "Dog")


def test_a_region_drawn_on_another_size_is_left_out_and_told() -> None:
    (sample,), account = read(annotation(1, stroke("Car", np.ones((9, 9), bool))))
    assert sample.labels == ("Dog",)
    assert "drawn on 9 x 9 pixels, and the image has 6 x 4" in str(account)


def test_a_label_drawn_too_small_for_a_pixel_is_neither_present_nor_absent() -> None:
    corners = [[10, 10], [10.1, 10], [10, 10.1]]
    value = {"points": corners, "polygonlabels": ["Car"]}
    speck = stroke("Car", mask()) | {"type": "polygonlabels", "value": value}
    (sample,), account = read(annotation(1, speck))
    assert sample.labels == ("Dog",)
    assert "the polygon covers no pixel" in str(account)
    (sample,), _ = read(annotation(1, speck, stroke("Car", mask((1, 1)))))
    assert sample.mask("Car").sum() == 1


def test_a_brush_that_was_erased_whole_says_that_nothing_is_there() -> None:
    (sample,), _ = read(annotation(1, stroke("Car", mask())))
    assert sample.labels == ("Car", "Dog")
    assert not sample.masks


def test_rectangles_of_a_tool_to_prompt_with_are_no_truth() -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["Car"]}
    box = stroke("Car", mask()) | {"from_name": "box", "type": "rectanglelabels", "value": value}
    (sample,), account = read(annotation(1, box))
    assert not sample.masks
    assert "prompt with" in str(account)


def test_a_rectangle_around_what_has_its_label_is_a_box_and_no_area() -> None:
    def box(label: str, left: float, width: float) -> dict[str, Any]:
        place = {"x": left, "y": 0, "width": width, "height": 100, "rectanglelabels": [label]}
        return stroke(label, mask()) | {
            "from_name": "box",
            "type": "rectanglelabels",
            "value": place,
        }

    config = parse_label_config(XML.replace('name="box"', 'name="box" model_output="true"'))
    one = stroke("Car", mask((0, 0), (3, 1), (3, 3)))
    boxes = box("Car", 0, 50), box("Car", 50, 40), box("Car", 60, 40), box("Dog", 0, 50)
    account = Account()
    task = {"id": 1, "data": {"image": "u"}, "annotations": [annotation(1, *boxes, one)]}
    (sample,) = samples([task], config, Images(), account)
    beyond = mask(*((row, column) for row in range(4) for column in range(3, 6)))
    assert (sample.mask("Car") == mask((0, 0), (3, 1)) | beyond).all()
    assert sample.mask("Dog").sum() == 12
    assert account.left_out == {BOXED: 1}
    assert account.regions == {"brush": 1, "rectangle": 3}
