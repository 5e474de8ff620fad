import json
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadLabelConfig
from backend.labelstudio.config import (
    Control,
    Kind,
    LabelConfig,
    Role,
    TextControl,
    Tool,
    parse_label_config,
)
from backend.labelstudio.labels import Label
from tests.backend.labelstudio.tags import IMAGE, brush, control, view

RECORDED = Path(__file__).parents[2] / "recorded"


def only_label(tag: str, attributes: str = 'name="brush" toName="image"') -> Label:
    [control] = parse_label_config(view(IMAGE, brush(tag, attributes=attributes))).outputs
    [label] = control.labels
    return label


def test_a_recorded_configuration_is_understood() -> None:
    schema = json.loads((RECORDED / "setup.json").read_text())["json"]["schema"]
    assert parse_label_config(schema) == LabelConfig(
        outputs=(
            Control(
                "brush",
                "image",
                "image",
                Kind.BRUSH,
                (Label("cat", ("cat",)), Label("dog", ("dog",)), Label("tree", ("tree",))),
            ),
        ),
        texts=(TextControl("prompt", "image", smart=True),),
        images=frozenset({"image"}),
        label_names=frozenset({"cat", "dog", "tree"}),
    )


def test_predicted_values_replace_the_labels_own_words() -> None:
    label = only_label('<Label value="Pet" predicted_values=" a dog, ,a cat,a dog,A  Dog, "/>')
    assert label == Label("Pet", ("a dog", "a cat"), worded=True)


def test_blank_predicted_values_leave_the_labels_own_words() -> None:
    assert only_label('<Label value="Pet" predicted_values=" , "/>') == Label("Pet", ("pet",))


def test_negative_values_say_what_a_label_is_not() -> None:
    label = only_label('<Label value="Car" negative_values=" the shadow, ,road,road"/>')
    assert label == Label("Car", ("car",), negatives=("the shadow", "road"))
    assert only_label('<Label value="Car"/>').negatives == ()


def test_a_not_in_predicted_values_says_it_too() -> None:
    label = only_label(
        '<Label value="Car" predicted_values="a car but not its shadow, not the road, a van" '
        'negative_values="sky"/>'
    )
    said = ("sky", "its shadow", "the road")
    assert label == Label("Car", ("a car", "a van"), worded=True, negatives=said)
    alone = only_label('<Label value="Car" predicted_values="not the road"/>')
    assert alone == Label("Car", ("car",), negatives=("the road",))
    for xml in ('<Label value="NotRipe"/>', '<Label value="NotRipe" predicted_values="not ripe"/>'):
        label = only_label(xml)
        assert (label.prompts, label.negatives) == (("not ripe",), ())


def test_labels_compete_where_the_control_says_so() -> None:
    said = 'name="brush" toName="image" model_compete="{}"'
    for text, competes in (("true", True), ("TRUE", True), ("false", False), ("no", False)):
        control = brush('<Label value="a"/>', attributes=said.format(text))
        assert parse_label_config(view(IMAGE, control)).outputs[0].competes is competes


def test_results_carry_the_alias_and_prompts_the_value() -> None:
    label = only_label('<Label value="Traffic Light" alias="TL"/>')
    assert label == Label("TL", ("traffic light",), shown="Traffic Light")
    assert only_label('<Label alias="TL"/>') == Label("TL", ("tl",))


def test_labels_are_found_at_any_depth() -> None:
    nested = brush('<View><View><Label value="cat"/></View></View>', '<Label value="dog"/>')
    [control] = parse_label_config(view(IMAGE, nested)).outputs
    assert [label.value for label in control.labels] == ["cat", "dog"]


def test_a_labels_threshold_wins_over_its_controls() -> None:
    control = 'name="brush" toName="image" model_score_threshold="0.3"'
    assert only_label('<Label value="a"/>', control).threshold == 0.3
    own = '<Label value="a" model_score_threshold="0.7"/>'
    assert only_label(own, control).threshold == 0.7
    assert only_label('<Label value="a"/>').threshold is None


@pytest.mark.parametrize("text", ["0", "1", "-0.1", "2", "nan", "inf", "", "half", "0,5"])
def test_a_threshold_out_of_range_is_told_and_ignored(text: str) -> None:
    label = f'<Label value="cat" model_score_threshold="{text}"/>'
    control = brush(label, attributes='name="b" toName="image" model_score_threshold="0.3"')
    config = parse_label_config(view(IMAGE, control))
    assert config.outputs[0].labels[0].threshold == 0.3
    [problem] = config.problems
    assert "between 0 and 1" in problem


def test_model_skip_leaves_out_labels_and_controls() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            brush('<Label value="cat"/>', '<Label value="rest" model_skip="true"/>'),
            brush('<Label value="x"/>', attributes='name="b" toName="image" model_skip="true"'),
            '<TextArea name="prompt" toName="image" model_skip="true"/>',
        )
    )
    assert [control.name for control in config.outputs] == ["brush"]
    assert [label.value for label in config.outputs[0].labels] == ["cat"]
    assert config.texts == ()
    assert config.problems == ()


def test_what_is_neither_yes_nor_no_is_told() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            brush('<Label value="rest" model_skip="1"/>', '<Label value="x" model_skip="False"/>'),
            control("PolygonLabels", "outline", 'model_output="yes" model_instances=""'),
        )
    )
    assert [label.value for label in config.outputs[0].labels] == ["rest", "x"]
    assert config.problems == (
        'model_skip="1" of <Label value="rest"> is ignored: give "true" or "false"',
        'model_output="yes" of <PolygonLabels name="outline"> is ignored: give "true" or "false"',
        'model_instances="" of <PolygonLabels name="outline"> is ignored: give "true" or "false"',
    )


def test_each_brush_knows_the_field_of_its_own_image() -> None:
    config = parse_label_config(
        view(
            '<Image name="left" value="$left"/><Image name="right" value="$meta.right"/>',
            brush('<Label value="a"/>', attributes='name="l" toName="left"'),
            brush('<Label value="a"/>', attributes='name="r" toName="right"'),
        )
    )
    assert [control.image_key for control in config.outputs] == ["left", "meta.right"]


@pytest.mark.parametrize(
    "listed",
    [
        '<Image name="page" valueList="$pages"/>',
        '<Image name="page" valueList="$pages" value="$image"/>',
        '<repeater on="$p"><View><Image name="page" value="$p[{{idx}}]"/></View></repeater>',
    ],
)
def test_an_image_that_shows_a_list_is_told_and_costs_the_others_nothing(listed: str) -> None:
    config = parse_label_config(view(listed, IMAGE, brush('<Label value="cat"/>')))
    (problem,) = config.problems
    assert problem.startswith('<Image name="page"> is left out: it shows a list of images')
    with pytest.raises(BadLabelConfig, match="it shows a list of images"):
        parse_label_config(view(listed, brush('<Label value="cat"/>')))


@pytest.mark.parametrize("address", ["https://host/$name", "$host/$name", "$image?size=full"])
def test_an_image_may_be_an_address_that_names_fields(address: str) -> None:
    image = f'<Image name="i" value="{address}"/>'
    brush = '<BrushLabels name="b" toName="i"><Label value="dog"/></BrushLabels>'
    [control] = parse_label_config(f"<View>{image}{brush}</View>").outputs
    assert control.image_key == address


def test_a_brush_on_something_else_than_an_image_is_told() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            '<Text name="text" value="$text"/>',
            brush('<Label value="a"/>', attributes='name="b" toName="text"'),
            brush('<Label value="a"/>'),
        )
    )
    assert [control.name for control in config.outputs] == ["brush"]
    assert 'toName="text" is not the name of an <Image>' in config.problems[0]


def test_labels_taken_from_tasks_are_told() -> None:
    attributes = 'name="brush" toName="image" value="$labels"'
    with pytest.raises(BadLabelConfig, match=r"takes labels from the tasks \(\$labels\)"):
        parse_label_config(view(IMAGE, brush(attributes=attributes)))
    mixed = parse_label_config(view(IMAGE, brush('<Label value="a"/>', attributes=attributes)))
    assert "list them as <Label> tags" in mixed.problems[0]


def test_a_bad_label_costs_that_label_only() -> None:
    too_long = "x" * 501
    config = parse_label_config(
        view(
            IMAGE,
            brush(
                f'<Label value="a" predicted_values="{too_long}, fine"/>',
                f'<Label value="b" predicted_values="{too_long}"/>',
                '<Label value="__"/>',
                '<Label value=" "/>',
                '<Label value="a"/>',
                '<Label value="dog"/>',
            ),
        )
    )
    assert config.outputs[0].labels == (
        Label("a", ("fine",), worded=True),
        Label("dog", ("dog",)),
    )
    told = "\n".join(config.problems)
    assert told.count("501 characters") == 2
    assert 'the label "b" is left out' in told
    assert 'the label "__" is left out' in told
    assert "without a value" in told
    assert "twice" in told


def test_controls_must_differ_in_name() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            brush('<Label value="cat"/>'),
            brush('<Label value="dog"/>'),
            '<TextArea name="brush" toName="image"/>',
            brush('<Label value="dog"/>', attributes='toName="image"'),
        )
    )
    assert [label.value for label in config.outputs[0].labels] == ["cat"]
    assert config.texts == ()
    assert [("second" in problem) for problem in config.problems] == [True, True, False]


def test_text_areas_of_the_image_are_smart_unless_told_otherwise() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            '<Image name="other" value="$other"/>',
            brush('<Label value="cat"/>'),
            '<TextArea name="prompt" toName="image"/>',
            '<TextArea name="note" toName="image" smart="false"/>',
            '<TextArea name="remark" toName="image" perRegion="true"/>',
            '<TextArea name="elsewhere" toName="other"/>',
        )
    )
    assert config.texts == (
        TextControl("prompt", "image", smart=True),
        TextControl("note", "image", smart=False),
    )


def test_the_prologue_and_comments_do_no_harm() -> None:
    xml = '\n<?xml version="1.0" encoding="utf-16"?><!-- a & b -->' + view(
        IMAGE, "<!-- <BrushLabels/> -->", brush('<Label value="cat"/>')
    )
    assert parse_label_config(xml).outputs[0].labels == (Label("cat", ("cat",)),)


@pytest.mark.parametrize(
    ("xml", "told"),
    [
        ("", "not valid XML"),
        ("None", "not valid XML"),
        ("<View>", "not valid XML"),
        ("<View>&unknown;</View>", "not valid XML"),
        ("<View>\0</View>", "not valid XML"),
        ("<View>\ud800</View>", "not valid XML"),
        (None, "NoneType, not XML text"),
        ({"a": 1}, "dict, not XML text"),
        ("<View/>", 'add <Image name="image"'),
        ('<View><Image name="image" value="http://x/y.png"/></View>', "a field of the task"),
        ('<View><Image value="$image"/></View>', "it needs a name"),
        (view(IMAGE), "add <BrushLabels"),
        (view(IMAGE, brush()), "no usable <Label>"),
    ],
)
def test_what_cannot_be_used_at_all_is_refused_with_the_remedy(xml: Any, told: str) -> None:
    with pytest.raises(BadLabelConfig) as refusal:
        parse_label_config(xml)
    assert told in str(refusal.value)


def test_document_types_are_refused_before_entities_can_grow() -> None:
    lol = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + view(IMAGE, "&b;")
    with pytest.raises(BadLabelConfig, match="document type"):
        parse_label_config(lol)


def test_a_rectangles_role_is_read_and_others_are_told() -> None:
    config = parse_label_config(
        view(
            IMAGE,
            brush('<Label value="cat"/>'),
            '<RectangleLabels name="in" toName="image" model_role="region"/>',
            '<RectangleLabels name="like" toName="image" model_role="Exemplar"/>',
            '<RectangleLabels name="odd" toName="image" model_role="crop"/>',
            '<TextArea name="text" toName="image" model_role="region"/>',
        )
    )
    assert config.tools == (Tool("in", Role.REGION), Tool("like", Role.EXEMPLAR))
    assert [problem.split(" is ignored")[0] for problem in config.problems] == [
        'model_role="crop" of <RectangleLabels name="odd">',
        'model_role="region" of <TextArea name="text">',
    ]
