from pathlib import Path

import pytest

from backend.errors import BadVocabulary
from backend.inference.vocabulary import EVERYDAY, LONGEST_WORD, MOST_WORDS, Vocabulary


def test_a_line_is_a_thing_with_what_else_it_is_called() -> None:
    lines = [
        "# things",
        "",
        " car, automobile,,car ",
        "ball",
        "[Attributes]",
        "red",
        "cyan,  aqua ",
    ]
    assert Vocabulary.from_lines(lines) == Vocabulary(
        things=(("car", "automobile"), ("ball",)), attributes=(("red",), ("cyan", "aqua"))
    )


def test_a_file_that_windows_saved_begins_with_its_first_word(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffcar\r\nball\r\n".encode())
    assert Vocabulary.read(path).things == (("car",), ("ball",))


def test_synonyms_stand_for_whole_words_in_a_phrase() -> None:
    vocabulary = Vocabulary((("car", "automobile", "vehicle"), ("disc", "circle")), (("red",),))
    assert vocabulary.synonyms("The Car") == ["the automobile", "the vehicle"]
    assert vocabulary.synonyms("carpet") == []
    assert vocabulary.synonyms("circle") == ["disc"]
    signs = Vocabulary((("T.V.", "screen"), ("(c)", "copyright sign")))
    assert signs.synonyms("a black T.V.") == ["a black screen"]
    assert signs.synonyms("(C)") == ["copyright sign"]
    assert signs.synonyms("a(c)b") == []


def test_a_synonym_is_put_in_as_it_is_written() -> None:
    vocabulary = Vocabulary.from_lines([r"circle, a\d disc, \1 ring"])
    assert vocabulary.synonyms("red circle") == [r"red a\d disc", r"red \1 ring"]
    assert vocabulary.synonyms(r"red a\d disc") == ["red circle", r"red \1 ring"]


def test_the_everyday_words_can_be_read() -> None:
    words = Vocabulary.read(EVERYDAY)
    assert 100 < len(words.things) < 200
    assert ("red",) in words.attributes


def test_too_many_words_are_refused_with_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(f"word {i}" for i in range(100_000)))
    with pytest.raises(BadVocabulary, match=r"words\.txt .*keep"):
        Vocabulary.read(path)
    some = (f"word {i}" for i in range(MOST_WORDS + 1))
    with pytest.raises(BadVocabulary, match=f"more than {MOST_WORDS:,}"):
        Vocabulary.from_lines(some)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no word"),
        (b"# nothing\n[attributes]\nred\n", "holds no word"),
        (b"ball\n[attribute]\nred\n", r'Line 2 of .* is "\[attribute\]": .* \[attributes\]'),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"car\n" + b"x" * (LONGEST_WORD + 1), "Line 2 .*longer than"),
    ],
)
def test_what_is_no_vocabulary_is_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    with pytest.raises(BadVocabulary, match=message):
        Vocabulary.read(path)


def test_a_vocabulary_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadVocabulary, match=r"missing\.txt cannot be read: No such file"):
        Vocabulary.read(tmp_path / "missing.txt")
