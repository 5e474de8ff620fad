"""Phrases that an annotator is offered, on a scene that the demo checkpoint can see."""

from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from backend.errors import BadPrompt
from backend.inference.interactive import Offered, answer, offer
from backend.inference.offering import NEAREST, of_label, small
from backend.inference.phrasing import Source
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, Origin, Phrase, PromptBook
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.images import TaskImage
from backend.labelstudio.interaction import Interaction
from backend.labelstudio.offers import listed
from backend.labelstudio.offers import offered as on_list
from backend.prompting import Query
from demo import WORDS
from demo.evaluate import truth
from models import Exemplar
from tests.backend.inference.stars import RED_STAR, scene

VOCABULARY = Vocabulary.read(WORDS)


@pytest.fixture(scope="module")
def unsaid() -> Query:
    """A label whose name means nothing."""
    return Query("image", "widget-7", ("widget 7",), 0.4, ())


@pytest.fixture(scope="module")
def shown(predictor: Predictor) -> Query:
    """The same with an exemplar, of another image than is asked."""
    other = scene(1)
    mask = truth(other, RED_STAR)
    condition = predictor.segmenter.encode_exemplar(Exemplar(other.image, mask))[0].numpy()
    return Query(
        "image", "widget-7", ("widget 7",), 0.4, (), ("a",), ((0.5, 0.0),), shown=condition
    )


@pytest.fixture
def offered(predictor: Predictor) -> Callable[..., list[Offered]]:
    def offered(query: Query, about: str, *typed: str) -> list[Offered]:
        image = TaskImage(scene(2).image, "scene 2")
        texts = tuple(Phrase(text, Origin.TYPED, used=False) for text in typed)
        book = PromptBook(7).having(Entry("widget-7", texts=texts))
        return offer(predictor, [query], {"image": image}, about, (), VOCABULARY, book)

    return offered


def test_exemplars_of_another_checkpoint_keep_no_phrases_back(
    unsaid: Query, shown: Query, offered: Callable[..., list[Offered]]
) -> None:
    assert shown.shown is not None
    narrow = replace(shown, shown=shown.shown[:3])
    assert offered(narrow, "widget-7") == offered(unsaid, "widget-7")


def test_what_is_in_an_image_is_named(unsaid: Query, offered: Callable[..., list[Offered]]) -> None:
    words = {word for one in offered(unsaid, "")[:3] for word in one.text.split()}
    assert words <= {"red", "blue", "star", "square", "plain", "widget", "7"}


def test_a_label_with_an_exemplar_is_said_in_words_that_find_the_same(
    shown: Query, offered: Callable[..., list[Offered]]
) -> None:
    first, *rest = offered(shown, "widget-7")
    assert {"red", "star"} & set(first.text.split())
    assert first.likely > 0.5
    assert all(one.likely > 0 for one in rest)


def test_no_phrase_is_offered_again_as_part_of_a_sentence(
    shown: Query, offered: Callable[..., list[Offered]]
) -> None:
    texts = [one.text for one in offered(shown, "widget-7")]
    assert len(texts) > 5
    assert not any(text.startswith(("the ", "a ", "every ")) for text in texts)


def test_what_was_said_for_a_label_before_is_offered_again(
    shown: Query, unsaid: Query, offered: Callable[..., list[Offered]]
) -> None:
    for query in (shown, unsaid):
        said = {one.text: one.source for one in offered(query, "widget-7", "the red star")}
        assert said["the red star"] is Source.TYPED


def test_an_unknown_label_is_told(unsaid: Query, offered: Callable[..., list[Offered]]) -> None:
    with pytest.raises(BadPrompt, match='no label "moon"'):
        offered(unsaid, "moon")


def test_a_phrase_that_is_chosen_for_a_label_is_answered_for_it(
    predictor: Predictor, shown: Query
) -> None:
    star = Query("image", "Star", ("star",), 0.4, ())
    labels, images = [star, shown], {"image": TaskImage(scene(2).image, "scene 2")}
    phrases = offer(predictor, labels, images, "widget-7", (), VOCABULARY, PromptBook(7))
    line, *_ = listed([asdict(one) for one in phrases])
    chosen = Interaction(prompt=on_list([line])["1"], chose=True)
    assert "star" in str(chosen.prompt)  # which is nearer to the other label
    found = answer(predictor, labels, images, chosen)
    assert (found.query.label, found.mask is not None) == ("widget-7", True)


def test_of_many_words_those_that_mean_what_is_shown_are_tried(
    predictor: Predictor, shown: Query
) -> None:
    many = [(f"thing {number}",) for number in range(NEAREST + 50)]
    vocabulary = Vocabulary((*many, ("red star",)))
    image = TaskImage(scene(2).image, "scene 2")
    tried = [one.text for one in of_label(predictor, image, shown, PromptBook(), vocabulary)]
    assert "red star" in tried[:3]


def test_where_an_exemplar_finds_nothing_the_image_tells(
    predictor: Predictor, shown: Query
) -> None:
    blank = TaskImage(Image.new("RGB", (64, 64)), "blank")
    silent = replace(shown, threshold=0.999)
    assert of_label(predictor, blank, silent, PromptBook(), VOCABULARY) == []


def test_a_thin_mask_in_a_large_image_is_there_at_the_size_of_comparison() -> None:
    crack = np.zeros((3000, 4000), bool)
    crack[1201:1204, 300:3000] = True
    assert np.flatnonzero(small(crack).any(axis=1)).tolist() == [300]
    assert small(crack).shape == small(np.zeros_like(crack)).shape
    assert not small(np.zeros_like(crack)).any()
