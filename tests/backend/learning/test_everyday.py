from hypothesis import given
from hypothesis import strategies as st

from backend.learning.everyday import phrases

WORDS = ["photo", "car", "red", "cloud"]


@given(st.integers(0, 200), st.integers(0, 2**32))
def test_phrases_differ_and_are_the_same_again(number: int, seed: int) -> None:
    found = phrases(number, WORDS, [], seed)
    assert len(set(found)) == len(found) == number
    assert found == phrases(number, WORDS, [], seed)


def test_phrases_say_nothing_that_a_label_says() -> None:
    for phrase in phrases(2000, WORDS, ["a photo of a red Car.", "sky!"], 0):
        words = set(phrase.split())
        assert not {"red", "car"} <= words
        assert "sky" not in words


def test_words_that_a_project_shares_are_still_asked_for() -> None:
    found = [phrase.split() for phrase in phrases(2000, WORDS, ["red car"], 0)]
    assert any("red" in words for words in found)
    assert any("car" in words for words in found)


def test_a_prompt_that_chooses_nothing_forbids_nothing() -> None:
    assert phrases(10, [], ["the"], 0) == phrases(10, [], [], 0)
