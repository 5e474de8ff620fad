import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import vocabulary
from models import CLIPTokenizer
from models.tokenizer import EOS

TOKENIZER = CLIPTokenizer(vocabulary.build())


@given(st.text(max_size=20))
def test_any_text_has_ids_between_start_and_end(text: str) -> None:
    (row,) = TOKENIZER.encode([text])
    start, end = TOKENIZER.encode([""])[0]
    assert row[0] == start
    assert row[-1] == end == max(row)


def test_case_and_spaces_do_not_matter() -> None:
    rows = TOKENIZER.encode(["A  Red\tCircle", "a red circle", " a red circle "])
    assert rows[0] == rows[1] == rows[2]


def test_shorter_texts_are_padded_and_masked() -> None:
    tokens = TOKENIZER(["a red circle", "star"])
    assert tokens["input_ids"].shape == tokens["attention_mask"].shape
    assert tokens["attention_mask"].sum(dim=1).tolist() == [5, 3]


def test_saving_keeps_every_id(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    texts = ["a red circle", "naïve café", "日本語 🙂", "x" * 100]
    assert CLIPTokenizer.from_pretrained(tmp_path).encode(texts) == TOKENIZER.encode(texts)


def test_vocab_and_merges_do_what_tokenizer_json_does(tmp_path: Path) -> None:
    TOKENIZER._tokenizer.model.save(str(tmp_path))
    text = tmp_path / "vocab.json"
    assert EOS in text.read_text()
    texts = ["a red circle", "naïve café", "it's 42"]
    assert CLIPTokenizer.from_pretrained(tmp_path).encode(texts) == TOKENIZER.encode(texts)


def test_a_file_that_says_nothing_of_ends_has_them(tmp_path: Path) -> None:
    whole = CLIPTokenizer(vocabulary.build())
    whole.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**raw, "post_processor": None}))
    assert CLIPTokenizer.from_pretrained(tmp_path).encode(["a dog"]) == whole.encode(["a dog"])


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="no text"):
        TOKENIZER([])


def test_half_a_character_that_stands_alone_is_read_as_one_that_is_not_known() -> None:
    assert TOKENIZER.encode(["\ud800 star"]) == TOKENIZER.encode(["? star"])
