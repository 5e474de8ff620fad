from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backend.errors import BadPrompt
from backend.inference.features import FeatureCache
from backend.inference.predictor import TOGETHER, Found, Predictor, scored
from backend.prompting import Query
from demo import GROUPVIT
from demo.evaluate import iou
from demo.scenes import Look, Scene, generate
from models import Segmenter

RED_CIRCLE = Look("circle", "red", "plain")
BLUE_STAR = Look("star", "blue", "plain")


def test_what_is_asked_twice_is_answered_once(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = segmenter.probabilities

    def counting(features: Any, conditions: Any) -> Any:
        asked.append(len(conditions))
        return answer(features, conditions)

    monkeypatch.setattr(segmenter, "probabilities", counting)
    predictor = Predictor(segmenter, FeatureCache(0))
    [features] = predictor.encode([("a", Image.new("RGB", (40, 30), "red"))])
    prompts = {"dog": "a dog", "hound": "a dog", "cat": "a cat"}
    queries = [Query("image", label, (text,), 0.01, ()) for label, text in prompts.items()]
    dog, hound, cat = predictor.find(features, {one: predictor.asking(one) for one in queries})
    assert asked == [2]
    assert [found.query.label for found in (dog, hound, cat)] == list(prompts)
    assert dog.score == hound.score != cat.score


def test_of_many_labels_few_answers_are_held_at_once(
    predictor: Predictor, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = predictor.segmenter.probabilities

    def counting(features: Any, conditions: torch.Tensor) -> torch.Tensor:
        decoded.append(len(conditions))
        return decode(features, conditions)

    monkeypatch.setattr(predictor.segmenter, "probabilities", counting)
    labels = [Query("image", f"{n}", (f"thing {n}",), 0.4, ()) for n in range(3 * TOGETHER)]
    [features] = predictor.encode([("many", scene.image)])
    answers = predictor.finding(features, {one: predictor.asking(one) for one in labels})
    next(answers)
    assert sum(decoded) <= TOGETHER
    assert [found.query for found in answers] == labels[1:]
    assert sum(decoded) == len(labels)
    assert max(decoded) <= TOGETHER


@pytest.mark.parametrize("count", [1, 2, 5, TOGETHER + 1, TOGETHER + 7, 2 * TOGETHER])
def test_labels_get_what_they_get_when_all_are_decoded_at_once(
    predictor: Predictor, scene: Scene, count: int
) -> None:
    phrases = [f"a {colour} thing {n}" for n in range(count) for colour in ("red", "blue")][:count]
    labels = [Query("image", phrase, (phrase,), 0.4, ()) for phrase in phrases]
    labels += [replace(one, label=f"{one.label} again", threshold=0.2) for one in labels[::5]]
    [features] = predictor.encode([("alike", scene.image)])
    conditions = torch.cat([predictor.asking(one).conditions for one in labels])
    rows, places = torch.unique(conditions, dim=0, return_inverse=True)
    at_once = predictor.segmenter.probabilities(features, rows)[places]
    found = predictor.find(features, {one: predictor.asking(one) for one in labels})
    for one, likely in zip(found, at_once, strict=True):
        expected = scored(one.query, likely, features.size)
        assert one.score == expected.score
        if expected.mask is None:
            assert one.mask is None
        else:
            np.testing.assert_array_equal(one.mask, expected.mask)


def test_a_doubtful_mask_is_less_certain_than_as_doubtful_an_absence() -> None:
    query = Query("image", "Car", ("a car",), 0.4, ())
    mask = np.ones((2, 2), bool)
    doubtful, sure = Found(query, mask, 0.6), Found(query, mask, 0.9)
    missed, gone = Found(query, None, 0.39), Found(query, None, 0.01)
    assert doubtful.certainty < sure.certainty < missed.certainty < gone.certainty < 1


@pytest.fixture(scope="module")
def scene() -> Scene:
    return drawn(22)


def drawn(seed: int) -> Scene:
    return generate(seed, 256, include=[RED_CIRCLE, BLUE_STAR, RED_CIRCLE, BLUE_STAR], count=(4, 4))


def like(scene: Scene, *looks: Look) -> Any:
    return np.any([thing.mask for thing in scene.objects if thing.look in looks], axis=0)


def ask(predictor: Predictor, scene: Scene, queries: Sequence[Query]) -> list[Found]:
    [features] = predictor.encode([(str(hash(scene.image.tobytes())), scene.image)])
    return predictor.find(features, {query: predictor.asking(query) for query in queries})


def test_what_a_label_is_not_is_taken_away_where_it_is_more_likely(predictor: Predictor) -> None:
    every = Query("image", "Part", ("thing",), 0.4, ())
    left = Query("image", "Part", ("thing",), 0.4, (), negatives=("a red circle", "a green ring"))
    all_of_it, rest = [], []
    for seed in range(20, 26):
        scene = drawn(seed)
        whole, less = ask(predictor, scene, [every, left])
        assert whole.mask is not None
        assert less.mask is not None
        all_of_it.append(iou(whole.mask, like(scene, RED_CIRCLE, BLUE_STAR)))
        rest.append(iou(less.mask, like(scene, BLUE_STAR)))
    assert np.mean(all_of_it) > 0.8
    assert np.mean(rest) > 0.7


def test_what_a_label_is_not_takes_nothing_from_others_that_it_competes_with(scene: Scene) -> None:
    groupvit = Predictor(Segmenter.from_pretrained(GROUPVIT, device="cpu"), FeatureCache(10**7))
    circle = Query("image", "Circle", ("circle",), 0.4, ())
    part = Query("image", "Part", ("thing",), 0.4, ())
    less = replace(part, negatives=("a circle", "the circle", "round circle"))
    before, after = (ask(groupvit, scene, [circle, one])[0] for one in (part, less))
    assert before.mask is not None
    np.testing.assert_array_equal(before.mask, after.mask)
    assert before.score == after.score
    [whole], [rest] = ask(groupvit, scene, [part]), ask(groupvit, scene, [less])
    assert whole.mask is not None
    assert rest.mask is not None
    assert iou(rest.mask, like(scene, BLUE_STAR)) > 0.5 > iou(whole.mask, like(scene, BLUE_STAR))


def test_what_cannot_be_asked_cannot_be_excluded(predictor: Predictor, scene: Scene) -> None:
    with pytest.raises(BadPrompt, match="token"):
        ask(
            predictor,
            scene,
            [Query("image", "Part", ("thing",), 0.4, (), negatives=("red " * 500,))],
        )


def test_of_a_label_with_a_text_that_cannot_be_asked_the_others_are(predictor: Predictor) -> None:
    long, shown = "red " * 500, predictor.condition(["a dog"]).numpy()
    part = Query("image", "Part", ("thing", long), 0.4, (), negatives=(long, "a dog"))
    seen = Query("image", "Seen", (long,), 0.4, (), weights=((0.5, 0.0),), shown=shown)
    gone = Query("image", "Gone", (long,), 0.4, (), negatives=("a dog",))
    narrow = replace(seen, label="Narrow", shown=shown[:3])
    askings, refused = predictor.askings([part, seen, gone, narrow])
    assert [(one.label, one.prompts, one.negatives) for one in askings] == [
        ("Part", ("thing",), ("a dog",)),
        ("Seen", (), ()),
    ]
    assert set(refused) == {"Part", "Seen", "Gone", "Narrow"}
    with pytest.raises(BadPrompt, match="token"):
        predictor.askings([gone])


def test_exemplars_of_another_checkpoint_cost_a_label_nothing_else(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    said = Query("image", "Car", ("a car",), 0.4, (), negatives=("a shadow",))
    narrow = np.ones(3, np.float32)
    strange = replace(said, exemplars=("aa",), weights=((0.5, 0.0),), shown=narrow)
    askings, refused = predictor.askings([strange])
    assert list(askings) == [said]
    assert "made by another checkpoint" in refused["Car"]
    assert "a part of label 'Car' is left out" in caplog.text


def test_a_pixel_is_of_the_likeliest_of_labels_that_compete(
    predictor: Predictor, scene: Scene
) -> None:
    def asked(contest: str) -> list[Query]:
        prompts = {"Part": ("thing",), "Circle": ("red circle",), "Same": ("red circle",)}
        return [
            Query("image", label, texts, 0.4, (), contest=contest)
            for label, texts in prompts.items()
        ]

    part, circle, same = (found.mask for found in ask(predictor, scene, asked("brush")))
    assert part is not None
    assert circle is not None
    assert not (part & circle).any()
    assert same is None  # the first of equals has all
    apart = [found.mask for found in ask(predictor, scene, asked(""))]
    assert apart[0] is not None
    assert (apart[0] & circle).any()


@pytest.mark.parametrize("texts", [("coat", "button"), ("button", "coat")])
def test_a_small_thing_in_a_large_one_keeps_its_pixels(
    predictor: Predictor, scene: Scene, monkeypatch: pytest.MonkeyPatch, texts: tuple[str, ...]
) -> None:
    coat = predictor.condition(["coat"])
    maps = torch.full((2, 352, 352), 0.05)
    maps[0, 50:300, 50:300] = 0.8
    maps[1, 150:160, 150:160] = 0.95  # less than a speck

    def likely(_: object, rows: torch.Tensor) -> torch.Tensor:
        return maps[[0 if torch.equal(row, coat) else 1 for row in rows]]

    monkeypatch.setattr(predictor.segmenter, "probabilities", likely)
    rivals = [Query("image", text, (text,), 0.4, (), contest="brush") for text in texts]
    found = {one.query.label: one.mask for one in ask(predictor, scene, rivals)}
    coats, buttons = found["coat"], found["button"]
    assert coats is not None
    assert buttons is not None
    assert not (coats & buttons).any()
    [without] = ask(
        predictor, scene, [Query("image", "coat", ("coat",), 0.4, (), negatives=("button",))]
    )
    assert without.mask is not None
    assert not (without.mask & buttons)[112, 112]


def test_labels_of_different_controls_do_not_compete(predictor: Predictor, scene: Scene) -> None:
    one = Query("image", "Part", ("thing",), 0.4, (), contest="brush")
    other = Query("image", "Circle", ("red circle",), 0.4, (), contest="box")
    alone, together = ask(predictor, scene, [one])[0], ask(predictor, scene, [one, other])[0]
    assert alone.mask is not None
    np.testing.assert_array_equal(alone.mask, together.mask)


def test_a_label_that_cannot_be_read_is_nearest_to_no_phrase(predictor: Predictor) -> None:
    far, long = (
        Query("image", name, (text,), 0.4, ())
        for name, text in (("Far", "a cat"), ("Long", "a word " * 70))
    )
    assert predictor.closest("red ball", [long, far]) == far
    with pytest.raises(BadPrompt, match="tokens"):
        predictor.closest("red ball", [long])
