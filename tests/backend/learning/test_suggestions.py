"""Phrases for a project whose accepted work is scenes that the demo checkpoint can see."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import pytest

from backend.cli import main
from backend.errors import BadRequest, NothingToGoBy
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, Origin, Phrase, PromptBook
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.export import write
from backend.learning.suggestions import Basis, chosen, from_accepted, from_image
from backend.prompting import Query, queries
from demo import WORDS
from demo.evaluate import truth
from models import Exemplar, Segmenter
from tests.backend.inference.stars import RED_STAR, scene

LABELS = ("widget-7", "Nobody")
XML = label_config(LABELS)
ASKED = queries(parse_label_config(XML), 0.4)
VOCABULARY = Vocabulary.read(WORDS)


def sample(task: int) -> Sample:
    drawn = scene(task)
    mask = truth(drawn, RED_STAR)
    image = TaskImage(drawn.image, f"scene {task}")
    return Sample(task, "image", image, LABELS, {"widget-7": mask})


def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
    return (sample(task) for task in range(1, 9) if part_of(task) in parts)


@pytest.fixture(scope="module")
def predictor(demo: Segmenter) -> Predictor:
    return Predictor(demo, FeatureCache(10**8))


def test_a_label_is_called_what_was_accepted_of_it(predictor: Predictor) -> None:
    texts = (Phrase("the bright star", Origin.TYPED),)
    book = PromptBook(1, entries={"widget-7": Entry("widget-7", texts=texts)})
    [found] = from_accepted(predictor, source, chosen(ASKED, None), VOCABULARY, book)
    assert (found.label, found.basis, found.asked) == ("widget-7", Basis.ACCEPTED, ("widget 7",))
    best = found.to_json(1)["phrases"]
    assert {"red", "star"} <= set(best[0]["text"].split())
    assert best[0]["images"] == sum(part_of(t) is not Part.HELD_OUT for t in range(1, 9))
    assert "the bright star" in {one.text for one in found.phrases}


def test_a_label_of_which_nothing_is_accepted_is_told(predictor: Predictor) -> None:
    with pytest.raises(NothingToGoBy, match='"Nobody"'):
        from_accepted(predictor, source, chosen(ASKED, "Nobody"), VOCABULARY, PromptBook())


def test_a_label_that_there_is_not_is_told() -> None:
    with pytest.raises(BadRequest, match='no label "Moon": it has widget-7, Nobody'):
        chosen(ASKED, "Moon")


def test_when_its_time_is_up_no_round_begins(predictor: Predictor) -> None:
    labels = chosen(ASKED, "widget-7")
    [found] = from_accepted(predictor, source, labels, VOCABULARY, PromptBook(), seconds=0.0)
    assert {one.source for one in found.phrases} <= {"prompt", "name", "vocabulary", "attribute"}


def test_without_accepted_work_a_labels_exemplar_tells_what_it_is(predictor: Predictor) -> None:
    shown = sample(1)
    exemplar = Exemplar(shown.image.image, shown.masks["widget-7"])
    condition = predictor.segmenter.encode_exemplar(exemplar)[0].numpy()
    query = Query(
        "image", "widget-7", ("widget 7",), 0.4, (), ("a",), ((0.5, 0.0),), shown=condition
    )
    found = from_image(predictor, sample(2).image, query, VOCABULARY, PromptBook())
    assert found.basis is Basis.EXEMPLAR
    assert {"red", "star"} & set(found.phrases[0].text.split())


def test_without_an_exemplar_the_image_tells_which_words_find_something(
    predictor: Predictor,
) -> None:
    query = Query("image", "Star", ("star",), 0.4, ())
    found = from_image(predictor, sample(1).image, query, VOCABULARY, PromptBook())
    assert found.basis is Basis.IMAGE
    assert "star" in {word for one in found.phrases for word in one.text.split()}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    write(source(tuple(Part), Account()), XML, 3, Account(), tmp_path / "export")
    return tmp_path / "export"


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMPTBRUSH_DATA_DIR", str(tmp_path / "data"))


def test_the_command_tells_phrases_with_their_proof(
    export: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suggest", "--project", "3", "--from", str(export), "--most", "3"]) == 0
    told = capsys.readouterr().out
    assert 'widget-7, asked with "widget 7" now, by what was accepted' in told
    assert "red star" in told
    assert "Nobody: nothing of it is accepted yet." in told
    image = export / "images" / "1.png"
    assert main(["suggest", "--project", "3", "--from", str(export), "--image", str(image)]) == 0
    assert "sure" in capsys.readouterr().out


def test_the_command_tells_what_cannot_be_done(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*options: str) -> str:
        assert main(["suggest", "--project", "3", "--from", str(export), *options]) != 0
        return capsys.readouterr().err

    assert 'no label "Moon"' in told("--label", "Moon")
    assert "accept an annotation" in told("--label", "Nobody")
    assert "cannot be read" in told("--image", str(tmp_path / "none.png"))
    many = tmp_path / "many.txt"
    many.write_text("\n".join(map(str, np.arange(100_000))))
    assert "holds 100,000 words" in told("--vocabulary", str(many))
    gone = tmp_path / "none.txt"
    assert f"The vocabulary {gone} cannot be read: No such file" in told("--vocabulary", str(gone))
