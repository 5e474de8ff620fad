import re
from dataclasses import replace

import pytest

from backend.labelstudio.config import parse_label_config
from backend.prompting import Query, model_version, named, queries

CONFIG = """<View><Image name="i" value="$image"/>
<BrushLabels name="b" toName="i" model_score_threshold="0.3">
<Label value="RedCar"/><Label value="Pet" predicted_values="a dog, a cat"/>
<Label value="Sky" model_score_threshold="0.6"/></BrushLabels></View>"""
ASKED = queries(parse_label_config(CONFIG), 0.5)


def test_each_label_is_asked_with_its_prompts_and_threshold() -> None:
    takers = parse_label_config(CONFIG).outputs
    car, pet, sky = ASKED
    assert car == Query("image", "RedCar", ("red car",), 0.3, takers)
    assert pet == Query("image", "Pet", ("a dog", "a cat"), 0.3, takers)
    assert sky == Query("image", "Sky", ("sky",), 0.6, takers)
    assert car.controls == pet.controls == sky.controls == takers


def test_controls_share_the_answer_to_the_same_question() -> None:
    box = """<RectangleLabels name="box" toName="i" model_output="true" {}><Label value="RedCar"/>
    <Label value="Sky" model_score_threshold="0.6"/></RectangleLabels></View>"""
    both = CONFIG.replace("</View>", box.format('model_score_threshold="0.3"'))
    asked = queries(parse_label_config(both), 0.5)
    assert [(query.label, [one.name for one in query.controls]) for query in asked] == [
        ("RedCar", ["b", "box"]),
        ("Pet", ["b"]),
        ("Sky", ["b", "box"]),
    ]
    another = CONFIG.replace("</View>", box.format('model_score_threshold="0.9"'))
    assert len(queries(parse_label_config(another), 0.5)) == 4


def test_what_is_asked_is_the_same_whoever_takes_the_answer() -> None:
    query, *_ = ASKED
    alone = replace(query, controls=())
    assert query == alone
    assert hash(query) == hash(alone)  # of a thousand labels, it looks at none but its own


def test_a_version_is_the_same_for_the_same_and_another_for_any_change() -> None:
    same = queries(parse_label_config(CONFIG.replace("\n", " ")), 0.5)
    version = model_version("CLIPSeg", "0123456789", ASKED)
    assert model_version("CLIPSeg", "0123456789", same) == version
    assert re.fullmatch(r"clipseg-01234567-[0-9a-f]{8}", version)
    changes = [
        ("a cat", "a cow"),
        ('"0.3"', '"0.35"'),
        ('"Sky"', '"Cloud"'),
        ('"b"', '"c"'),
        ('"b"', '"b" model_instances="true"'),
        ("BrushLabels", "BitmaskLabels"),
        ('"Sky"', '"Sky" negative_values="bird"'),
        ('"b"', '"b" model_compete="true"'),
    ]
    others = {
        model_version("CLIPSeg", "0123456789", queries(parse_label_config(changed), 0.5))
        for old, new in changes
        if (changed := CONFIG.replace(old, new))
    }
    others.add(model_version("CLIPSeg", "9876543210", ASKED))
    assert len(others) == 9
    assert version not in others


def test_a_label_before_a_colon_is_asked_for_what_follows() -> None:
    query = named("pet: the small brown one", ASKED)
    assert query == replace(ASKED[1], prompts=("the small brown one",))


def test_a_labels_name_asks_what_the_label_asks() -> None:
    assert named("SKY", ASKED) == ASKED[2]
    assert named("RedCar", ASKED) == ASKED[0]
    assert named(" pet ", ASKED) == ASKED[1]


def test_labels_that_differ_in_case_are_told_apart_by_it() -> None:
    big, small = replace(ASKED[2], label="Sky"), replace(ASKED[2], label="sky")
    for asked in ((big, small), (small, big)):
        assert named("sky", asked) == small
        assert named("Sky: the red one", asked) == replace(big, prompts=("the red one",))
        assert named("SKY", asked) == asked[0]


def test_a_label_is_called_by_what_people_read_and_by_its_alias() -> None:
    config = parse_label_config(
        """<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">
        <Label value="Car" alias="vehicle-4"/><Label value="Lorry" alias="Car"/>
        </BrushLabels></View>"""
    )
    asked = queries(config, 0.4)
    for typed in ("car: the red one", "vehicle-4: the red one"):
        assert named(typed, asked) == replace(asked[0], prompts=("the red one",))
    assert named("lorry: the red one", asked) == replace(asked[1], prompts=("the red one",))
    assert named("lorry：the red one", asked) == named("lorry: the red one", asked)


def test_one_of_a_labels_prompts_asks_that_for_the_label() -> None:
    assert named("A cat", ASKED) == replace(ASKED[1], prompts=("A cat",))


def labelled(*labels: str) -> tuple[Query, ...]:
    return tuple(Query("image", label, (label.lower(),), 0.4, ()) for label in labels)


ODD = labelled("OK", "Not OK", "a", "a: b", "Car", "Car, not bus", "Why?", "Straße", "b")


@pytest.mark.parametrize("label", [query.label for query in ODD])
def test_a_labels_full_name_wins_whatever_is_in_it(label: str) -> None:
    own = next(query for query in ODD if query.label == label)
    assert named(label, ODD) == named(f" {label.upper()} ", ODD) == own
    assert named(f"{label}: a red circle", ODD) == replace(own, prompts=("a red circle",))
    assert named(f"{label}, not the shadow", ODD) == replace(own, negatives=("the shadow",))
    said = named(f"{label}: a disc: red, not the shadow", ODD)
    assert said == replace(own, prompts=("a disc: red",), negatives=("the shadow",))


def test_the_longest_name_that_a_prompt_begins_with_wins() -> None:
    short, long = labelled("a", "a: b")
    assert named("a: b: c", (short, long)) == replace(long, prompts=("c",))
    assert named("a: b", (short,)) == replace(short, prompts=("b",))
    assert named("a: bc", (short, long)) == replace(short, prompts=("bc",))


@pytest.mark.parametrize(
    "typed",
    ["Car:", "Car.", "Car!", '"Car"', "“Car”", "ＣＡＲ", "Car\u200b", "\u3000Car", "Car\n"],
)
def test_a_name_is_known_by_its_letters_whatever_stands_around_it(typed: str) -> None:
    (own,) = labelled("Car")
    assert named(typed, (own,)) == own
    assert named(f"{typed}: the red one", (own,)) == replace(own, prompts=("the red one",))
    assert named(f"{typed} - not red", (own,)) == replace(own, negatives=("red",))
    other = labelled(typed.strip())[0]
    assert named(typed, (own, other)) == other


def test_a_labels_name_wins_over_the_same_prompt_of_another() -> None:
    pet, dog = replace(labelled("Pet")[0], prompts=("dog",)), labelled("Dog")[0]
    assert named("dog", (pet, dog)) == dog


@pytest.mark.parametrize("phrase", ["time: noon", " something blue ", "a pet:", ":", ""])
def test_anything_else_names_no_label(phrase: str) -> None:
    assert named(phrase, ASKED) is None


def test_a_label_may_be_asked_for_without_something() -> None:
    without = replace(ASKED[0], negatives=("the shadow",))
    assert named("RedCar, not the shadow", ASKED) == without
    assert named("redcar: not the shadow", ASKED) == without
    assert named("a cat not the tail", ASKED) == replace(
        ASKED[1], prompts=("a cat",), negatives=("the tail",)
    )
    assert named("not the shadow", ASKED) is None


def test_a_label_keeps_what_it_is_not_in_other_words() -> None:
    xml = CONFIG.replace('"RedCar"', '"RedCar" negative_values="shadow"')
    car = queries(parse_label_config(xml), 0.5)[0]
    assert car.saying("a bus, not the road").negatives == ("shadow", "the road")


def test_labels_compete_within_a_control_that_says_so() -> None:
    xml = CONFIG.replace("<BrushLabels", '<BrushLabels model_compete="true"')
    box = """<RectangleLabels name="box" toName="i" model_output="true">
    <Label value="Sky" model_score_threshold="0.6"/></RectangleLabels></View>"""
    asked = queries(parse_label_config(xml.replace("</View>", box)), 0.5)
    assert [(query.label, query.contest) for query in asked] == [
        ("RedCar", "b"),
        ("Pet", "b"),
        ("Sky", "b"),
        ("Sky", ""),
    ]
