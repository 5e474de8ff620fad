"""Of several conditions for an image, the one counts whose answer is expected to be the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from backend.inference.asking import NOTHING, RECOLOURED, Asking, expected_iou
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.prompting import Query
from demo import GROUPVIT
from demo.scenes import Look, generate
from models import Exemplar, ImageFeatures, Segmenter

HALF = torch.tensor([0.5])
BLUE_STAR, RED_CIRCLE = Look("star", "blue", "plain"), Look("circle", "red", "plain")


def answer(*pixels: float) -> Tensor:
    """Probabilities (1, 4, 4), 0 where nothing is said."""
    return torch.tensor([*pixels, *[0.0] * (16 - len(pixels))]).reshape(1, 4, 4)


def test_what_is_unsure_inside_or_missed_outside_lowers_the_expected_iou() -> None:
    assert expected_iou(answer(1, 1), HALF).item() == 1
    assert expected_iou(answer(1, 0.6), HALF).item() == pytest.approx(1.6 / 2)
    assert expected_iou(answer(1, 0.6, 0.4), HALF).item() == pytest.approx(1.6 / 2.4)


def test_that_nothing_is_found_counts_as_far_as_nothing_is_likely() -> None:
    assert expected_iou(answer(0), HALF).item() == pytest.approx(NOTHING)
    assert expected_iou(answer(0.4), HALF).item() == pytest.approx(NOTHING * 0.6)


@given(arrays(np.float32, (3, 5, 7), elements=st.floats(0, 1, width=32)))
def test_an_expected_iou_is_an_iou_at_every_threshold(
    probabilities: NDArray[np.float32],
) -> None:
    found = expected_iou(torch.from_numpy(probabilities), torch.tensor([0.1, 0.5, 0.9]))
    assert found.shape == (3, 3)
    assert ((found >= 0) & (found <= 1 + 1e-6)).all()


def test_a_handicap_has_to_be_made_up_for() -> None:
    answers = torch.cat([answer(1, 0.6), answer(1, 1)])
    conditions = torch.zeros(2, 8)
    assert Asking(conditions, (0.0, 0.1)).best(answers, HALF).tolist() == [1]
    assert Asking(conditions, (0.0, 0.3)).best(answers, HALF).tolist() == [0]


def test_exemplars_in_other_colours_have_to_promise_more_than_as_they_are() -> None:
    said, shown, recoloured = torch.eye(3)
    weights = ((0.0, 0.1), (0.5, 0.0), (1.0, 0.02))
    asking = Asking.mixed(said, shown, weights, recoloured)
    assert asking.handicaps == (0.1, 0.0, 0.02, RECOLOURED)
    assert asking.conditions.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0.5, 0, 0.5]]
    assert Asking.mixed(said, shown, weights).handicaps == (0.1, 0.0, 0.02)


def test_each_threshold_has_its_own_best() -> None:
    answers = torch.cat([answer(0.9, 0.9, 0.4), answer(0.6, 0.6, 0.6)])
    asking = Asking(torch.zeros(2, 8), (0.0, 0.0))
    assert asking.best(answers, torch.tensor([0.3, 0.5])).tolist() == [0, 0]
    assert asking.best(answers, torch.tensor([0.5, 0.95])).tolist() == [0, 1]


@pytest.fixture(scope="module")
def either(predictor: Predictor) -> Query:
    """A label whose words and whose exemplar mean different things."""
    scene = generate(5, 256, include=[RED_CIRCLE])
    [mask] = [thing.mask for thing in scene.objects if thing.look == RED_CIRCLE][:1]
    shown = predictor.segmenter.encode_exemplar(Exemplar(scene.image, mask))[0].numpy()
    weights = ((0.0, 0.0), (1.0, 0.0))
    return Query("image", "Part", ("blue star",), 0.4, (), ("a",), weights, shown=shown)


@pytest.mark.parametrize(("look", "chosen"), [(BLUE_STAR, 0), (RED_CIRCLE, 1)])
def test_an_image_is_asked_with_what_finds_something_there(
    predictor: Predictor, either: Query, look: Look, chosen: int
) -> None:
    others = [Look("square", "green", "plain"), Look("ring", "yellow", "plain")]
    scene = generate(9, 256, include=[look, *others], count=(3, 3))
    [features] = predictor.encode([(str(look), scene.image)])
    asking = predictor.asking(either)
    assert torch.equal(predictor.settled(features, asking, 0.4), asking.conditions[chosen])
    [found] = predictor.find(features, {either: asking})
    [there] = [thing.mask for thing in scene.objects if thing.look == look]
    assert found.mask is not None
    assert (found.mask & there).sum() / (found.mask | there).sum() > 0.6
    far = tuple((weight, float(weight != chosen)) for weight, _ in either.weights)
    assert predictor.asking(replace(either, weights=far)).likeliest.equal(asking.conditions[chosen])


def test_where_conditions_compete_for_pixels_only_those_that_count_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groupvit = Predictor(Segmenter.from_pretrained(GROUPVIT, device="cpu"), FeatureCache(10**7))
    [features] = groupvit.encode([("scene", generate(9, 256).image)])
    asking = Asking(groupvit.segmenter.encode_text(["a star", "a ring"]), (0.0, 0.0))
    single = Asking.only(groupvit.condition(["a square"]))
    queries = [Query("image", name, (name,), 0.4, ()) for name in ("Part", "Square")]
    counts = []
    answer = groupvit.segmenter.probabilities

    def counting(features: ImageFeatures, conditions: Tensor) -> Tensor:
        counts.append(conditions.reshape(-1, conditions.shape[-1]).shape[0])
        return answer(features, conditions)

    monkeypatch.setattr(groupvit.segmenter, "probabilities", counting)
    groupvit.find(features, dict(zip(queries, (asking, single), strict=True)))
    assert counts == [1, 1, 2]
