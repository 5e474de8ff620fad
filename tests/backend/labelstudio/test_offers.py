from typing import Any

import pytest

from backend.labelstudio import offers
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.interaction import Interaction, remarks
from backend.web.payloads import PredictRequest

CONFIG = """<View><TextArea name="prompt" toName="i"/>{controls}<Image name="i" value="$image"/>
<BrushLabels name="b" toName="i"><Label value="dog"/></BrushLabels></View>"""
AREA = '<TextArea name="suggestions" toName="i" smart="false"/>'
CHOICES = """<Choices name="suggestions" toName="i" {}><Choice value="red"/><Choice value="blue"/>
<Choice value="green" model_skip="true"/></Choices>"""
NOTE = '<TextArea name="note" toName="i" smart="false"/>'
PHRASES = [
    {"text": text, "likely": likely}
    for text, likely in (("blue", 0.98), ("a star", 0.9), ("red", 0.5), ("x", 0.4), ("y", 0.3))
] + [{"text": "z", "likely": 0.2}]
LINES = ["1 blue (0.98)", "2 a star (0.90)", "3 red (0.50)", "4 x (0.40)", "5 y (0.30)"]


def config(*controls: str) -> Any:
    return parse_label_config(CONFIG.format(controls="".join(controls)))


def text(name: str, *lines: str) -> dict[str, Any]:
    return {"type": "textarea", "from_name": name, "value": {"text": [*lines]}}


def ticked(*choices: str | list[str]) -> dict[str, Any]:
    return {"type": "choices", "from_name": "suggestions", "value": {"choices": [*choices]}}


def read(regions: list[dict[str, Any]], *controls: str) -> Interaction:
    return Interaction.read({"result": regions}, None, config(*controls))


def test_phrases_fill_the_area_and_tick_what_is_there() -> None:
    area = offers.regions(PHRASES, config(CHOICES.format('choice="multiple"'), NOTE))
    assert [one["value"] for one in area] == [{"choices": ["blue", "red"]}]
    area = offers.regions(PHRASES, config(AREA))
    assert [one["value"] for one in area] == [{"text": LINES}]


def test_all_choices_that_are_there_are_ticked_however_many() -> None:
    names = [one["text"] for one in PHRASES]
    listed = "".join(f'<Choice value="{name}"/>' for name in [*names, "gone"])
    choices = f'<Choices name="suggestions" toName="i" choice="multiple">{listed}</Choices>'
    [one] = offers.regions(PHRASES, config(choices))
    assert one["value"] == {"choices": names}


def test_of_single_choices_the_best_is_ticked() -> None:
    [one] = offers.regions(PHRASES, config(CHOICES.format("")))
    assert (one["type"], one["value"]) == ("choices", {"choices": ["blue"]})


@pytest.mark.parametrize(
    ("typed", "wonders"),
    [
        *[
            ("?", ""),
            (" ? ", ""),
            ("dog?", "dog"),
            ("dog: ?", "dog"),
            ("?dog", "dog"),
            (" ? Dog ?", "dog"),
            ("?a dog", None),
            ("a dog", None),
            ("12", None),
        ],
        *[("？", ""), ("؟", ""), ("dog？", "dog"), ("dog：？", "dog"), ("狗？", "狗")],
    ],
)
def test_a_question_mark_of_any_keyboard_asks_for_phrases(typed: str, wonders: str | None) -> None:
    assert read([text("prompt", typed)]).wonders == wonders


def test_the_signs_of_other_keyboards_choose_too() -> None:
    regions = [text("suggestions", *LINES), text("prompt", "２")]
    assert read(regions, AREA).prompt == "a star"
    assert read([text("prompt", "！"), ticked("red")], CHOICES.format("")).prompt == "red"
    assert "Nothing is ticked" in (read([text("prompt", "！")], CHOICES.format("")).mistaken or "")


@pytest.mark.parametrize(
    ("typed", "wonders"),
    [
        ("Car?", None),
        (" car? ", None),
        ("Car??", "Car?"),
        ("Car? ?", "Car?"),
        ("?Car?", "Car?"),
        ("car?: ?", "Car?"),
        ("Car?: red", None),
        ("Bus?", "Bus"),
        ("Dog???", "Dog"),
        ("dog: ?", "dog"),
        ("?", ""),
        ("??", "?"),
    ],
)
def test_a_label_that_ends_in_a_question_mark_is_asked_by_its_name(
    typed: str, wonders: str | None
) -> None:
    labels = "".join(f'<Label value="{label}"/>' for label in ("Car?", "Bus", "?"))
    xml = CONFIG.format(controls="").replace('<Label value="dog"/>', labels)
    context = {"result": [text("prompt", typed)]}
    assert Interaction.read(context, None, parse_label_config(xml)).wonders == wonders


def test_a_choice_that_ends_in_a_question_mark_is_a_phrase() -> None:
    choices = CHOICES.format("").replace("blue", "what is it?")
    asked = read([text("prompt", "!"), ticked("what is it?")], choices)
    assert (asked.prompt, asked.wonders) == ("what is it?", None)


def test_an_empty_prompt_asks_for_phrases_or_takes_what_is_ticked() -> None:
    assert read([text("prompt", "")]).wonders == ""
    assert read([text("prompt")]).asks is False
    asked = read([text("prompt", " "), ticked("blue")], CHOICES.format(""))
    assert (asked.prompt, asked.chose, asked.wonders) == ("blue", True, None)


def test_a_number_chooses_from_the_list() -> None:
    regions = [text("suggestions", *LINES), text("prompt", "2")]
    asked = read(regions, AREA)
    assert (asked.prompt, asked.chose) == ("a star", True)
    assert read([*regions[:1], text("prompt", "7")], AREA).prompt == "7"
    assert read([text("prompt", "2")], AREA).prompt == "2"


def test_a_number_before_a_list_in_the_prompt_itself_chooses() -> None:
    listed = offers.BETWEEN.join(LINES)
    [told] = remarks(Interaction("?", wonders=""), config(), listed, failed=True)
    assert told["value"] == {"text": [f"? ⚠ {listed}"]}
    asked = read([text("prompt", f"3 ⚠ {listed}")])
    assert (asked.prompt, asked.chose) == ("red", True)


@pytest.mark.parametrize(
    ("typed", "prompt", "told"),
    [("3", "red", None), ("7", "7", "no phrase 7"), ("a red dog", "a red dog", None)],
)
def test_a_number_that_was_written_over_a_list_chooses_of_it(
    typed: str, prompt: str, told: str | None
) -> None:
    before = [{"result": [text("prompt", f"? ⚠ {offers.BETWEEN.join(LINES)}")]}]
    asked = Interaction.read({"result": [text("prompt", typed)]}, before, config())
    assert (asked.prompt, asked.chose) == (prompt, prompt == "red")
    assert (told or "") in (asked.mistaken or "")
    assert bool(asked.mistaken) is bool(told)


@pytest.mark.parametrize("typed", ["3", "3?", "3 ?", "?3"])
def test_a_number_typed_before_a_list_chooses_of_it(typed: str) -> None:
    asked = read([text("prompt", f"{typed} ⚠ {offers.BETWEEN.join(LINES)}")])
    assert (asked.prompt, asked.chose, asked.wonders) == ("red", True, None)


@pytest.mark.parametrize(
    ("typed", "prompt"),
    [
        *((typed, "a star") for typed in ("2.", "2)", "(2)", "#2", "02", "２．", "٢", "2!")),
        ("2 a star (0.90)", "a star"),  # the line, copied
        ("2, not the shadow", "a star, not the shadow"),
        ("2 but not red", "a star but not red"),
        ("2 stars", "2 stars"),
        ("2 a comet (0.90)", "2 a comet (0.90)"),
    ],
)
def test_a_number_chooses_however_it_is_written(typed: str, prompt: str) -> None:
    asked = read([text("suggestions", *LINES), text("prompt", typed)], AREA)
    assert (asked.prompt, asked.chose, asked.mistaken) == (prompt, prompt != typed, None)


def test_the_list_that_is_there_counts_and_not_the_one_before() -> None:
    before = [{"result": [text("suggestions", "2 old (0.90)", "6 older (0.80)")]}]
    regions = {"result": [text("suggestions", *LINES), text("prompt", "2")]}
    assert Interaction.read(regions, before, config(AREA)).prompt == "a star"
    regions = {"result": [text("suggestions", *LINES), text("prompt", "6")]}
    assert "no phrase 6" in (Interaction.read(regions, before, config(AREA)).mistaken or "")


def test_an_exclamation_mark_takes_what_is_ticked() -> None:
    asked = read([text("prompt", "!"), ticked("red", "nothing of ours")], CHOICES.format(""))
    assert (asked.prompt, asked.chose) == ("red", True)
    assert read([text("prompt", "!!"), ticked("red")], CHOICES.format("")).prompt == "red"
    assert read([text("prompt", "!")], CHOICES.format("")).prompt == "!"


@pytest.mark.parametrize(
    ("before", "prompt"),
    [
        ("Car?", "Car: red"),
        ("car ?", "Car: red"),
        ("Car: blue", "Car: red"),  # a phrase that was ticked, and taken for it
        ("?", "red"),
        ("the red one?", "red"),
        ("Car: the big one", "red"),
        ("", "red"),
    ],
)
@pytest.mark.parametrize("typed", ["!", " "])
def test_what_is_ticked_is_taken_for_the_label_that_was_wondered_about(
    before: str, prompt: str, typed: str
) -> None:
    xml = CONFIG.format(controls=CHOICES.format("")).replace("dog", "Car")
    drafts = [{"result": [text("prompt", before), ticked("red")]}]
    context = {"result": [text("prompt", typed), ticked("red")]}
    asked = Interaction.read(context, drafts, parse_label_config(xml))
    assert (asked.prompt, asked.chose) == (prompt, True)


def test_a_label_with_an_exclamation_mark_takes_what_is_ticked_where_something_can_be() -> None:
    regions = [text("prompt", "Dog!"), ticked("red")]
    assert read(regions, CHOICES.format("")).prompt == "Dog: red"
    assert read(regions[:1]).mistaken is None


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("7", "no phrase 7: type one of 1, 2, 3, 4, 5"),
        ("0", "no phrase 0"),
        ("-1", "no phrase -1"),
        ("1, 2", "no phrase 1, 2"),
        ("!", "There are no phrases to tick here: type the number of one in the list, or a phrase"),
    ],
)
def test_what_chooses_nothing_is_no_phrase(typed: str, told: str) -> None:
    asked = read([text("suggestions", *LINES), text("prompt", typed)], AREA)
    assert told in (asked.mistaken or "")
    box = {
        "type": "rectanglelabels",
        "id": "r",
        "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["dog"]},
    }
    drafts = [{"result": [text("suggestions", *LINES), text("prompt", typed), box]}]
    later = Interaction.read({"result": [box]}, drafts, config(AREA))
    assert (later.prompt, later.mistaken) == (None, None)


@pytest.mark.parametrize(
    ("typed", "prompt", "chose", "mistaken"),
    [
        ("Car: 2", "Car: a star", True, False),
        ("car：２", "car: a star", True, False),
        ("Big Bus: 1", "Big Bus: blue", True, False),
        ("bb: 1", "bb: blue", True, False),
        ("Big Bus: 3", "Big Bus: red van", True, False),  # of a list for another label
        ("车：红： 2", "车：红: a star", True, False),
        ("Car: !", "Car: red", True, False),
        ("Car: 9", "Car: 9", False, True),
        ("Car: 2 doors", "Car: 2 doors", False, False),
        ("van: 2", "van: 2", False, False),  # no label
        ("Lot: 2", "Lot: 2", False, False),  # a label of that name
    ],
)
def test_a_phrase_may_be_chosen_for_a_label(
    typed: str, prompt: str, chose: bool, mistaken: bool
) -> None:
    labels = """<Label value="Car"/><Label value="Big Bus" alias="bb"/><Label value="Lot"/>
    <Label value="Lot: 2"/><Label value="车：红"/>"""
    xml = CONFIG.format(controls=NOTE + CHOICES.format("")).replace('<Label value="dog"/>', labels)
    listed = text("note", *LINES[:2], "3 Car: red van (0.50)")
    context = {"result": [listed, ticked("red"), text("prompt", typed)]}
    asked = Interaction.read(context, None, parse_label_config(xml))
    assert (asked.prompt, asked.chose, asked.mistaken is not None) == (prompt, chose, mistaken)


def test_what_can_be_done_where_nothing_is_ticked_is_told() -> None:
    tickable = read([text("suggestions", *LINES), text("prompt", "!")], CHOICES.format(""))
    assert tickable.mistaken == "Nothing is ticked: tick a phrase first, or type one."
    bare = read([text("prompt", "!")]).mistaken or ""
    assert bare == 'There are no phrases to tick here: type one, or "?" to be offered some.'


def test_a_number_is_a_phrase_where_there_is_no_list() -> None:
    assert read([text("prompt", "7")], AREA).mistaken is None


def test_what_an_annotator_wrote_is_no_list_of_ours() -> None:
    comment = '<TextArea name="comment" toName="i" smart="false"/>'
    for said in ("2 dents and a scratch", "2 dents (new) · 1 scratch", "6 phrases find something"):
        for typed in ("2", "7"):
            asked = read([text("comment", said), text("prompt", typed)], comment)
            assert (asked.prompt, asked.chose, asked.mistaken) == (typed, False, None)


def test_a_list_gives_whole_phrases_or_none() -> None:
    for phrase in ("col·lector (2.5)", "Pump · inlet: a red one"):
        listed = offers.listed([{"text": phrase, "likely": 0.9}, *PHRASES])
        for lines in (listed, [offers.BETWEEN.join(listed)]):
            asked = read([text("note", *lines), text("prompt", "1")], NOTE)
            assert (asked.prompt, asked.chose) == (phrase, True)
    long = offers.listed([{"text": f"{sign * 90} thing", "likely": 0.9} for sign in "abcde"])
    asked = Interaction("?", wonders="")
    [told] = remarks(asked, config(NOTE), offers.BETWEEN.join(long), failed=False)
    cut = read([told, text("prompt", "4")], NOTE)
    assert (cut.chose, "type one of 1, 2, or" in (cut.mistaken or "")) == (False, True)


def test_a_phrase_that_was_chosen_is_written_out() -> None:
    asked = Interaction("a star", chose=True)
    told = remarks(asked, config(NOTE), "dog: found", failed=False)
    assert [(one["from_name"], one["value"]["text"]) for one in told] == [
        ("note", ["dog: found"]),
        ("prompt", ["a star"]),
    ]
    [alone] = remarks(asked, config(), "dog: found", failed=False)
    assert alone["value"]["text"] == ["a star"]


def test_a_question_that_was_answered_is_no_phrase_for_a_rectangle() -> None:
    box = {
        "type": "rectanglelabels",
        "id": "r",
        "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["dog"]},
    }
    drafts = [{"result": [text("prompt", "?"), box]}]
    asked = Interaction.read({"result": [box]}, drafts, config())
    assert asked.prompt is None
    assert asked.wonders is None


def test_an_answer_with_phrases_fills_controls_or_is_told_in_words() -> None:
    answer = {
        "regions": [],
        "score": 0.0,
        "model_version": "v",
        "remark": "6 phrases find something",
        "phrases": PHRASES,
    }

    def told(*controls: str) -> list[dict[str, Any]]:
        body = {
            "tasks": [{"id": 1, "data": {"image": "x"}}],
            "label_config": CONFIG.format(controls="".join(controls)),
            "params": {"context": {"result": [text("prompt", "?")]}},
        }
        [entry] = PredictRequest.from_json(body).results([answer])
        return list(entry["result"])

    [filled] = told(AREA, NOTE)
    assert (filled["from_name"], filled["value"]["text"]) == ("suggestions", LINES)
    [noted] = told(NOTE)
    assert noted["from_name"] == "note"
    assert noted["value"]["text"] == [" · ".join(LINES)]
    asked = read([text("note", *noted["value"]["text"]), text("prompt", "2")], NOTE)
    assert (asked.prompt, asked.chose) == ("a star", True)
    # none of the phrases is among the choices, as when a label is asked about
    [worded] = told(CHOICES.format("").replace("blue", "cyan").replace("red", "pink"))
    assert worded["from_name"] == "prompt"
    assert "1 blue (0.98)" in worded["value"]["text"][0]
    answer |= {"phrases": [], "remark": "no word finds anything"}
    [nothing] = told(AREA)
    assert nothing["value"]["text"] == ["? ⚠ no word finds anything"]


def test_a_label_with_an_alias_is_wondered_about_by_what_people_read() -> None:
    aliased = parse_label_config(
        CONFIG.format(controls="").replace('value="dog"', 'value="Big Dog" alias="bd"')
    )
    assert [offers.about(typed, aliased) for typed in ("big dog?", "bd?", "cat?")] == [
        "bd",
        "bd",
        "cat",
    ]
