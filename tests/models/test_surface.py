"""The documented classes, constructor arguments, defaults and methods (transformers v4.37.2)."""

import inspect
from typing import Any

import pytest

import models

TOWER_TEXT = {
    "vocab_size": 49408,
    "num_hidden_layers": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-05,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 1.0,
    "pad_token_id": 1,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "CLIPSegConfig": {
        "projection_dim": 512,
        "logit_scale_init_value": 2.6592,
        "extract_layers": [3, 6, 9],
        "reduce_dim": 64,
        "decoder_num_attention_heads": 4,
        "decoder_attention_dropout": 0.0,
        "decoder_hidden_act": "quick_gelu",
        "decoder_intermediate_size": 2048,
        "conditional_layer": 0,
        "use_complex_transposed_convolution": False,
    },
    "CLIPSegTextConfig": {
        **TOWER_TEXT,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_attention_heads": 8,
    },
    "CLIPSegVisionConfig": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-05,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "initializer_factor": 1.0,
    },
    "GroupViTConfig": {
        "projection_dim": 256,
        "projection_intermediate_dim": 4096,
        "logit_scale_init_value": 2.6592,
    },
    "GroupViTTextConfig": {
        **TOWER_TEXT,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "dropout": 0.0,
    },
    "GroupViTVisionConfig": {
        "hidden_size": 384,
        "intermediate_size": 1536,
        "depths": [6, 3, 3],
        "num_hidden_layers": 12,
        "num_group_tokens": [64, 8, 0],
        "num_output_groups": [64, 8, 8],
        "num_attention_heads": 6,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "initializer_factor": 1.0,
        "assign_eps": 1.0,
        "assign_mlp_ratio": [0.5, 4],
    },
}
SWITCHES = ["output_attentions", "output_hidden_states", "return_dict"]
TEXT = ["input_ids", "attention_mask", "position_ids", *SWITCHES]
IMAGE = ["pixel_values", *SWITCHES]
COMPARE = ["input_ids", "pixel_values", "attention_mask", "position_ids", "return_loss"]
METHODS: dict[tuple[str, str], list[str]] = {
    ("CLIPSegModel", "forward"): [*COMPARE, *SWITCHES],
    ("CLIPSegModel", "get_text_features"): TEXT,
    ("CLIPSegModel", "get_image_features"): IMAGE,
    ("CLIPSegTextModel", "forward"): TEXT,
    ("CLIPSegVisionModel", "forward"): IMAGE,
    ("CLIPSegForImageSegmentation", "forward"): [
        "input_ids",
        "pixel_values",
        "conditional_pixel_values",
        "conditional_embeddings",
        "attention_mask",
        "position_ids",
        "labels",
        *SWITCHES,
    ],
    ("GroupViTModel", "forward"): [
        *COMPARE,
        "output_attentions",
        "output_hidden_states",
        "output_segmentation",
        "return_dict",
    ],
    ("GroupViTModel", "get_text_features"): TEXT,
    ("GroupViTModel", "get_image_features"): IMAGE,
    ("GroupViTTextModel", "forward"): TEXT,
    ("GroupViTVisionModel", "forward"): IMAGE,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_have_the_documented_defaults(name: str) -> None:
    config = getattr(models, name)()
    assert {key: getattr(config, key) for key in CONFIGS[name]} == CONFIGS[name]


@pytest.mark.parametrize(("cls", "method"), METHODS)
def test_methods_take_the_documented_arguments_in_order(cls: str, method: str) -> None:
    parameters = inspect.signature(getattr(getattr(models, cls), method)).parameters
    assert [name for name in parameters if name != "self"] == METHODS[cls, method]


def test_everything_documented_is_there_to_import() -> None:
    names = {*CONFIGS, *(cls for cls, _ in METHODS), "CLIPSegProcessor", "GroupViTProcessor"}
    assert names <= set(models.__all__)
    for cls in {cls for cls, _ in METHODS}:
        assert callable(getattr(models, cls).from_pretrained)
        assert callable(getattr(models, cls).save_pretrained)
    for method in ("__call__", "batch_decode", "decode", "from_pretrained", "save_pretrained"):
        assert callable(getattr(models.CLIPSegProcessor, method))


@pytest.mark.parametrize("family", ["CLIPSeg", "GroupViT"])
def test_a_configuration_is_made_of_its_towers(family: str) -> None:
    whole, text, vision = (
        getattr(models, f"{family}{part}Config") for part in ("", "Text", "Vision")
    )
    config = whole.from_text_vision_configs(text(hidden_size=64), vision(patch_size=8))
    assert (config.text_config.hidden_size, config.vision_config.patch_size) == (64, 8)
    as_mappings = whole(text_config={"hidden_size": 64}, vision_config={"patch_size": 8})
    assert as_mappings == config
    legacy = whole(text_config_dict={"hidden_size": 64}, vision_config_dict={"patch_size": 8})
    assert legacy == config
    assert whole.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_keys_that_are_not_used_are_kept() -> None:
    config = models.CLIPSegConfig(architectures=["X"], transformers_version="4.37.2")
    assert config.to_dict()["architectures"] == ["X"]
    assert models.CLIPSegConfig.from_dict(config.to_dict()).extra["architectures"] == ["X"]


def test_switches_of_the_configuration_hold_where_a_call_says_nothing() -> None:
    import torch

    raw = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = models.CLIPSegTextConfig(**raw, vocab_size=9, output_hidden_states=True)
    model = models.CLIPSegTextModel(config)
    ids = torch.zeros(1, 3, dtype=torch.long)
    assert len(model(ids).hidden_states) == 2
    assert model(ids, output_hidden_states=False).hidden_states is None
    config.extra["return_dict"] = False
    assert isinstance(model(ids), tuple)
