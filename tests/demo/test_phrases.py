import numpy as np
import pytest

from demo import phrases
from demo.phrases import KINDS, Query
from demo.scenes import KNOWN_COLOURS, Look

RING = Look("ring", "orange", "dotted")
DISC = Look("circle", "orange", "plain")


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_about_a_thing_matches_it(kind: str) -> None:
    assert Query.about(RING, kind).matches(RING)


def test_a_query_matches_only_what_has_all_its_traits() -> None:
    assert Query(colour="orange").matches(DISC)
    assert not Query(colour="orange", shape="ring").matches(DISC)
    assert not Query(colour="orange", texture="dotted").matches(DISC)


def test_the_plainest_wording_names_every_trait() -> None:
    assert Query(*RING).simple() == "dotted orange ring"
    assert Query(colour="blue").simple() == "blue thing"


def test_articles_and_plurals_are_english() -> None:
    assert phrases.with_article("orange ring") == "an orange ring"
    assert phrases.with_article("red ring") == "a red ring"
    assert [phrases.plural(noun) for noun in ("cross", "box", "star")] == [
        "crosses",
        "boxes",
        "stars",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_wording_is_made_of_words_in_the_vocabulary(kind: str) -> None:
    rng = np.random.default_rng(0)
    said = [phrases.wording(Query.about(RING, kind), rng) for _ in range(300)]
    words = {word.strip(".") for text in said for word in text.split()}
    assert words <= phrases.vocabulary() | set(phrases.BESIDES)


def test_what_no_scene_holds_is_an_everyday_thing_or_a_word_that_nobody_said_before() -> None:
    rng = np.random.default_rng(0)
    known = phrases.vocabulary()
    said = [{word.strip(".") for word in phrases.other(rng).split()} for _ in range(300)]
    coined = [words for words in said if not words <= known]
    everyday = [words for words in said if words & set(phrases.OTHERS)]
    assert len(coined) + len(everyday) >= 299  # a short coined word may be an everyday one
    assert 150 < len(coined) < 270
    assert sum(any(word[-1].isdigit() for word in words) for words in coined) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_absent_query_matches_nothing_in_the_scene(kind: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        query = phrases.absent([RING, DISC], kind, rng)
        assert query is not None
        assert not query.matches(RING)
        assert not query.matches(DISC)


def test_there_may_be_nothing_absent() -> None:
    everything = [Look("ring", colour, "plain") for colour in KNOWN_COLOURS]
    assert phrases.absent(everything, "colour", np.random.default_rng(0)) is None
