"""A segmenter with some parameters replaced shares everything else with the one it is made of."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import CLIPTokenizer, GroupViTModel, ImageProcessor, Segmenter
from tests.models.test_fast import groupvit
from tests.models.test_segmenter import picture


def decoder(segmenter: Segmenter, *, reduces: bool = False) -> dict[str, Tensor]:
    """Another decoder, with the same `reduces` unless they are asked for."""
    torch.manual_seed(1)
    return {
        name: tensor + 0.1 * torch.randn_like(tensor)
        if reduces or "reduces" not in name
        else tensor.clone()
        for name, tensor in segmenter.model.state_dict().items()
        if name.startswith("decoder.")
    }


def masks(segmenter: Segmenter) -> Tensor:
    features = segmenter.encode_image([picture(64, 48)])
    return segmenter.segment(features, segmenter.encode_text(["a dog", "a cat"]))[0]


def test_it_draws_what_a_model_with_those_weights_draws(
    segmenter: Segmenter, tiny_checkpoint: Path
) -> None:
    tuned = segmenter.with_decoder(decoder(segmenter))
    whole = Segmenter.from_pretrained(tiny_checkpoint, device="cpu")
    whole.model.load_state_dict(decoder(segmenter), strict=False)
    whole = Segmenter(whole.model, whole.tokenizer, whole.processor, device="cpu")
    assert torch.equal(masks(tuned), masks(whole))
    assert not torch.equal(masks(tuned), masks(segmenter))


def test_the_base_and_others_made_of_it_draw_as_before_bit_for_bit(segmenter: Segmenter) -> None:
    before = masks(segmenter)
    one = segmenter.with_decoder(decoder(segmenter))
    drawn = masks(one)
    two = segmenter.with_decoder({name: -tensor for name, tensor in decoder(segmenter).items()})
    masks(two)
    assert torch.equal(masks(segmenter), before)
    assert torch.equal(masks(one), drawn)
    assert torch.equal(masks(segmenter.with_decoder(decoder(segmenter))), drawn)


def test_the_backbone_is_there_once(segmenter: Segmenter) -> None:
    tuned = segmenter.with_decoder(decoder(segmenter))
    changed = {
        name
        for name, tensor in tuned.model.state_dict(keep_vars=True).items()
        if tensor is not segmenter.model.state_dict(keep_vars=True)[name]
    }
    assert changed
    assert all(name.startswith("decoder.") and "reduces" not in name for name in changed)


def test_what_the_base_encoded_serves_every_decoder_with_the_same_reduces(
    segmenter: Segmenter,
) -> None:
    tuned = segmenter.with_decoder(decoder(segmenter))
    assert tuned.encodes_like(segmenter)
    features, condition = segmenter.encode_image(picture(64, 48)), segmenter.encode_text("a dog")
    torch.testing.assert_close(tuned.encode_image(picture(64, 48))[0].parts, features[0].parts)
    assert torch.equal(tuned.encode_text("a dog"), condition)


def test_other_reduces_are_known_to_encode_otherwise(segmenter: Segmenter) -> None:
    other = segmenter.with_decoder(decoder(segmenter, reduces=True))
    assert not other.encodes_like(segmenter)
    ours, theirs = (one.encode_image(picture(64, 48))[0].parts[0] for one in (segmenter, other))
    assert not torch.equal(ours, theirs)


def test_with_another_text_tower_texts_seen_before_are_encoded_anew(segmenter: Segmenter) -> None:
    before = segmenter.encode_text("a dog")
    name = "clip.text_projection.weight"
    tuned = segmenter.with_decoder({name: -segmenter.model.state_dict()[name]})
    assert torch.equal(tuned.encode_text("a dog"), -before)
    assert torch.equal(segmenter.encode_text("a dog"), before)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("decoder.nonsense", (1,), "which has none of that name"),
        ("decoder.film_mul.bias", (5,), r"which has \(16,\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    segmenter: Segmenter, name: str, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        segmenter.with_decoder({name: torch.zeros(shape)})


@pytest.fixture
def grouping(tiny_checkpoint: Path) -> Segmenter:
    model = groupvit("quick_gelu")
    tokenizer = CLIPTokenizer.from_pretrained(tiny_checkpoint)
    return Segmenter(model, tokenizer, ImageProcessor(64, 64), device="cpu")


def grouped(segmenter: Segmenter) -> Tensor:
    conditions = torch.randn(2, segmenter._engine.width, generator=torch.Generator().manual_seed(0))
    return segmenter.segment(segmenter.encode_image([picture(64, 48)]), conditions)[0]


@pytest.mark.parametrize(
    ("part", "alike"),
    [("text_projection.", True), ("visual_projection.", True), ("vision_model.", False)],
)
def test_of_groupvit_any_part_can_be_replaced(grouping: Segmenter, part: str, alike: bool) -> None:
    torch.manual_seed(1)
    weights = {
        name: tensor + 0.1 * torch.randn_like(tensor)
        for name, tensor in grouping.model.state_dict().items()
        if name.startswith(part) and tensor.is_floating_point()
    }
    before = grouped(grouping)
    tuned = grouping.with_decoder(weights)
    model = groupvit("quick_gelu")
    assert isinstance(model, GroupViTModel)
    model.load_state_dict(weights, strict=False)
    whole = Segmenter(model, grouping.tokenizer, grouping.processor, device="cpu")
    assert torch.equal(grouped(tuned), grouped(whole))
    assert torch.equal(grouped(grouping), before)
    assert tuned.encodes_like(grouping) is alike
