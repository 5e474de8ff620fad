import pytest

from backend.labelstudio.negation import heard, understood


@pytest.mark.parametrize(
    ("phrase", "wanted", "unwanted"),
    [
        ("a car", "a car", ()),
        ("a car, not the shadow", "a car", ("the shadow",)),
        ("a car but not the shadow and not the road", "a car", ("the shadow", "the road")),
        ("Not its shadow", "", ("its shadow",)),
        ("a car，not the shadow", "a car", ("the shadow",)),
        ("a car、 not the shadow；not the road", "a car", ("the shadow", "the road")),
        ("a car—not the shadow", "a car", ("the shadow",)),
        ("a car (not the shadow)", "a car", ("the shadow",)),
        ("a car（not the shadow）", "a car", ("the shadow",)),
        ("a cup (the blue one)", "a cup (the blue one)", ()),
        ("a forget-me-not flower", "a forget-me-not flower", ()),
        ("a knot, a notch", "a knot, a notch", ()),
        ("not ", "not", ()),
    ],
)
def test_what_follows_a_not_is_not_meant(
    phrase: str, wanted: str, unwanted: tuple[str, ...]
) -> None:
    assert understood(phrase) == (wanted, unwanted)


def test_a_long_gap_in_a_phrase_is_read_at_once() -> None:
    gap = " " * 100_000
    assert understood(f"a{gap}b not c") == (f"a{gap}b", ("c",))
    assert understood(f"a,{gap}but{gap}not{gap}b") == ("a", ("b",))


def test_a_labels_own_name_is_no_not() -> None:
    texts = ("Not ripe", "a tomato, not a red one", "not a leaf", "a tomato")
    assert heard(texts, "not ripe") == (("Not ripe", "a tomato"), ("a red one", "a leaf"))
    assert heard(("not ripe",), "tomato") == ((), ("ripe",))
