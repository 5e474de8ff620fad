import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import phrases, vocabulary
from models.tokenizer import BOS, EOS

TOKENIZER = vocabulary.build()


@given(st.text(max_size=40))
def test_any_text_has_ids_between_start_and_end(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    start, end = TOKENIZER.token_to_id(BOS), TOKENIZER.token_to_id(EOS)
    assert ids[0] == start
    assert ids[-1] == end
    assert max(ids[1:-1], default=0) < start or BOS in text.lower() or EOS in text.lower()


@pytest.mark.parametrize("text", ["zebra crossing", "naïve café", "日本", "it's 9!"])
def test_a_text_comes_back_from_its_ids(text: str) -> None:
    ids = TOKENIZER.encode(text).ids
    back = TOKENIZER.decode(ids, skip_special_tokens=True).replace("</w>", " ")
    assert "".join(back.split()) == "".join(text.split())


def test_the_end_of_text_is_the_largest_id() -> None:
    assert TOKENIZER.token_to_id(EOS) == TOKENIZER.get_vocab_size() - 1


def test_every_word_of_the_grammar_is_one_token() -> None:
    assert [w for w in phrases.vocabulary() if len(TOKENIZER.encode(w).ids) != 3] == []


def test_it_is_built_the_same_every_time() -> None:
    assert vocabulary.build().to_str() == TOKENIZER.to_str()
