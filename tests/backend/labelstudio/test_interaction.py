import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labelstudio.config import LabelConfig, Role, TextControl, parse_label_config
from backend.labelstudio.geometry import Point, Rectangle
from backend.labelstudio.interaction import REMARK, Interaction, phrases, remarks
from backend.labelstudio.origin import new_id

RECORDED = Path(__file__).parents[2] / "recorded"
PROMPT = TextControl("prompt", "image")
NOTE = TextControl("note", "image", smart=False)
CONFIG = LabelConfig((), (PROMPT,))


def recorded(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())["json"]
    return body


def read(name: str) -> Interaction:
    request = recorded(name)
    config = parse_label_config(request["label_config"])
    return Interaction.read(request["params"]["context"], request["tasks"][0]["drafts"], config)


def typed(name: str, *lines: str) -> dict[str, Any]:
    return {"type": "textarea", "from_name": name, "value": {"text": list(lines)}}


def box(label: str = "cat", name: str = "box", **changes: Any) -> dict[str, Any]:
    value = {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0, "rectanglelabels": [label]}
    kind = "rectanglelabels"
    return {
        "id": "b1",
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "value": value,
    } | changes


def draft(*regions: dict[str, Any], at: str = "2026-01-01") -> dict[str, Any]:
    return {"result": list(regions), "updated_at": at}


def prompt(context: object, *texts: TextControl) -> str | None:
    return Interaction.read(context, None, LabelConfig((), texts)).prompt


# recorded requests


def test_recorded_points_are_read_with_their_sign() -> None:
    interaction = read("predict-interactive-keypoint-3-negative")
    assert [point.positive for point in interaction.points] == [True, True, False]
    assert interaction.points[0].pixel((480, 640)) == (202, 339)
    assert (interaction.label, interaction.to_name) == ("dog", "image")
    assert interaction.prompt is None
    assert interaction.rectangles == ()


def test_recorded_rectangles_of_a_label_arrive_together_oldest_first() -> None:
    interaction = read("predict-interactive-rectangle-2-same-label")
    assert [round(one.x) for one in interaction.rectangles] == [59, 19]
    assert interaction.label == "cat"
    first = interaction.rectangles[0].mask((480, 640))
    assert first.sum() == pytest.approx(0.2086 * 640 * 0.2782 * 480, rel=0.02)


def test_recorded_plain_rectangles_count_beside_smart_ones() -> None:
    assert len(read("predict-interactive-rectangle-plus-plain").rectangles) == 2


def test_rectangles_that_were_predicted_ask_nothing() -> None:
    ours = box(id=new_id("clipseg-9ab59cce-b7948e73", 0.9))
    one, two = box(id="own", value=box()["value"] | {"x": 50}), box(id="newest")
    asked = Interaction.read({"result": [ours, one, two]}, None, CONFIG)
    assert [rectangle.x for rectangle in asked.rectangles] == [50, 1]


def test_a_recorded_prompt_is_read() -> None:
    assert read("predict-interactive-textarea") == Interaction("red circle")


def test_a_recorded_prompt_is_found_among_other_controls() -> None:
    request = recorded("predict-interactive-textarea-with-other-controls")
    context = request["params"]["context"]
    prompts = [r["value"]["text"] for r in context["result"] if r["from_name"] == "prompt"]
    assert context["result"][0]["from_name"] != "prompt"
    interaction = read("predict-interactive-textarea-with-other-controls")
    assert interaction == Interaction(prompts[-1][-1])


@pytest.mark.parametrize(
    "name",
    [
        "predict-interactive-keypoint-3-negative",
        "predict-interactive-rectangle-2-same-label",
        "predict-interactive-textarea",
    ],
)
def test_the_queue_carries_all_of_it(name: str) -> None:
    interaction = read(name)
    assert Interaction.from_json(json.loads(json.dumps(interaction.to_json()))) == interaction


# phrases


def test_the_newest_text_counts() -> None:
    context = {"result": [typed("prompt", "cat"), typed("prompt", "dog", " red car ", " ")]}
    assert prompt(context, PROMPT) == "red car"


def test_text_may_be_a_bare_string() -> None:
    region = {"type": "textarea", "from_name": "prompt", "value": {"text": " dog "}}
    assert prompt({"result": [region]}, PROMPT) == "dog"


def test_the_text_area_named_prompt_goes_first_and_else_the_first_smart_one() -> None:
    first, second = TextControl("first", "image"), TextControl("second", "image")
    context = {"result": [typed("second", "2"), typed("note", "n"), typed("first", "1")]}
    assert prompt(context, NOTE, first, second) == "1"
    assert prompt(context, NOTE, first, second, PROMPT) is None
    context["result"].append(typed("prompt", "p"))
    assert prompt(context, NOTE, first, second, PROMPT) == "p"


def test_text_areas_that_are_not_smart_never_prompt() -> None:
    assert prompt({"result": [typed("note", "a dog")]}, NOTE) is None
    assert prompt({"result": [typed("note", "a dog")]}) is None


def test_an_annotation_keeps_the_phrases_that_were_typed_without_our_remarks() -> None:
    config = LabelConfig((), (PROMPT, NOTE))
    result = [
        typed("note", "Car: found"),
        typed("prompt", f"a cat {REMARK} nothing found", "the dog", "?", f"{REMARK} no", " "),
        box(),
    ]
    assert phrases(result, config) == ["a cat", "the dog"]
    assert phrases(None, config) == phrases(result, LabelConfig((), (NOTE,))) == []


def test_a_question_is_no_phrase_that_was_typed() -> None:
    result = [typed("prompt", "Car?", f"car: ? {REMARK} 1 red car (0.90)", "what is it?", "a car")]
    assert phrases(result, CONFIG) == ["a car"]


def test_a_phrase_with_half_a_sign_was_not_typed() -> None:
    result = [typed("prompt", "a \ud83d car", "the \U0001f697")]
    assert phrases(result, LabelConfig((), (PROMPT,))) == ["the \U0001f697"]
    assert prompt({"result": [typed("prompt", "a \udc00 car")]}, PROMPT) is None


def test_a_request_without_anything_asks_nothing() -> None:
    assert not Interaction.read({"result": []}, [draft(typed("prompt", "dog"))], CONFIG).asks


# drafts


def test_a_phrase_that_was_typed_before_is_found_in_the_draft() -> None:
    interaction = Interaction.read({"result": [box()]}, [draft(typed("prompt", "the old"))], CONFIG)
    assert interaction.prompt == "the old"
    assert interaction.rectangles == (Rectangle(1, 2, 3, 4),)


def test_the_draft_of_the_request_counts_and_else_the_newest() -> None:
    drafts = [
        draft(typed("prompt", "mine"), box(), at="2026-01-01"),
        draft(typed("prompt", "newest"), at="2026-01-03"),
        draft(typed("prompt", "older"), at="2026-01-02"),
    ]
    assert Interaction.read({"result": [box()]}, drafts, CONFIG).prompt == "mine"
    other = box(id="b2")
    assert Interaction.read({"result": [other]}, drafts, CONFIG).prompt == "newest"


def test_a_typed_text_needs_no_draft() -> None:
    context = {"result": [typed("prompt", "new")]}
    assert Interaction.read(context, [draft(typed("prompt", "old"))], CONFIG).prompt == "new"


# shapes


def test_a_rectangle_with_separate_labels_is_one_rectangle() -> None:
    frame = {"x": 1, "y": 2, "width": 3, "height": 4}
    regions = [
        box(type="rectangle", value=frame),
        box(type="labels", from_name="label", value={**frame, "labels": ["dog"]}),
    ]
    interaction = Interaction.read({"result": regions}, None, CONFIG)
    assert interaction.rectangles == (Rectangle(1, 2, 3, 4),)
    assert interaction.label == "dog"


def test_the_labeling_configuration_may_give_rectangles_a_role() -> None:
    config = parse_label_config(
        """<View><Image name="image" value="$image"/><BrushLabels name="b" toName="image">
        <Label value="cat"/></BrushLabels><RectangleLabels name="box" toName="image"
        model_role="Region"><Label value="cat"/></RectangleLabels><RectangleLabels name="like"
        toName="image"><Label value="cat"/></RectangleLabels></View>"""
    )
    assert Interaction.read({"result": [box()]}, None, config).role is Role.REGION
    assert Interaction.read({"result": [box(name="like")]}, None, config).role is None


@pytest.mark.parametrize("value", [{}, {"x": "1"}, {"x": 1, "y": float("nan")}, None])
def test_shapes_that_are_none_are_left_out(value: object) -> None:
    for kind in ("rectanglelabels", "keypointlabels", None):
        region = box(type=kind, value=value)
        assert not Interaction.read({"result": [region]}, None, CONFIG).asks


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "from_name", "value", "text", "result", "id", "x", "y"]), inner
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(["textarea", "rectanglelabels", "keypoint", "labels"])


@given(json_values, KINDS, json_values)
def test_garbage_is_understood_as_far_as_it_goes(garbage: object, kind: str, value: object) -> None:
    region = {"type": kind, "from_name": "prompt", "id": garbage, "value": value}
    for context in (garbage, {"result": garbage}, {"result": [region]}):
        for drafts in (garbage, [{"result": garbage}], None):
            interaction = Interaction.read(context, drafts, CONFIG)
            assert interaction.prompt is None or interaction.prompt.strip()
            assert Interaction.from_json(interaction.to_json()) == interaction


# remarks


def said(interaction: Interaction, *texts: TextControl, failed: bool) -> dict[str, list[str]]:
    regions = remarks(interaction, LabelConfig((), texts), "dog: nothing found", failed)
    assert all(region["type"] == "textarea" for region in regions)
    return {region["from_name"]: region["value"]["text"] for region in regions}


@given(st.text().map(str.strip).filter(lambda text: text and REMARK not in text), st.booleans())
def test_a_failure_in_the_prompts_own_text_area_leaves_the_phrase_as_it_was(
    phrase: str, again: bool
) -> None:
    answer = said(Interaction(phrase, remarked=again), PROMPT, failed=True)
    assert answer == {"prompt": [f"{phrase} {REMARK} dog: nothing found"]}
    context = {"result": [typed("prompt", *answer["prompt"])]}
    later = Interaction.read(context, None, CONFIG)
    assert (later.prompt, later.remarked, later.chose) == (phrase, True, False)


def test_a_remark_alone_is_no_phrase() -> None:
    answer = said(Interaction(points=(Point(1, 2),)), PROMPT, failed=True)
    assert answer == {"prompt": [f"{REMARK} dog: nothing found"]}
    context = {"result": [typed("prompt", *answer["prompt"])]}
    assert not Interaction.read(context, None, CONFIG).asks


def test_a_success_takes_the_remark_away_and_says_nothing_else() -> None:
    assert said(Interaction("red", remarked=True), PROMPT, failed=False) == {"prompt": ["red"]}
    assert said(Interaction(None, remarked=True), PROMPT, failed=False) == {"prompt": []}
    assert said(Interaction("red"), PROMPT, failed=False) == {}


def test_a_note_takes_every_answer_and_leaves_the_prompt_alone() -> None:
    asked = Interaction("red")
    assert said(asked, PROMPT, NOTE, failed=True) == {"note": [f"red {REMARK} dog: nothing found"]}
    assert said(asked, PROMPT, NOTE, failed=False) == {"note": ["dog: nothing found"]}
    other = TextControl("comment", "image", smart=False)
    assert set(said(asked, PROMPT, other, failed=True)) == {"prompt"}


def test_without_a_text_area_nothing_can_be_said() -> None:
    assert said(Interaction("red"), failed=True) == {}


def test_long_words_are_cut() -> None:
    (region,) = remarks(Interaction("red"), CONFIG, "long " * 1000, failed=True)
    assert len(region["value"]["text"][0]) < 400
