"""Which controls of a labeling configuration are filled, and with what labels."""

import pytest

from backend.labelstudio.config import (
    Control,
    Kind,
    parse_label_config,
)
from backend.labelstudio.labels import Label
from tests.backend.labelstudio.tags import IMAGE, control, view


def filled(*tags: str) -> list[str]:
    return [one.name for one in parse_label_config(view(IMAGE, *tags)).outputs]


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("BrushLabels", Kind.BRUSH),
        ("BitmaskLabels", Kind.BITMASK),
        ("PolygonLabels", Kind.POLYGON),
        ("RectangleLabels", Kind.RECTANGLE),
    ],
)
def test_any_form_alone_is_filled(form: str, kind: Kind) -> None:
    [output] = parse_label_config(view(IMAGE, control(form, "a"))).outputs
    assert (output.name, output.kind, output.labels) == ("a", kind, (Label("dog", ("dog",)),))


def test_beside_a_brush_other_controls_are_filled_when_they_say_so() -> None:
    box = control("RectangleLabels", "box")
    wanted = control("RectangleLabels", "wanted", 'model_output="true" smart="true"')
    bitmask = control("BitmaskLabels", "bitmask")
    assert filled(box, bitmask, control("BrushLabels", "brush"), wanted) == ["brush", "wanted"]
    assert filled(box, bitmask) == ["box", "bitmask"]
    spared = control("BrushLabels", "brush", 'model_output="false"')
    assert filled(spared, box, bitmask) == ["box", "bitmask"]
    assert filled(bitmask, control("RectangleLabels", "box", 'model_output="false"')) == ["bitmask"]


def test_a_tool_only_for_prompting_is_filled_when_it_says_so() -> None:
    bitmask = control("BitmaskLabels", "bitmask")
    assert filled(bitmask, control("RectangleLabels", "box", 'smartOnly="true"')) == ["bitmask"]
    told = 'smartOnly="true" model_output="true"'
    assert filled(control("RectangleLabels", "box", told)) == ["box"]


def test_a_brush_on_one_image_says_nothing_of_another() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            '<Image name="other" value="$other"/>',
            control("BrushLabels", "brush"),
            control("RectangleLabels", "box", to_name="other"),
        )
    )
    assert [(one.name, one.image_key) for one in config.outputs] == [
        ("brush", "image"),
        ("box", "other"),
    ]


def test_a_control_without_labels_takes_those_of_its_image() -> None:
    labels = (
        '<Labels name="labels" toName="image" model_score_threshold="0.2">'
        '<Label value="cat"/><Label value="dog" model_score_threshold="0.7"/></Labels>'
    )
    config = parse_label_config(view(IMAGE, control("Brush", "brush"), labels))
    assert config.outputs == (
        Control(
            "brush",
            "image",
            "image",
            Kind.BRUSH,
            (Label("cat", ("cat",), 0.2), Label("dog", ("dog",), 0.7)),
            "labels",
        ),
    )
    own = control("Brush", "brush", 'model_score_threshold="0.5"')
    [output] = parse_label_config(view(IMAGE, own, labels)).outputs
    assert [label.threshold for label in output.labels] == [0.5, 0.7]


def test_a_control_that_no_label_could_come_from_is_told() -> None:
    config = parse_label_config(
        view(IMAGE, control("Brush", "plain"), control("BrushLabels", "brush"))
    )
    assert [one.name for one in config.outputs] == ["brush"]
    [problem] = config.problems
    assert 'use <BrushLabels>, or add <Labels name="labels" toName="image">' in problem


def test_tools_that_are_not_filled_are_no_problem() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            control("BrushLabels", "brush"),
            control("Rectangle", "box"),
            control("RectangleLabels", "far", to_name="nowhere").replace("dog", "_"),
        )
    )
    assert config.problems == (
        '<RectangleLabels name="far"> is left out: toName="nowhere" is not the name of an <Image>',
    )


def test_a_region_for_each_instance_is_asked_by_an_attribute() -> None:
    tags = control("BrushLabels", "a", 'model_instances="True"') + control("BrushLabels", "b")
    outputs = parse_label_config(view(IMAGE, tags)).outputs
    assert [output.instances for output in outputs] == [True, False]
