import pytest
import torch

from models import CLIPSegConfig, CLIPSegForImageSegmentation
from models.layers import Attention, activation
from models.tokenizer import CLIPTokenizer


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


def test_padding_never_changes_a_condition(segmenter: object) -> None:
    model, tokenizer = segmenter.model, segmenter.tokenizer  # type: ignore[attr-defined]
    assert isinstance(tokenizer, CLIPTokenizer)
    alone = model.get_conditional_embeddings(**tokenizer(["a dog"]))
    padded = model.get_conditional_embeddings(**tokenizer(["a dog", "a much longer text here"]))
    torch.testing.assert_close(alone[0], padded[0])


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
    torch.testing.assert_close(tower(ids), tower(ids[:, :3]))


def test_a_rectangular_input_gives_a_rectangular_mask(segmenter: object) -> None:
    model = segmenter.model  # type: ignore[attr-defined]
    pixels = torch.randn(1, 3, 48, 80)
    logits = model.decode(model.encode_image(pixels), torch.randn(1, 24), model.grid(pixels))
    assert logits.shape == (1, 48, 80)


def test_an_input_that_is_no_multiple_of_the_patch_is_refused(segmenter: object) -> None:
    with pytest.raises(ValueError, match="multiple of the patch size 8"):
        segmenter.model.encode_image(torch.randn(1, 3, 60, 64))  # type: ignore[attr-defined]


def test_exactly_one_kind_of_condition_is_taken(segmenter: object) -> None:
    with pytest.raises(ValueError, match="either"):
        segmenter.model.get_conditional_embeddings()  # type: ignore[attr-defined]


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
    with pytest.raises(ValueError, match=r"swish.*known: gelu, quick_gelu, relu"):
        activation("swish")


def test_extract_layers_outside_the_tower_are_refused() -> None:
    with pytest.raises(ValueError, match="extract_layers"):
        CLIPSegConfig(extract_layers=[3, 12])
    with pytest.raises(ValueError, match="conditional_layer"):
        CLIPSegConfig(conditional_layer=3)
