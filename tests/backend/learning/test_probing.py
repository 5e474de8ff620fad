"""Probes of labels, learned on generated scenes and the demo checkpoint."""

import pytest

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.starter import label_config
from backend.learning import probing
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


def test_who_wants_no_probe_gets_none(demo: Segmenter, books: Books) -> None:
    books.put(7, "by hand", Entry("Widget").setting(exemplars=()).without_probe())
    assert widget(run(demo, books, accepted(20), WORDY).book).probe is None
