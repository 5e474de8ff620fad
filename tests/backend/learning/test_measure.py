"""On generated scenes and the demo checkpoint, whose truth is known.

How well it goes on many scenes is measured in `benchmarks/bench_prompts.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.cli.booktable import of_label
from backend.inference.books import Books
from backend.inference.promptbook import FEW, Entry, Origin, Phrase, PromptBook
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.choice import Choice
from backend.learning.dataset import Part, Sample
from backend.learning.thresholds import ENOUGH
from backend.learning.weighing import WEIGHTS
from backend.prompting import queries
from demo.scenes import Look, generate
from models import Segmenter
from tests.backend.learning.widgets import BASE, XML, accepted, run, sample, tasks, widget


def test_a_label_whose_name_means_nothing_is_found_by_what_was_accepted(
    demo: Segmenter, books: Books
) -> None:
    measured = run(demo, books, accepted(4, ENOUGH))
    entry = widget(measured.book)
    assert entry.weight is not None
    assert entry.weight > 0
    assert [one.task for one in entry.exemplars] == tasks(Part.TRAINING, 4)
    assert entry.proof is not None
    assert (entry.proof.part, entry.proof.masks) == ("held-out", ENOUGH)
    assert entry.proof.iou > entry.proof.before + 0.15
    assert "Gone" not in measured.book.entries
    query = queries(parse_label_config(XML), 0.4, books.serving(7, BASE))[0]
    assert len(query.exemplars) == sum(one.used for one in entry.exemplars)
    assert measured.book.note.base == BASE
    assert measured.account.parts.total() == 4 + ENOUGH


def test_an_exemplars_own_task_never_counts_for_it(demo: Segmenter, books: Books) -> None:
    (one,) = widget(run(demo, books, accepted(1)).book).exemplars
    assert (one.iou, one.gain, one.masks, one.used) == (None, None, 0, True)
    for one in widget(run(demo, books, accepted(3)).book).exemplars:
        assert one.masks == 2


def test_exemplars_are_shown_in_other_colours_only_where_words_find_nothing(
    demo: Segmenter, books: Books
) -> None:
    silent = widget(run(demo, books, accepted(2)).book)
    assert len(silent.recoloured) == 2
    speaking = XML.replace('value="Widget"', 'value="Widget" predicted_values="ring"')
    entry = widget(run(demo, books, accepted(2), speaking).book)
    assert len(entry.exemplars) == 2
    assert not entry.recoloured


def test_an_image_that_was_imported_twice_shows_a_label_once(demo: Segmenter, books: Books) -> None:
    first, second, third = tasks(Part.TRAINING, 3)
    one, other = sample(first), sample(second)
    twice = widget(run(demo, books, [one, other, replace(one, task=third)]).book)
    assert [shown.task for shown in twice.exemplars] == [first, second]
    assert [shown.masks for shown in twice.exemplars] == [1, 1]  # on another image
    unequal = widget(run(demo, books, [one, other, sample(third)]).book)
    assert [shown.task for shown in unequal.exemplars] == [first, second, third]


def test_held_out_tasks_show_nothing_unless_they_are_all_there_is(
    demo: Segmenter, books: Books
) -> None:
    judging = tasks(Part.HELD_OUT, 3)
    entry = widget(run(demo, books, [sample(task) for task in judging]).book)
    assert [one.task for one in entry.exemplars] == judging[:1]
    entry = widget(run(demo, books, accepted(1, 3)).book)
    assert [one.task for one in entry.exemplars] == tasks(Part.TRAINING, 1)


def test_held_out_tasks_that_are_too_few_to_judge_count_as_the_others_do(
    demo: Segmenter, books: Books
) -> None:
    entry = widget(run(demo, books, accepted(2, 2)).book)
    assert [one.task for one in entry.exemplars] == [
        *tasks(Part.TRAINING, 2),
        *tasks(Part.HELD_OUT, 2),
    ]
    assert entry.masks == 4
    assert {one.masks for one in entry.exemplars} == {3}


def test_no_image_that_teaches_is_among_those_that_prove(demo: Segmenter, books: Books) -> None:
    taught, judging = accepted(2), tasks(Part.HELD_OUT, ENOUGH + 2)
    fresh = [sample(task) for task in judging[2:]]
    copies = [replace(one, task=task) for one, task in zip(taught, judging[:2], strict=True)]
    proof = widget(run(demo, books, [*taught, *copies, *fresh]).book).proof
    assert proof is not None
    assert (proof.part, proof.masks) == ("held-out", ENOUGH)
    few = widget(run(demo, books, [*taught, *copies, *fresh[:2]]).book)
    assert few.masks == 4  # those that are held out are too few to judge, and count as the others


def slip(task: int) -> Sample:
    """A star that was given the widget's label."""
    scene = generate(task, 128, include=[Look("star", "yellow", "plain")], count=(1, 1))
    image, masks = TaskImage(scene.image, f"slip {task}"), {"Widget": scene.objects[0].mask}
    return replace(sample(task), image=image, masks=masks)


def test_an_exemplar_that_hurts_is_left_out_and_says_why(demo: Segmenter, books: Books) -> None:
    first, second, *rest = tasks(Part.TRAINING, 5)
    entry = widget(run(demo, books, [slip(first), slip(second), *map(sample, rest)]).book)
    (left_out,) = [one for one in entry.exemplars if not one.used]
    assert left_out.task in {first, second}
    assert left_out.gain is not None
    assert left_out.gain < -0.03
    assert left_out.reason == f"without it the others find {-left_out.gain:.3f} more"


def test_few_exemplars_are_shown_in_other_colours_and_more_as_they_are(
    demo: Segmenter, books: Books
) -> None:
    for count in (2, FEW + 1):
        entry = widget(run(demo, books, accepted(count)).book)
        query = queries(parse_label_config(XML), 0.4, books.serving(7, BASE))[0]
        assert len(query.exemplars) == count
        assert len(query.recoloured) == (count if count <= FEW else 0)
        assert ("in other colours" in of_label(entry)) == bool(query.recoloured)


def test_two_masks_are_too_few_to_say_that_an_exemplar_hurts(demo: Segmenter, books: Books) -> None:
    first, *rest = tasks(Part.TRAINING, 3)
    entry = widget(run(demo, books, [slip(first), *map(sample, rest)]).book)
    assert [one.used for one in entry.exemplars] == [True] * 3


def test_a_mask_of_next_to_nothing_shows_nothing(demo: Segmenter, books: Books) -> None:
    (one,) = accepted(1)
    dot = np.zeros(one.size, bool)
    dot[5, 5:8] = True
    entry = widget(run(demo, books, [replace(one, masks={"Widget": dot})]).book)
    assert entry.exemplars == ()


def test_what_is_measured_again_is_the_same_and_no_new_version(
    demo: Segmenter, books: Books
) -> None:
    first = run(demo, books, accepted(3)).book
    again = run(demo, books, accepted(3)).book
    assert again.number == first.number == 1
    changed = run(demo, books, accepted(4)).book
    assert changed.number == 2


def test_what_persons_set_stays(demo: Segmenter, books: Books) -> None:
    first = widget(run(demo, books, accepted(3)).book)
    chosen = first.setting(
        texts=(Phrase("a gadget", Origin.HAND),),
        threshold=0.77,
        confidence=0.8,
        weight=0.5,
        exemplars=(replace(first.exemplars[0], used=False), *first.exemplars[1:]),
    )
    books.put(7, "by hand", chosen)
    entry = widget(run(demo, books, accepted(4)).book)
    assert entry.texts == chosen.texts
    assert (entry.threshold, entry.confidence, entry.weight) == (0.77, 0.8, 0.5)
    assert entry.exemplars == chosen.exemplars
    assert entry.by_hand == chosen.by_hand


def test_words_that_were_set_with_a_not_are_measured_as_they_are_asked(
    demo: Segmenter, books: Books
) -> None:
    found = []
    for text in ("dotted purple ring", "dotted purple ring, not a yellow star"):
        said = Entry("Widget").setting(texts=(Phrase(text, Origin.HAND),))
        books.put(7, "by hand", said)
        found.append(widget(run(demo, books, accepted(2)).book))
    assert found[0].weights == found[1].weights


def test_what_a_person_left_out_stays_out_while_what_is_accepted_joins_the_others(
    demo: Segmenter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.learning.evidence.MOST_EXEMPLARS", 2)
    first, *others = tasks(Part.TRAINING, 3)
    sloppy = widget(run(demo, books, accepted(1)).book).exemplars[0]
    books.change(7, "by hand", lambda book: book.having(widget(book).without({sloppy.id})))
    for count in (1, 2, 3):
        entry = widget(run(demo, books, accepted(count)).book)
        assert [one.task for one in entry.exemplars] == [*others[: count - 1], first]
        assert [one.id for one in entry.exemplars if not one.used] == [sloppy.id]
    given_back = entry.setting(exemplars=None)
    books.put(7, "given back", given_back)
    assert widget(run(demo, books, accepted(2)).book).exemplars[0].used


def test_another_checkpoint_is_measured_anew(demo: Segmenter, books: Books) -> None:
    first = widget(run(demo, books, accepted(2)).book)
    other = run(demo, books, accepted(2), base="c" * 64).book
    assert other.note.base == "c" * 64
    assert not {one.id for one in widget(other).exemplars} & {one.id for one in first.exemplars}


def test_a_weight_that_a_person_set_outlives_the_checkpoint(demo: Segmenter, books: Books) -> None:
    entry = widget(run(demo, books, accepted(2)).book)
    books.put(7, "weight of it set by hand", entry.setting(weight=0.15))
    other = widget(run(demo, books, accepted(2), base="c" * 64).book)
    assert other.exemplars
    assert (other.weight, other.asked_weights) == (0.15, ((0.15, 0.0),))


def test_a_single_exemplar_weighs_what_the_words_leave_to_be_found(
    demo: Segmenter, books: Books
) -> None:
    found = []
    for words in ("a thing", "dotted purple ring"):
        xml = label_config(["Widget"]).replace(
            'value="Widget"', f'value="Widget" predicted_values="{words}"'
        )
        entry = widget(run(demo, books, accepted(1), xml=xml).book)
        (phrase,) = [one for one in entry.texts if one.used]
        assert phrase.iou is not None
        assert entry.weight == pytest.approx(1 - (phrase.iou + 0.3) / 2, abs=0.13)
        assert entry.weights == ()
        assert entry.weight is not None
        found.append((phrase.iou, entry.weight))
    (astray, much), (right, little) = found
    assert right > astray > 0
    assert little < much


def test_words_that_find_nothing_stay_beside_the_exemplars(demo: Segmenter, books: Books) -> None:
    mute = widget(run(demo, books, accepted(1)).book)
    assert mute.texts[0].iou == 0.0
    assert mute.weight is not None
    assert mute.weight < 0.75


def test_doubtful_parts_are_left_out_where_they_are_seldom_right(
    demo: Segmenter, books: Books
) -> None:
    xml = label_config(["Widget"]).replace(
        'value="Widget"',
        'value="Widget" predicted_values="ring" model_score_threshold="0.1"',
    )
    entry = widget(run(demo, books, accepted(12), xml).book)
    at = dict(entry.confidences)
    assert entry.confidence is not None
    assert 0.1 < entry.confidence < 1
    assert np.interp(entry.confidence, list(at), list(at.values())) > at[0.1]
    assert entry.proof is not None  # of what is served, not of all parts
    assert entry.proof.iou == pytest.approx(
        np.interp(entry.confidence, list(at), list(at.values())), abs=0.001
    )
    (query,) = queries(parse_label_config(xml), 0.4, books.serving(7, BASE))
    assert query.confidence == entry.confidence


def test_a_label_that_cannot_be_read_keeps_no_other_from_being_measured(
    demo: Segmenter, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    long = Entry("Gone").setting(texts=(Phrase("a word " * 70, Origin.HAND),))
    books.put(7, "by hand", long)
    (one,) = accepted(1)
    both = replace(one, masks={"Widget": one.mask("Widget"), "Gone": one.mask("Widget")})
    book = run(demo, books, [both]).book
    assert len(widget(book).exemplars) == 1
    assert book.entry("Gone").by_hand == {"texts"}
    assert "'Gone' cannot be measured" in caplog.text


def test_what_was_measured_stays_while_its_images_cannot_be_had(
    demo: Segmenter, books: Books
) -> None:
    whole = run(demo, books, accepted(3)).book
    first, second, third = tasks(Part.TRAINING, 3)
    for unseen in ({first}, {second, third}, {first, second, third}):
        assert run(demo, books, accepted(3), unseen=unseen).book.entries == whole.entries
    # one that is gone for good is missed no longer than until as much is known again
    entry = widget(run(demo, books, accepted(4), unseen={first}).book)
    assert [one.task for one in entry.exemplars] == tasks(Part.TRAINING, 4)[1:]


def test_what_another_project_measured_counts_until_a_mask_of_the_label_is_accepted(
    demo: Segmenter, books: Books, tmp_path: Path
) -> None:
    numbers = tasks(Part.TRAINING, 3)  # of other tasks here
    others = [replace(one, task=n) for one, n in zip(accepted(5)[2:], numbers, strict=True)]
    elsewhere = widget(run(demo, books, others).book)
    raw = dict(books.exported(7), project=8)
    here = Books(tmp_path / "here")
    shown = widget(here.imported(7, raw, "imported")).exemplars
    assert [one.project for one in shown] == [8, 8, 8]
    assert "of project 8" in of_label(here.book(7).entry("Widget"))
    gone = replace(sample(tasks(Part.TRAINING, 1)[0]), masks={})
    kept = widget(run(demo, here, [gone]).book)
    assert kept == replace(elsewhere, exemplars=shown)
    both = [(0, 1), (0, 1), (8, 2), (8, 2), (8, 2)]
    exemplars = widget(run(demo, here, accepted(2)).book).exemplars
    assert [(one.project, one.masks) for one in exemplars] == both
    back = here.imported(7, here.exported(7), "imported back")
    assert [one.project for one in widget(back).exemplars] == [0, 0, 8, 8, 8]
    books.put(8, "measured", elsewhere)
    home = books.imported(8, here.exported(7), "imported home")
    assert [one.project for one in widget(home).exemplars] == [7, 7, 0, 0, 0]
    exemplars = widget(run(demo, here, accepted(3)).book).exemplars  # one that was shown there
    assert [one.project for one in exemplars] == [0, 0, 0, 8, 8]


def test_what_is_imported_or_rolled_back_to_while_it_is_measured_stays(
    demo: Segmenter, books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Books(tmp_path / "elsewhere")
    run(demo, elsewhere, accepted(1))
    raw = dict(elsewhere.exported(7), project=8)

    def run_while(meanwhile: Callable[[], PromptBook]) -> None:
        written: list[PromptBook] = []
        choose = Choice.entry

        def entry(self: Choice) -> Entry:
            written.extend([] if written else [meanwhile()])
            return choose(self)

        with monkeypatch.context() as patch:
            patch.setattr(Choice, "entry", entry)
            assert run(demo, books, accepted(2)).book == written[0]

    run_while(lambda: books.imported(7, raw, "imported"))
    assert [one.project for one in widget(books.book(7)).exemplars] == [8]
    assert len(widget(run(demo, books, accepted(2)).book).exemplars) == 2
    run_while(lambda: books.rollback(7))


def test_the_exemplars_weight_is_one_that_finds_about_the_most(
    demo: Segmenter, books: Books
) -> None:
    entry = widget(run(demo, books, accepted(ENOUGH + 2)).book)
    assert [weight for weight, _ in entry.weights] == list(WEIGHTS)
    assert entry.weight is not None
    weights, scores = zip(*entry.weights, strict=True)
    assert scores[weights.index(entry.weight)] >= max(scores) - 0.02
    assert (entry.weight, 0.0) in entry.handicaps


def test_images_choose_among_weights_at_least_as_well_as_the_best_weight_does(
    demo: Segmenter, books: Books
) -> None:
    entry = widget(run(demo, books, accepted(3)).book)
    assert len(entry.handicaps) > 1
    at = dict(entry.thresholds)
    assert np.interp(0.4, list(at), list(at.values())) >= max(s for _, s in entry.weights) - 0.02
