import pytest

from backend.inference.phrasing import Candidate, Source, words
from backend.inference.sighting import Sighting, look
from backend.inference.vocabulary import Vocabulary
from demo.scenes import Look, Scene, generate
from models import Segmenter

WORDS = Vocabulary(
    (("circle",), ("star",), ("square",), ("ring",)), (("red",), ("blue",), ("yellow",))
)


@pytest.fixture(scope="module")
def scene() -> Scene:
    looks = [Look("circle", "red", "plain"), Look("star", "blue", "plain")]
    return generate(22, 256, include=[*looks, *looks], count=(4, 4))


def sightings(model: Segmenter, scene: Scene, *phrases: Candidate) -> list[Sighting]:
    (features,) = model.encode_image(scene.image)
    return look(model, scene.image, features, phrases or words(WORDS), threshold=0.4)


def test_what_is_in_an_image_is_named(model: Segmenter, scene: Scene) -> None:
    first = [one.text for one in sightings(model, scene)[:2]]
    assert set(first[0].split()) <= {"red", "circle", "blue", "star"}
    assert {"red", "circle"} & set(" ".join(first).split())
    assert {"blue", "star"} & set(" ".join(first).split())


def test_what_has_no_mask_is_not_there(model: Segmenter, scene: Scene) -> None:
    found = {one.text for one in sightings(model, scene)}
    assert not {text for text in found if "yellow" in text}


def test_phrases_that_find_the_same_are_told_once(model: Segmenter, scene: Scene) -> None:
    texts = ("a red circle", "red circle", "the red circle", "a blue star")
    found = sightings(model, scene, *(Candidate(text, Source.TYPED) for text in texts))
    assert len(found) == 2
    assert found[0].confidence > 0.9
    assert 0 < found[0].share < 0.5


def test_nothing_is_seen_where_nothing_can_be_asked(model: Segmenter, scene: Scene) -> None:
    assert sightings(model, scene, Candidate("red " * 90, Source.TYPED)) == []
