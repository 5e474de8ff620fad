"""Choices that phrases are ticked in, as labeling configurations write them."""

from backend.labelstudio import offers
from backend.labelstudio.config import ChoiceControl
from backend.labelstudio.labels import Choice
from tests.backend.labelstudio.test_offers import CHOICES, PHRASES, config, read, text, ticked


def test_only_choices_of_that_name_are_suggestions() -> None:
    [control] = [config(CHOICES.format('choice="multiple"')).choice]
    choices = Choice("red", "red"), Choice("blue", "blue")
    assert control == ChoiceControl("suggestions", "i", choices, single=False)
    other = CHOICES.format("").replace("suggestions", "quality")
    assert config(other).choice is None
    assert not config(other.replace('name="quality"', "")).problems


def test_a_choice_is_ticked_by_its_alias_and_asked_by_what_people_read() -> None:
    choices = """<Choices name="suggestions" toName="i"><Choice value="blue" alias="b"/>
    <Choice value="blue"/><Choice alias="red"/><Choice value="rot" alias="b"/></Choices>"""
    aliased = config(choices)
    assert offers.words(aliased) == ("blue", "red")
    [one] = offers.regions(PHRASES, aliased)
    assert one["value"] == {"choices": ["b"]}
    assert read([text("prompt", "!"), ticked("b")], choices).prompt == "blue"
    assert read([text("prompt", "!"), ticked("red")], choices).prompt == "red"


GROUPED = """<Choices name="suggestions" toName="i" choice="multiple"{}><Choice value="cool">
<Choice value="blue"/><Choice value="green" alias="g"/></Choice><View><Choice value="warm" alias="w"
model_skip="true"><Choice value="red"/></Choice></View><Choice value="a star"/></Choices>"""


def test_choices_that_nest_are_ticked_and_told_by_the_way_to_each() -> None:
    choices = GROUPED.format(' allowNested="true"')
    [one] = offers.regions(PHRASES, config(choices))
    assert one["value"] == {"choices": [["cool", "blue"], ["a star"], ["w", "red"]]}
    assert offers.words(config(choices)) == ("blue", "green", "red", "a star")  # groups are none
    for way, phrase in ((["cool", "g"], "green"), (["w", "red"], "red"), (["a star"], "a star")):
        assert read([text("prompt", "!"), ticked(way)], choices).prompt == phrase
    whole = ticked(["cool"], ["cool", "blue"], ["cool", "g"])  # as a ticked group is sent
    assert read([text("prompt", "!"), whole], choices).prompt == "blue"


def test_choices_inside_others_are_none_unless_they_may_nest() -> None:
    control = config(GROUPED.format("")).choice
    assert control is not None
    assert [one.value for one in control.choices] == ["cool", "a star"]
