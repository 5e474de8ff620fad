from backend.inference.phrasing import Candidate, Source, compositions, distinct, plain, worded
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


def test_an_attribute_is_not_added_twice() -> None:
    best = [Candidate("red ball", Source.COMPOSITION)]
    texts = [one.text for one in compositions("Part", best, WORDS)]
    assert "dotted red ball" in texts
    assert "red red ball" not in texts


def test_attributes_that_follow_do_so() -> None:
    words = Vocabulary((("ball",),), (("with dots",),))
    assert compositions("Part", [], words)[0].text == "part with dots"


def test_phrases_are_put_in_sentences() -> None:
    assert Candidate("a photo of a ball", Source.TEMPLATE) in worded(
        [Candidate("ball", Source.NAME)]
    )


def test_a_text_counts_once_and_where_it_is_from_first() -> None:
    twice = [Candidate("Red", Source.PROMPT), Candidate("red", Source.ATTRIBUTE)]
    assert distinct([*twice, Candidate("x" * 501, Source.TYPED)]) == twice[:1]
