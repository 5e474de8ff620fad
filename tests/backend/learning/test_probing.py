"""Probes of labels, learned on generated scenes and the demo checkpoint."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.probe import Probe
from backend.inference.promptbook import Entry
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.starter import label_config
from backend.learning import choice, probing
from backend.learning.jury import GRID, Rating
from backend.learning.probing import Learned
from backend.prompting import queries
from models import Segmenter
from tests.backend.learning.widgets import BASE, accepted, run, sample, widget

WORDY = label_config(["Widget"]).replace(
    'value="Widget"', 'value="Widget" predicted_values="purple thing"'
)


def test_parts_that_are_mostly_wrong_are_told_by_what_is_inside(
    demo: Segmenter, books: Books
) -> None:
    books.put(7, "by hand", Entry("Widget").setting(exemplars=()))
    entry = widget(run(demo, books, accepted(20), WORDY).book)
    assert entry.probe is not None
    assert entry.probe.gain is not None
    assert entry.probe.gain > 0.005
    assert entry.probe.right >= 20
    assert entry.probe.wrong >= 5
    (looked,) = queries(parse_label_config(WORDY), 0.4, books.serving(7, BASE))
    assert looked.probed == entry.probe.id
    found = {True: 0, False: 0}  # pixels of what is no widget, on images that taught nothing
    predictor = Predictor(demo, FeatureCache(0))
    for one in map(sample, range(1000, 1015)):
        (features,) = predictor.encode([(one.image.digest, one.image.image)])
        for query in (looked, looked.showing_all()):
            (seen,) = predictor.find(features, {query: predictor.asking(query)})
            if seen.mask is not None:
                found[query is looked] += int((seen.mask & ~one.mask("Widget")).sum())
    assert found[True] < 0.5 * found[False]


def test_few_wrong_parts_teach_no_probe(
    demo: Segmenter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.put(7, "by hand", Entry("Widget").setting(exemplars=()))
    entry = widget(run(demo, books, accepted(20), WORDY).book)
    assert entry.probe is not None
    monkeypatch.setattr(probing, "LEAST", entry.probe.wrong + 1)
    assert widget(run(demo, books, accepted(20), WORDY).book).probe is None


def test_what_parts_look_like_by_chance_teaches_no_probe(
    demo: Segmenter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(0)

    def look(_: object, count: int, __: object) -> NDArray[np.float64]:
        return drawn.standard_normal((count, 64))

    monkeypatch.setattr(probing, "describe", look)  # each part is told only by what it said itself
    books.put(7, "by hand", Entry("Widget").setting(exemplars=()))
    assert widget(run(demo, books, accepted(20), WORDY).book).probe is None


def test_who_wants_no_probe_gets_none(demo: Segmenter, books: Books) -> None:
    books.put(7, "by hand", Entry("Widget").setting(exemplars=()).without_probe())
    assert widget(run(demo, books, accepted(20), WORDY).book).probe is None


def looking(gains: list[float]) -> Learned:
    """A probe that gains so much on each of some masks, wherever parts need some chance."""
    without = np.full(len(gains), 0.4)
    curves = np.repeat((without + gains)[:, None], len(GRID), axis=1)
    rating = Rating(curves, np.ones(len(gains), bool))
    return Learned(Probe(np.ones(2), 0.0), rating, without, 20, 9)


def test_a_probe_is_kept_that_gains_on_masks_in_general_and_not_on_a_few_by_luck() -> None:
    kept = choice._worth_it(looking([0.1] * 12))
    assert kept is not None
    assert kept.gain == pytest.approx(0.1)
    assert choice._worth_it(looking([0.3, 0.3, *[-0.05] * 10])) is None
    assert choice._worth_it(looking([0.001] * 12)) is None


def test_the_fewer_masks_taught_a_probe_the_less_chance_a_part_needs_to_be_shown() -> None:
    found = [choice._worth_it(looking([0.1] * count)) for count in (10, 20, 200)]
    chances = [one.chance for one in found if one is not None]
    assert len(chances) == 3
    assert chances == sorted(set(chances))
