import pytest
import torch
from torch import Tensor

from backend.learning.forgetting import SHARES, WANTED_KEPT, Everyday, Kept, Known, settled
from backend.learning.lessons import Lesson
from models import Segmenter


@pytest.fixture(scope="module")
def asked(segmenter: Segmenter) -> Tensor:
    return Everyday.of(segmenter, [], 0).asked[:20]


def moved(segmenter: Segmenter, far: float) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        name: tensor + far * torch.randn_like(tensor)
        for name, tensor in segmenter.model.state_dict().items()
        if name.startswith("decoder.") and ".reduces." not in name
    }


def kept(segmenter: Segmenter, lessons: list[Lesson], asked: Tensor, other: Segmenter) -> Kept:
    scores = []
    for lesson in lessons:
        image = lesson.features(segmenter)
        scores += Known.of(segmenter, image, asked, 0.5).agreements(other, image, 0.5)
    return Kept.of(scores)


def test_a_model_agrees_with_itself(
    segmenter: Segmenter, lessons: list[Lesson], asked: Tensor
) -> None:
    found = kept(segmenter, lessons, asked, segmenter)
    assert found.agreement == 1
    assert found.answers > 0


def test_the_farther_it_moved_the_less_it_agrees(
    segmenter: Segmenter, lessons: list[Lesson], asked: Tensor
) -> None:
    near, far = (
        kept(segmenter, lessons, asked, segmenter.with_decoder(moved(segmenter, how))).agreement
        for how in (0.01, 0.3)
    )
    assert 1 > near > far


def test_of_what_forgets_nothing_the_most_is_taken(
    segmenter: Segmenter, lessons: list[Lesson], asked: Tensor
) -> None:
    tuned = moved(segmenter, 0.0)
    weights, share = settled(segmenter, segmenter, tuned, lessons, asked, 0.5)
    assert share == SHARES[0]
    assert all(torch.allclose(weights[name], tensor) for name, tensor in tuned.items())


def test_of_what_forgets_only_a_share_is_taken(
    segmenter: Segmenter, lessons: list[Lesson], asked: Tensor
) -> None:
    tuned = moved(segmenter, 0.1)
    weights, share = settled(segmenter, segmenter, tuned, lessons, asked, 0.5)
    assert share in SHARES[1:]
    whole = kept(segmenter, lessons, asked, segmenter.with_decoder(tuned)).agreement
    mixed = kept(segmenter, lessons, asked, segmenter.with_decoder(weights)).agreement
    assert whole < WANTED_KEPT
    assert mixed > whole


def test_phrases_to_ask_are_not_those_that_are_taught(segmenter: Segmenter) -> None:
    everyday = Everyday.of(segmenter, ["a red car"], 0)
    taught = {tuple(row.tolist()) for row in everyday.taught}
    assert not taught & {tuple(row.tolist()) for row in everyday.asked}
