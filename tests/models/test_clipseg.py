from pathlib import Path
from typing import Any

import pytest
import torch

from models import CLIPSegConfig, CLIPSegForImageSegmentation, Segmenter
from models.layers import Attention, activation
from models.outputs import Trace


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(8, 2)


def test_masked_attention_ignores_later_tokens(attention: Attention) -> None:
    x = torch.randn(1, 4, 8)
    changed = x.clone()
    changed[:, -1] += 1.0
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    before, after = attention(x, causal), attention(changed, causal)
    torch.testing.assert_close(before[:, :-1], after[:, :-1])


def test_padding_never_changes_a_condition(segmenter: Segmenter) -> None:
    model: Any = segmenter.model
    tokenizer = segmenter.tokenizer
    alone = model.get_conditional_embeddings(**tokenizer(["a dog"]))
    padded = model.get_conditional_embeddings(**tokenizer(["a dog", "a much longer text here"]))
    torch.testing.assert_close(alone[0], padded[0])


def test_padding_in_front_gives_the_same_whether_or_not_attentions_are_asked_for(
    segmenter: Segmenter,
) -> None:
    model: Any = segmenter.model
    tower = model.clip.text_model
    end = segmenter.tokenizer.encode([""])[0][-1]
    ids, mask = torch.tensor([[end, end, 5, 6, end]]), torch.tensor([[0, 0, 1, 1, 1]])
    plain = tower(ids, mask).last_hidden_state
    traced = tower(ids, mask, trace=Trace(attentions=True)).last_hidden_state
    torch.testing.assert_close(traced, plain)


def test_the_legacy_end_of_text_rule_pools_at_the_largest_id() -> None:
    text = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    towers = {"num_attention_heads": 2}
    config = CLIPSegConfig.from_dict(
        {
            "text_config": {**text, **towers, "eos_token_id": 2},
            "vision_config": {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2},
            "projection_dim": 8,
            "extract_layers": [0, 1, 2],
        }
    )
    torch.manual_seed(0)
    tower = CLIPSegForImageSegmentation(config).clip.text_model.eval()
    ids = torch.tensor([[48, 7, 49, 2, 2]])
    torch.testing.assert_close(tower(ids).pooler_output, tower(ids[:, :3]).pooler_output)


def test_a_rectangular_input_gives_a_rectangular_mask(segmenter: Segmenter) -> None:
    model: Any = segmenter.model
    pixels = torch.randn(1, 3, 48, 80)
    logits = model.decode(model.encode_image(pixels), torch.randn(1, 24), model.grid(pixels))
    assert logits.shape == (1, 48, 80)


def test_an_input_that_is_no_multiple_of_the_patch_is_refused(segmenter: Segmenter) -> None:
    model: Any = segmenter.model
    with pytest.raises(ValueError, match="multiple of the patch size 8"):
        model.encode_image(torch.randn(1, 3, 60, 64))


def test_exactly_one_kind_of_condition_is_taken(segmenter: Segmenter) -> None:
    model: Any = segmenter.model
    with pytest.raises(ValueError, match="either"):
        model.get_conditional_embeddings()


def test_a_fresh_model_gives_logits_of_a_trainable_scale() -> None:
    torch.manual_seed(0)
    config = CLIPSegConfig.from_dict(
        {
            "vision_config": {"num_hidden_layers": 10, "patch_size": 32},
            "text_config": {"num_hidden_layers": 2},
        }
    )
    model = CLIPSegForImageSegmentation(config)
    with torch.no_grad():
        logits = model.decode(
            model.encode_image(torch.randn(1, 3, 224, 224)),
            model.get_conditional_embeddings(torch.tensor([[49406, 320, 49407]])),
        )
    assert logits.abs().max() < 10


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match=r"swish.*known: gelu, gelu_new, quick_gelu, relu"):
        activation("swish")


def test_extract_layers_outside_the_tower_are_refused() -> None:
    with pytest.raises(ValueError, match="extract_layers"):
        CLIPSegConfig(extract_layers=[3, 12])
    with pytest.raises(ValueError, match="conditional_layer"):
        CLIPSegConfig(conditional_layer=3)


def test_a_forward_takes_exactly_one_condition_per_image(segmenter: Segmenter) -> None:
    model: Any = segmenter.model
    pixels = torch.randn(2, 3, 64, 64)
    ids = segmenter.tokenizer(["a", "b"])["input_ids"]
    for wrong in (
        {},
        {"input_ids": ids, "conditional_pixel_values": pixels},
        {"conditional_embeddings": torch.randn(2, 24), "input_ids": ids},
        {"input_ids": ids[:1]},
        {"conditional_embeddings": torch.randn(2, 23)},
    ):
        with pytest.raises(ValueError, match="condition"):
            model(pixel_values=pixels, **wrong)
    with pytest.raises(ValueError, match="pixel_values"):
        model(input_ids=ids)


def test_one_image_gives_logits_with_a_batch_axis(segmenter: Segmenter) -> None:
    output = segmenter.model(
        pixel_values=torch.randn(1, 3, 64, 64), conditional_embeddings=torch.randn(1, 24)
    )
    assert output.logits.shape == (1, 64, 64)


def test_only_the_decoder_learns_through_a_forward(tiny_checkpoint: Path) -> None:
    model = CLIPSegForImageSegmentation.from_pretrained(tiny_checkpoint)
    output = model(
        pixel_values=torch.randn(1, 3, 64, 64),
        input_ids=torch.tensor([[1, 2, 841]]),
        labels=torch.ones(1, 64, 64),
    )
    output.loss.backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"decoder"}
