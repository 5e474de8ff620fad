import pytest
from PIL import ImageFont

from backend.lettering import FILES, lettering


def drawn(text: str, files: tuple[str, ...] = FILES) -> bytes:
    written, font = lettering(text, 20, files)
    return bytes(font.getmask(written))


def test_english_is_written_in_the_font_that_is_always_there() -> None:
    assert drawn("a red circle 0.50") == bytes(
        ImageFont.load_default(20).getmask("a red circle 0.50")
    )


def test_letters_lose_their_accents_where_the_machine_has_no_font_for_them() -> None:
    assert lettering("Glu\u0308ck", 20, ("no such font.ttf",))[0] == "Gluck"
    assert drawn("Glück", ()) == drawn("Gluck", ())


def test_both_ways_to_encode_an_accent_are_written_the_same() -> None:
    assert drawn("Glück") == drawn("Glu\u0308ck")


def test_letters_that_no_font_has_are_left_as_they_are() -> None:
    assert lettering("裂缝 0.77", 20, ())[0] == "裂缝 0.77"


@pytest.mark.parametrize("text", ["трещина 0.81", "σχισμή 0.40", "Glück 0.50"])
def test_other_scripts_are_written_in_a_font_of_the_machine(text: str) -> None:
    try:
        ImageFont.truetype("DejaVuSans.ttf")
    except OSError:
        pytest.skip("this machine lacks a font of many scripts (Debian: fonts-dejavu-core)")
    written, font = lettering(text, 20)
    assert written == text
    box = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(letter)) != box for letter in text)
