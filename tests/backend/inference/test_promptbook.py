import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BadPromptBook
from backend.inference import booktext
from backend.inference.promptbook import (
    Entry,
    Note,
    Origin,
    Phrase,
    Probed,
    PromptBook,
    Proof,
    Shown,
)
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.labels import Label, as_read
from backend.prompting import Query, model_version, queries

CONFIG = parse_label_config(
    """<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i">
    <Label value="Widget"/>
    <Label value="Said" predicted_values="a gear" model_score_threshold="0.7"/>
    </BrushLabels></View>"""
)
CONDITIONS = {
    "aa": np.array([1.0, 3.0], np.float32),
    "bb": np.array([3.0, 5.0], np.float32),
}
MEASURED = Entry(
    "Widget",
    texts=(Phrase("a cog", Origin.TYPED, 0.5, 4, times=2), Phrase("x", Origin.CONFIG, used=False)),
    exemplars=(Shown("aa", 3, 0.4, 0.1, 5), Shown("bb", 4), Shown("cc", 5, used=False)),
    weight=0.75,
    threshold=0.2,
    proof=Proof(0.6, 0.2, 7, "held-out"),
    weights=((0.0, 0.5), (1.0, 0.6)),
    masks=7,
)


def asked(*entries: Entry, **changes: Any) -> tuple[Query, ...]:
    book = PromptBook(1, note=Note(base="base"), conditions=CONDITIONS).having(*entries)
    return queries(CONFIG, 0.4, replace(book, **changes))


def test_a_book_that_says_nothing_leaves_it_to_the_labeling_configuration() -> None:
    assert asked() == asked(replace(MEASURED, label="Another")) == queries(CONFIG, 0.4)


def test_what_was_measured_stands_where_the_configuration_says_nothing() -> None:
    widget, _ = asked(MEASURED)
    assert (widget.prompts, widget.threshold, widget.weights) == (("a cog",), 0.2, ((0.75, 0.0),))


def test_an_image_may_be_asked_with_each_weight_that_is_not_far_behind() -> None:
    handicaps = ((0.5, 0.04), (0.75, 0.0), (1.0, 0.1))
    measured = replace(MEASURED, handicaps=handicaps)
    assert asked(measured)[0].weights == handicaps
    assert asked(replace(measured, handicaps=((0.0, 0.0), (0.25, 0.1)), weight=0.0))[0].weights
    nothing = replace(measured, handicaps=((0.0, 0.0),), weight=0.0)
    assert (asked(nothing)[0].weights, asked(nothing)[0].exemplars) == ((), ())


def test_a_weight_that_a_person_set_or_wrote_stands_alone() -> None:
    measured = replace(MEASURED, handicaps=((0.5, 0.04), (0.75, 0.0)))
    for entry in (
        measured.setting(weight=0.75),
        measured.setting(weight=0.5),
        replace(measured, weight=0.5),
    ):
        assert asked(entry)[0].weights == ((entry.weight, 0.0),)


def test_exemplars_that_are_used_are_averaged() -> None:
    widget, _ = asked(MEASURED)
    assert widget.exemplars == ("aa", "bb")
    assert widget.shown is not None
    assert widget.shown.tolist() == [2.0, 4.0]


def test_an_exemplar_whose_condition_is_lost_is_not_asked_with() -> None:
    widget, _ = asked(MEASURED, conditions={"bb": CONDITIONS["bb"]})
    assert widget.exemplars == ("bb",)
    widget, _ = asked(MEASURED, conditions={})
    assert (widget.exemplars, widget.shown, widget.prompts) == ((), None, ("a cog",))


def test_few_exemplars_are_shown_in_other_colours_too() -> None:
    first, second, out = MEASURED.exemplars
    few = replace(MEASURED, exemplars=(replace(first, recoloured="bb"), out))
    widget, _ = asked(few)
    assert (widget.exemplars, widget.recoloured) == (("aa",), ("bb",))
    assert widget.shown_recoloured is not None
    assert widget.shown_recoloured.tolist() == CONDITIONS["bb"].tolist()
    again = widget.saying("a cog")
    assert (again.recoloured, again.shown_recoloured) == ((), None)
    lost, _ = asked(few, conditions={"aa": CONDITIONS["aa"]})
    assert (lost.exemplars, lost.recoloured, lost.shown_recoloured) == (("aa",), (), None)
    two = replace(few, exemplars=(*few.exemplars, replace(second, recoloured="cc")))
    lost, _ = asked(two)
    assert (lost.exemplars, lost.recoloured, lost.shown_recoloured) == (("aa", "bb"), (), None)
    many = [replace(one, id="aa", recoloured="bb") for one in (first, second, second)]
    for exemplars in (many, [replace(first, recoloured="bb"), second]):
        widget, _ = asked(replace(MEASURED, exemplars=tuple(exemplars)))
        assert (widget.recoloured, widget.shown_recoloured) == ((), None)


def test_what_the_configuration_says_beats_what_was_measured() -> None:
    _, said = asked(replace(MEASURED, label="Said"))
    assert (said.prompts, said.threshold) == (("a gear",), 0.7)
    assert said.exemplars == ("aa", "bb")  # of which it says nothing


def test_what_a_person_set_in_the_book_beats_the_configuration() -> None:
    entry = Entry("Said").setting(texts=(Phrase("gears", Origin.HAND),), threshold=0.3)
    _, said = asked(entry)
    assert (said.prompts, said.threshold) == (("gears",), 0.3)


def test_a_not_in_a_text_says_what_the_label_is_not() -> None:
    texts = (Phrase("gears (not a belt)", Origin.HAND), Phrase("said", Origin.HAND))
    said = Entry("Said").setting(texts=texts, negatives=(Phrase("rust", Origin.HAND),))
    widget = Entry("Widget").setting(texts=(Phrase("not a cog", Origin.HAND),))
    first, second = asked(said, widget)
    assert (first.prompts, first.negatives) == (("widget",), ("a cog",))
    assert (second.prompts, second.negatives) == (("gears", "said"), ("rust", "a belt"))
    sign = Label("do_not_enter", ("do not enter",))
    named = Entry(sign.value, texts=(Phrase("do not enter", Origin.TYPED),))
    query = Query("image", sign.value, sign.prompts, 0.4, ())
    assert PromptBook(1).having(named).over(query, sign) == query


def test_how_sure_parts_have_to_be_is_asked_with_if_measured_or_set() -> None:
    widget, said = asked(replace(MEASURED, confidence=0.6), Entry("Said").setting(confidence=0.5))
    assert (widget.confidence, said.confidence) == (0.6, 0.5)


def test_parts_are_looked_at_where_the_numbers_of_the_probe_are_known() -> None:
    entry = replace(MEASURED, probe=Probed("dd", 0.3))
    row = np.ones(5, np.float32)
    widget, _ = asked(entry, probes={"dd": row})
    assert (widget.probed, widget.chance) == ("dd", 0.3)
    assert widget.probe is row
    lost, _ = asked(entry)
    assert (lost.probed, lost.probe) == ("", None)
    assert widget.showing_all() == lost == asked(MEASURED)[0]


def test_who_wants_no_second_look_has_none_until_it_is_given_back() -> None:
    without = replace(MEASURED, probe=Probed("dd", 0.3)).without_probe()
    assert (without.probe, without.by_hand) == (None, frozenset({"probe"}))
    assert without.setting(probe=None) == MEASURED


def test_a_field_can_be_given_back_to_measuring() -> None:
    entry = Entry("Said").setting(threshold=0.3).setting(threshold=None)
    assert entry == Entry("Said")


def test_what_another_checkpoint_measured_does_not_count_and_what_persons_said_does() -> None:
    book = PromptBook(1, note=Note(base="base"), conditions=CONDITIONS).having(
        replace(MEASURED, confidence=0.6), Entry("Said").setting(threshold=0.3, confidence=0.5)
    )
    assert book.fitting("base") is book
    widget, said = queries(CONFIG, 0.4, book.fitting("another"))
    assert (widget.prompts, widget.threshold, widget.exemplars) == (("a cog",), 0.4, ())
    assert (widget.confidence, said.threshold, said.confidence) == (0.0, 0.3, 0.5)
    weighed = book.having(MEASURED.setting(weight=0.3)).fitting("another")
    assert weighed.entry("Widget").weight == 0.3


def test_whatever_is_asked_with_is_in_the_version() -> None:
    changes = [
        MEASURED,
        replace(MEASURED, texts=()),
        replace(MEASURED, threshold=0.25),
        replace(MEASURED, confidence=0.6),
        replace(MEASURED, probe=Probed("aa", 0.3)),
        replace(MEASURED, probe=Probed("bb", 0.3)),
        replace(MEASURED, probe=Probed("aa", 0.4)),
        replace(MEASURED, weight=0.5),
        replace(MEASURED, weight=0.0),
        replace(MEASURED, handicaps=((0.75, 0.0), (1.0, 0.1))),
        replace(MEASURED, exemplars=MEASURED.exemplars[:1]),
        replace(MEASURED, exemplars=(replace(MEASURED.exemplars[0], recoloured="bb"),)),
        replace(MEASURED, negatives=(Phrase("a shadow", Origin.HAND),)),
    ]
    versions = {model_version("m", "0" * 64, asked(entry, probes=CONDITIONS)) for entry in changes}
    assert len(versions | {model_version("m", "0" * 64, asked())}) == 1 + len(changes)


def test_figures_alone_do_not_change_the_version() -> None:
    figures = replace(MEASURED, proof=Proof(0.9, 0.2, 70, "held-out"), weights=(), masks=70)
    assert asked(figures) == asked(MEASURED)


shares = st.floats(0, 1).map(lambda x: round(x, 4))
words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(
    lambda text: bool(text.strip())
)
phrases = st.builds(
    Phrase,
    words.map(str.strip),
    st.sampled_from(Origin),
    st.none() | shares,
    st.integers(0, 99),
    st.integers(0, 99),
    st.none() | shares,
    st.integers(0, 99),
    st.booleans(),
    st.text(max_size=9),
)
shown = st.builds(
    Shown,
    st.text("0123456789abcdef", min_size=1, max_size=16),
    st.integers(0, 10**9),
    st.none() | shares,
    st.none() | st.floats(-1, 1).map(lambda x: round(x, 4)),
    st.integers(0, 99),
    st.booleans(),
    st.text(max_size=9),
    st.text("0123456789abcdef", max_size=16),
)
probes = st.builds(
    Probed,
    st.text("0123456789abcdef", min_size=1, max_size=16),
    st.floats(0.01, 0.99).map(lambda x: round(x, 4)),
    st.none() | st.floats(-1, 1).map(lambda x: round(x, 4)),
    st.integers(0, 99),
    st.integers(0, 99),
    st.lists(st.tuples(shares, shares), max_size=3).map(tuple),
)
entries = st.builds(
    Entry,
    words,
    st.lists(phrases, max_size=3, unique_by=lambda one: as_read(one.text)).map(tuple),
    st.lists(shown, max_size=3, unique_by=lambda one: one.id).map(tuple),
    st.lists(phrases, max_size=2, unique_by=lambda one: as_read(one.text)).map(tuple),
    st.none() | shares,
    st.none() | st.floats(0.01, 0.99).map(lambda x: round(x, 4)),
    st.none() | st.floats(0.01, 0.99).map(lambda x: round(x, 4)),
    st.none() | probes,
    st.frozensets(st.sampled_from(["texts", "threshold"])),
    st.none() | st.builds(Proof, shares, shares, st.integers(0, 99), words),
    st.lists(st.tuples(shares, shares), max_size=3).map(tuple),
    st.lists(st.tuples(shares, shares), max_size=3).map(tuple),
    st.lists(st.tuples(shares, shares), max_size=3).map(tuple),
    st.lists(st.tuples(shares, shares), max_size=3).map(tuple),
    st.integers(0, 99),
)


@given(st.lists(entries, max_size=3))
def test_a_book_is_read_as_it_was_written(held: list[Entry]) -> None:
    book = PromptBook(7, 3, note=Note("now", "measured", "b", "t")).having(*held)
    assert booktext.read(json.loads(json.dumps(booktext.written(book))), 3) == book


@pytest.mark.parametrize(
    ("path", "nonsense", "told"),
    [
        ((), [], "the book: expected an object"),
        ((), {"project": 7}, "labels: expected an object"),  # nor is it an empty book
        (("labels",), ["Widget"], "labels: expected an object"),
        (("labels", "Widget"), 3, 'label "Widget": expected an object'),
        (("labels", "Widget", "treshold"), 0.3, "'treshold' is none of"),
        (("labels", "Widget", "threshold"), "0.3", "threshold: expected a number"),
        (("labels", "Widget", "threshold"), 1, "above 0 and below 1"),
        (("labels", "Widget", "threshold"), 0.00004, "above 0 and below 1"),
        (("labels", "Widget", "probe"), {"id": "aa"}, "chance: expected a number"),
        (("labels", "Widget", "probe"), {"id": "a/b", "chance": 0.5}, "names no probe"),
        (
            ("labels", "Widget"),
            {"probe": {"id": "aa", "chance": 0.5}, "by_hand": ["probe"]},
            "probe: a person may want none",
        ),
        (("labels", "Widget", "texts", 0, "text"), "\ud800", "half of a character"),
        (("labels", "Widget", "texts", 0, "origin"), [], "origin: expected one of"),
        (("labels", "Widget", "confidence"), 0, "confidence: expected a number above 0"),
        (("labels", "Widget", "threshold"), float("nan"), "threshold: expected a number"),
        (("labels", "Widget", "weight"), -0.1, "weight: expected a number between 0 and 1"),
        (("labels", "Widget", "texts"), "a cog", "texts: expected a list"),
        (("labels", "Widget", "texts", 0), "a cog", "texts, no. 1: expected an object"),
        (("labels", "Widget", "texts", 0, "text"), " ", "text: expected 1 to 500 characters"),
        (("labels", "Widget", "texts", 0, "origin"), "a dream", "origin: expected one of"),
        (("labels", "Widget", "texts", 0, "used"), 1, "used: expected true or false"),
        (("labels", "Widget", "exemplars", 1, "id"), "../x", "names no exemplar"),
        (("labels", "Widget", "exemplars", 1, "recoloured"), "../x", "names no exemplar"),
        (("labels", "Widget", "exemplars", 1, "task"), True, "task: expected a whole number"),
        (("labels", "Widget", "by_hand"), ["colour"], "by_hand, no. 1: expected one of texts"),
        (("labels", "Widget", "handicaps"), [[0.5, -0.1]], "handicaps, no. 1, handicap: expected"),
        (("labels", "Widget", "weights", 0), [1], "weights, no. 1: expected two numbers"),
        (("project",), "7", "project: expected a whole number"),
        (("labels", " "), {}, "labels: ' ' names no label"),
        (("labels", "\ud800"), {}, "labels: a half of a character"),
        (("labels", "Widget", "exemplars", 1, "id"), "a" * 300, "a{39}... names no exemplar"),
    ],
)
def test_nonsense_is_told_with_its_place(
    path: tuple[str | int, ...], nonsense: object, told: str
) -> None:
    whole: Any = {"book": json.loads(json.dumps(booktext.written(PromptBook(7).having(MEASURED))))}
    *steps, last = ("book", *path)
    place = whole
    for step in steps:
        place = place[step]
    place[last] = nonsense
    with pytest.raises(BadPromptBook, match=told.replace("(", r"\(")):
        booktext.read(whole["book"])
