import pytest

from backend.labelstudio.labels import words_of


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("dog", "dog"),
        ("RedCar", "red car"),
        ("red_car", "red car"),
        ("red-car", "red car"),
        ("Traffic  Light", "traffic light"),
        ("SUV", "suv"),
        ("SUVRoof", "suv roof"),
        ("iPhone", "iphone"),
        ("ÉcoleNoire", "école noire"),
        ("赤い_車", "赤い_車"),
        ("КраснаяМашина", "КраснаяМашина"),
        ("_", ""),
    ],
)
def test_a_label_is_prompted_with_its_own_words(value: str, words: str) -> None:
    assert words_of(value) == words
