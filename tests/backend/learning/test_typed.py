"""What annotators typed, as measuring finds it in accepted tasks, on the demo checkpoint."""

from dataclasses import replace

import numpy as np
import pytest

from backend.inference.books import Books
from backend.inference.promptbook import Entry, Origin, Phrase
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Part, Sample
from backend.prompting import queries
from demo.scenes import Look, generate
from models import Segmenter
from tests.backend.learning.widgets import BASE, XML, accepted, run, sample, tasks, widget


def test_a_phrase_that_was_typed_and_accepted_is_remembered_for_the_next_images(
    demo: Segmenter, books: Books
) -> None:
    typed = [sample(tasks(Part.TRAINING, 1)[0], ("purple dotted ring", "Widget"))]
    entry = widget(run(demo, books, typed).book)
    phrase = entry.texts[0]
    assert (phrase.text, phrase.origin) == ("purple dotted ring", Origin.TYPED)
    assert (phrase.used, phrase.times, phrase.masks) == (True, 1, 1)
    assert [(one.text, one.used) for one in entry.texts[1:]] == [("widget", False)]
    offered = [replace(one, suggested=frozenset(one.typed)) for one in typed]
    book = run(demo, Books(books._folder / "offered"), offered).book
    assert widget(book).texts[0].origin == Origin.SUGGESTED
    assert book.fitting("another").entry("Widget").texts == (widget(book).texts[0],)
    judging = [sample(tasks(Part.HELD_OUT, 1)[0], ("Widget: dotted ring",))]
    entry = widget(run(demo, Books(books._folder / "other"), judging).book)
    assert [one.text for one in entry.texts if one.used] == ["dotted ring"]


def test_a_phrase_counts_once_however_it_is_written(demo: Segmenter, books: Books) -> None:
    typed = ("Purple ring", "purple  ring", "PURPLE RING"), ("purple ring", "WIDGET ")
    acceptable = [replace(one, typed=said) for one, said in zip(accepted(2), typed, strict=True)]
    for _ in range(2):
        entry = widget(run(demo, books, acceptable).book)
        assert [(one.text, one.times) for one in entry.texts] == [("Purple ring", 4), ("widget", 0)]
        acceptable.reverse()


def test_of_many_phrases_those_that_are_new_are_tried_first_and_those_in_use_stay(
    demo: Segmenter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.learning.choice.MOST_TEXTS", 4)
    (task,) = tasks(Part.TRAINING, 1)
    poor = ("yellow star", "green cross", "red circle")
    run(demo, books, [sample(task, poor)])
    entry = widget(run(demo, books, [sample(task, (*poor, "purple dotted ring"))]).book)
    assert [one.text for one in entry.texts if one.used] == ["purple dotted ring"]
    more = (*poor, "purple dotted ring", "blue square", "pink ring")
    entry = widget(run(demo, books, [sample(task, more)]).book)
    assert [one.text for one in entry.texts if one.used] == ["purple dotted ring"]


def test_what_a_label_is_not_is_no_phrase_that_was_typed_for_it(
    demo: Segmenter, books: Books
) -> None:
    [one] = accepted(1)
    typed = ("Widget, not the shadow", "not the Shadow", "ring, not the shadow, not a star")
    entry = widget(run(demo, books, [replace(one, typed=typed)]).book)
    assert {text.text: text.times for text in entry.texts} == {"widget": 0, "ring": 1}
    assert {text.text: text.times for text in entry.negatives} == {"the shadow": 3, "a star": 1}
    assert "0 of 3 masks" in entry.negatives[0].reason


def test_of_several_labels_nobody_knows_which_one_a_not_alone_was_typed_for(
    demo: Segmenter, books: Books
) -> None:
    [one] = accepted(1)
    both = {"Widget": one.mask("Widget"), "Gone": one.mask("Widget")}
    book = run(demo, books, [replace(one, typed=("not the shadow",), masks=both)]).book
    assert not any(entry.negatives for entry in book.entries.values())


def test_what_was_typed_that_a_label_is_not_is_taken_away_where_that_helps(
    demo: Segmenter, books: Books
) -> None:
    xml = label_config(["Red thing"])
    typed = [
        rings(task, ("Red thing, not a red circle", "red thing but not a blue star"))
        for task in tasks(Part.TRAINING, 4)
    ]
    by_words = Entry("Red thing").setting(weight=0.0)  # what exemplars show may do it, too
    books.change(7, "by hand", lambda book: book.having(by_words))
    entry = run(demo, books, typed, xml).book.entry("Red thing")
    helps, idle = entry.negatives
    assert (helps.text, helps.origin, helps.times) == ("a red circle", Origin.TYPED, 4)
    assert (helps.used, helps.masks, helps.reason) == (True, 4, "")
    assert (idle.text, idle.used) == ("a blue star", False)
    assert "as good without" in idle.reason
    assert entry.proof is not None
    assert entry.proof.iou == helps.iou
    assert entry.proof.iou > entry.proof.before + 0.03
    config = parse_label_config(xml)
    assert queries(config, 0.4, books.serving(7, BASE))[0].negatives == ("a red circle",)

    said = Entry("Red thing").setting(weight=0.0, negatives=(Phrase("a cross", Origin.HAND),))
    books.change(7, "by hand", lambda book: book.having(said))
    entry = run(demo, books, typed, xml).book.entry("Red thing")
    assert entry.negatives == said.negatives

    worded = xml.replace('"Red thing"', '"Red thing" negative_values="a cross"')
    books.change(7, "by hand", lambda book: book.having(by_words))
    assert run(demo, books, typed, worded).book.entry("Red thing").negatives == ()


def rings(task: int, typed: tuple[str, ...]) -> Sample:
    """A scene with a red ring, which is accepted, and a red disc, which is not."""
    wanted, other = Look("ring", "red", "plain"), Look("circle", "red", "plain")
    scene = generate(task, 128, include=[wanted, other], count=(3, 3))
    mask = np.logical_or.reduce([one.mask for one in scene.objects if one.look == wanted])
    image = TaskImage(scene.image, f"rings {task}")
    return Sample(task, "image", image, ("Red thing",), {"Red thing": mask}, typed=typed)


def test_a_typed_phrase_that_finds_less_is_kept_and_not_used(demo: Segmenter, books: Books) -> None:
    good = [replace(one, typed=("yellow star",)) for one in accepted(2)]
    xml = label_config(["Purple ring", "Gone"])
    relabelled = [
        replace(one, labels=("Purple ring",), masks={"Purple ring": one.mask("Widget")})
        for one in good
    ]
    entry = run(demo, books, relabelled, xml).book.entry("Purple ring")
    assert [(one.text, one.used, one.times) for one in entry.texts] == [
        ("purple ring", True, 0),
        ("yellow star", False, 2),
    ]


def test_words_that_the_labeling_configuration_gives_stay(demo: Segmenter, books: Books) -> None:
    xml = XML.replace('value="Widget"', 'value="Widget" predicted_values="yellow star"')
    typed = [replace(one, typed=("purple dotted ring",)) for one in accepted(2)]
    entry = widget(run(demo, books, typed, xml).book)
    assert [(one.text, one.used) for one in entry.texts] == [
        ("yellow star", True),
        ("purple dotted ring", False),
    ]
    assert entry.texts[1].iou is not None
    assert "labeling configuration" in entry.texts[1].reason


def test_a_caption_that_no_model_reads_is_no_phrase(
    demo: Segmenter, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    caption, endless = "a table with many things on it " * 12, "x" * 600
    one, other = accepted(2)
    both = {"Widget": one.mask("Widget"), "Gone": one.mask("Widget")}
    typed = [replace(one, typed=(caption,), masks=both), replace(other, typed=(endless, "ring"))]
    entry = widget(run(demo, books, typed).book)
    assert {phrase.text for phrase in entry.texts} == {"ring", "widget"}
    assert f"typed in task {one.task} is not tried" in caplog.text
    assert widget(books.book(7)) == entry  # and the book can be read
