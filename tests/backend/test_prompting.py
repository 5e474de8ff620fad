import re

from backend.labelstudio.config import parse_label_config
from backend.prompting import Query, model_version, queries, split_label

CONFIG = """<View><Image name="i" value="$image"/>
<BrushLabels name="b" toName="i" model_score_threshold="0.3">
<Label value="RedCar"/><Label value="Pet" predicted_values="a dog, a cat"/>
<Label value="Sky" model_score_threshold="0.6"/></BrushLabels></View>"""
ASKED = queries(parse_label_config(CONFIG), 0.5)


def test_each_label_is_asked_with_its_prompts_and_threshold() -> None:
    car, pet, sky = ASKED
    assert car == Query("b", "RedCar", ("red car",), 0.3)
    assert pet == Query("b", "Pet", ("a dog", "a cat"), 0.3)
    assert sky == Query("b", "Sky", ("sky",), 0.6)


def test_a_version_is_the_same_for_the_same_and_another_for_any_change() -> None:
    same = queries(parse_label_config(CONFIG.replace("\n", " ")), 0.5)
    version = model_version("CLIPSeg", "0123456789", ASKED)
    assert model_version("CLIPSeg", "0123456789", same) == version
    assert re.fullmatch(r"clipseg-01234567-[0-9a-f]{8}", version)
    changes = [("a cat", "a cow"), ('"0.3"', '"0.35"'), ('"Sky"', '"Cloud"'), ('"b"', '"c"')]
    others = {
        model_version("CLIPSeg", "0123456789", queries(parse_label_config(changed), 0.5))
        for old, new in changes
        if (changed := CONFIG.replace(old, new))
    }
    others.add(model_version("CLIPSeg", "9876543210", ASKED))
    assert len(others) == 5
    assert version not in others


def test_a_label_before_a_colon_is_the_label() -> None:
    label, phrase = split_label("pet: the small brown one", ASKED)
    assert label is ASKED[1]
    assert phrase == "the small brown one"


def test_a_labels_name_or_prompt_is_that_label() -> None:
    assert split_label("SKY", ASKED) == (ASKED[2], "sky")
    assert split_label("A cat", ASKED) == (ASKED[1], "A cat")
    assert split_label("RedCar", ASKED) == (ASKED[0], "red car")


def test_anything_else_is_a_phrase_without_a_label() -> None:
    assert split_label("time: noon", ASKED) == (None, "time: noon")
    assert split_label(" something blue ", ASKED) == (None, "something blue")
    assert split_label("pet:", ASKED) == (None, "pet:")
