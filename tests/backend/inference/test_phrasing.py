import pytest

from backend.inference.phrasing import (
    Candidate,
    Source,
    compositions,
    distinct,
    joined,
    plain,
    worded,
)
from backend.inference.vocabulary import Vocabulary

WORDS = Vocabulary((("car", "automobile"), ("ball",)), (("red",), ("dotted", "with dots")))


def test_a_label_may_be_called_by_its_prompts_its_name_what_was_typed_and_words() -> None:
    found = plain("RedCar", ["a coupé"], ["the fast one", " "], WORDS)
    assert [(one.text, one.source) for one in found] == [
        ("a coupé", Source.PROMPT),
        ("red car", Source.NAME),
        ("the fast one", Source.TYPED),
        ("red automobile", Source.SYNONYM),
        ("car", Source.VOCABULARY),
        ("ball", Source.VOCABULARY),
        ("red", Source.ATTRIBUTE),
        ("dotted", Source.ATTRIBUTE),
    ]


def test_attributes_go_with_the_best_things_and_the_name() -> None:
    best = [Candidate("ball", Source.VOCABULARY), Candidate("red", Source.ATTRIBUTE)]
    texts = [one.text for one in compositions("widget-7", best, WORDS)]
    assert texts == ["red ball", "dotted ball", "red widget 7", "dotted widget 7"]


def test_nothing_is_made_of_a_name_with_a_not_in_it() -> None:
    said = plain("NotRipe", ["not ripe"], ["a pear, not a leaf"], Vocabulary((("ripe", "soft"),)))
    assert [one.text for one in said] == ["not ripe", "ripe"]
    texts = [one.text for one in compositions("NotRipe", said, WORDS)]
    assert texts == ["red ripe", "dotted ripe"]
    assert worded([Candidate("not ripe", Source.NAME)]) == []


def test_an_attribute_is_not_added_twice() -> None:
    best = [Candidate("red ball", Source.COMPOSITION)]
    texts = [one.text for one in compositions("Part", best, WORDS)]
    assert "dotted red ball" in texts
    assert "red red ball" not in texts


def test_an_attribute_of_several_words_or_in_capitals_is_not_added_twice() -> None:
    words = Vocabulary((("ball",),), (("light blue",), ("with dots",), ("Red",)))
    best = [Candidate("red ball with dots", Source.PROMPT), Candidate("light blue", Source.TYPED)]
    texts = [one.text for one in compositions("light blue thing", best, words)]
    assert texts[0] == "light blue red ball with dots"
    assert not {"red ball with dots with dots", "Red red ball with dots"} & {*texts}
    assert not any("light blue light blue" in text for text in texts)


def test_attributes_that_follow_do_so() -> None:
    words = Vocabulary((("ball",),), (("with dots",),))
    assert compositions("Part", [], words)[0].text == "part with dots"


@pytest.mark.parametrize(
    ("adjective", "noun", "said"),
    [
        ("red", "a ball", "a red ball"),
        ("red", "An  orange ball", "a red orange ball"),
        ("orange", "a ball", "an orange ball"),
        ("red", "the ball", "the red ball"),
        ("red", "every ball", "every red ball"),
        ("red", "3 balls", "3 red balls"),
        ("red", "the 3 balls", "the 3 red balls"),
        ("with dots", "a ball", "a ball with dots"),
        ("red", "another ball", "red another ball"),
        ("red", "3D printer", "red 3D printer"),
        ("red", "widget 7", "red widget 7"),
        ("red", "7", "red 7"),
    ],
)
def test_an_attribute_follows_what_a_phrase_begins_with(
    adjective: str, noun: str, said: str
) -> None:
    assert joined(adjective, noun) == said


def test_an_article_by_itself_is_no_thing_to_compose_with() -> None:
    assert compositions("A", [Candidate("a", Source.PROMPT)], WORDS) == []


def test_a_phrase_with_an_article_gets_no_second_one() -> None:
    found = worded([Candidate("a red ball", Source.PROMPT), Candidate("a", Source.NAME)])
    assert [one.text for one in found] == [
        "the red ball",
        "a red ball",
        "a photo of a red ball",
        "every red ball",
    ]


def test_phrases_are_put_in_sentences() -> None:
    assert Candidate("a photo of a ball", Source.TEMPLATE) in worded(
        [Candidate("ball", Source.NAME)]
    )


def test_a_text_counts_once_and_where_it_is_from_first() -> None:
    twice = [Candidate("Red", Source.PROMPT), Candidate("red", Source.ATTRIBUTE)]
    assert distinct([*twice, Candidate("x" * 501, Source.TYPED)]) == twice[:1]
