"""On a few generated scenes; `benchmarks/bench_suggestions.py` measures on many."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.errors import NothingToGoBy
from backend.inference.phrasing import Source
from backend.inference.suggest import ABSENT, AS_WELL, MOST_PRESENT, Evidence, as_well, iou, suggest
from backend.inference.vocabulary import Vocabulary
from demo.evaluate import truth
from demo.phrases import Query
from demo.scenes import Look, generate
from models import Segmenter
from tests.backend.inference.stars import RED_STAR, scene

WORDS = Vocabulary(
    (("circle", "disc"), ("star",), ("square",), ("cat",)), (("red",), ("blue",), ("striped",))
)
THRESHOLD = 0.4
EVEN = torch.ones(4)  # weights of images


@pytest.fixture(scope="module")
def stars(model: Segmenter) -> list[Evidence]:
    """Six scenes with a red star, as where red stars are."""
    found = []
    for seed in range(6):
        drawn = scene(seed)
        (features,) = model.encode_image(drawn.image)
        found.append(Evidence(features, truth(drawn, RED_STAR)))
    return found


def names(model: Segmenter, evidence: Sequence[Evidence], **rest: object) -> list[str]:
    found = suggest(model, "widget-7", evidence, WORDS, threshold=THRESHOLD, **rest)  # type: ignore[arg-type]
    return [one.text for one in found]


def test_a_label_whose_name_means_nothing_is_called_what_it_is(
    model: Segmenter, stars: list[Evidence]
) -> None:
    found = suggest(model, "widget-7", stars, WORDS, threshold=THRESHOLD)
    assert found[0].text == "red star"
    assert found[0].source is Source.COMPOSITION
    assert found[0].images == 6
    by_text = {one.text: one for one in found}
    assert found[0].iou > by_text["widget 7"].iou + 0.3
    best = max(one.iou for one in found)
    behind = [one.iou for one in found if one.iou < best - AS_WELL]
    assert behind == sorted(behind, reverse=True)


def test_its_prompts_and_what_was_typed_are_measured_too(
    model: Segmenter, stars: list[Evidence]
) -> None:
    typed = names(model, stars, prompts=["a cat"], typed=["the bright red star"])
    assert "a cat" in typed
    assert "the bright red star" in typed


def test_its_prompts_and_name_stay_however_many_phrases_find_more(
    model: Segmenter, stars: list[Evidence]
) -> None:
    many = [f"red star {number}" for number in range(40)]
    found = names(model, stars[:1], prompts=["a cat"], typed=many, until=0.0)
    assert len(found) < len(many)
    assert {"a cat", "widget 7"} <= set(found)


def test_images_where_it_is_absent_tell_what_finds_too_much(
    model: Segmenter, stars: list[Evidence]
) -> None:
    absent = [replace(one, mask=np.zeros_like(one.mask)) for one in stars[2:]]
    there, everywhere = (
        {one.text: one for one in suggest(model, "Part", evidence, WORDS, threshold=THRESHOLD)}
        for evidence in (stars[:2], [*stars[:2], *absent])
    )
    assert everywhere["red star"].alarms == everywhere["red star"].absent == 4
    # four alarms weigh a tenth of what the two images with it do
    assert everywhere["red star"].iou == pytest.approx(there["red star"].iou / (1 + ABSENT))
    assert everywhere["part"].images == 2


def test_many_images_where_it_is_absent_make_no_phrase_the_best_that_finds_little(
    model: Segmenter,
) -> None:
    shown = Look("star", "red", "striped")  # and others of other looks, by chance
    drawn = [generate(700 + seed, include=[shown]) for seed in range(8)]
    drawn += [generate(800 + seed, shapes=["circle", "square", "cross"]) for seed in range(16)]
    star = Query(shape="star")
    features = model.encode_image([scene.image for scene in drawn])
    evidence = [
        Evidence(one, truth(scene, star)) for one, scene in zip(features, drawn, strict=True)
    ]
    assert names(model, evidence[:8])[0] == names(model, evidence)[0] == "star"


def test_a_phrase_that_the_model_cannot_read_is_passed_over(
    model: Segmenter, stars: list[Evidence]
) -> None:
    long = "star " * 90
    assert long not in names(model, stars, typed=[long])


def test_where_nothing_is_accepted_there_is_nothing_to_go_by(
    model: Segmenter, stars: list[Evidence]
) -> None:
    absent = [replace(one, mask=np.zeros_like(one.mask)) for one in stars]
    for evidence in ([], absent):
        with pytest.raises(NothingToGoBy, match='"widget-7"'):
            names(model, evidence)


def test_only_so_many_images_are_looked_at(model: Segmenter, stars: list[Evidence]) -> None:
    words = Vocabulary((("star",),))
    found = suggest(model, "Part", stars[:1] * 50, words, threshold=THRESHOLD)
    assert found[0].images == MOST_PRESENT


def test_a_large_mask_is_compared_at_the_models_size(
    model: Segmenter, stars: list[Evidence]
) -> None:
    large = [replace(one, mask=one.mask.repeat(3, axis=0).repeat(3, axis=1)) for one in stars]
    assert names(model, large)[0] == "red star"


def test_a_thin_mask_in_a_large_image_is_found_by_what_finds_it() -> None:
    crack = np.zeros((900, 1200), bool)
    crack[407:411, 100:900] = True
    found = torch.zeros(2, 60, 80, dtype=torch.bool)
    found[0, 27, 7:60] = True  # and the other finds nothing
    assert iou(found, crack).tolist() == [1.0, 0.0]


def test_what_helps_by_chance_on_one_image_does_no_better() -> None:
    plain, lucky = [0.7, 0.8, 0.7, 0.8], [0.7, 0.8, 0.7, 0.87]
    surely, worse = [0.9, 1.0, 0.9, 1.0], [0.2, 0.9, 0.7, 0.2]
    assert as_well(torch.tensor([lucky, plain, worse]), EVEN).tolist() == [True, True, False]
    assert as_well(torch.tensor([surely, plain]), EVEN).tolist() == [True, False]


def test_a_false_alarm_counts_against_doing_as_well() -> None:
    nothing = float("nan")
    quiet, loud = [0.8, 0.8, 0.8, nothing], [0.8, 0.8, 0.8, 0.0]
    assert as_well(torch.tensor([quiet, loud]), EVEN).tolist() == [True, False]
    weights = torch.tensor([1.0, 1.0, 1.0, 0.01])
    assert as_well(torch.tensor([quiet, loud]), weights).tolist() == [True, True]
