"""The same weights in both implementations, through files, in both directions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import (
    CLIPSegForImageSegmentation,
    CLIPSegModel,
    CLIPSegProcessor,
    CLIPSegTextModel,
    CLIPSegVisionModel,
    CLIPTokenizer,
    ImageProcessor,
)

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")


IDS = torch.tensor([[298, 5, 6, 7, 299], [298, 9, 299, 299, 299]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])

# 5.x projects what is pooled, and notes the decoder's states at other places
OTHERWISE_IN_5 = (
    "text_model_output.pooler_output",
    "vision_model_output.pooler_output",
    "decoder_output.hidden_states",
)

Check = Callable[..., None]


def reference(**changes: Any) -> Any:
    raw: dict[str, Any] = {
        "text_config": {
            "vocab_size": 300,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "bos_token_id": 298,
            "eos_token_id": changes.pop("eos_token_id", 299),
        },
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": changes.pop("patch_size", 16),
            "hidden_act": changes.pop("hidden_act", "quick_gelu"),
        },
        "projection_dim": 48,
        "extract_layers": [1, 2, 4],
        "reduce_dim": 32,
        "decoder_intermediate_size": 64,
        **changes,
    }
    torch.manual_seed(0)
    config = transformers.CLIPSegConfig(**raw, attn_implementation="eager")
    return transformers.CLIPSegForImageSegmentation(config).eval()


CASES: list[dict[str, Any]] = [
    {},
    {"use_complex_transposed_convolution": True},
    {"conditional_layer": 1},
    {"extract_layers": [0, 3]},
    {"extract_layers": [0, 1, 2, 4], "conditional_layer": 3},
    {"eos_token_id": 2},
    {"hidden_act": "gelu", "patch_size": 8},
    {"hidden_act": "relu"},
]


@pytest.mark.parametrize("changes", CASES, ids=lambda c: ",".join(c) or "default")
@pytest.mark.parametrize("size", [64, 96])
def test_every_field_of_a_segmentation_equals_the_references(
    changes: dict[str, Any], size: int, tmp_path: Path, equal_fields: Check
) -> None:
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path)
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, size, size)
    with torch.no_grad():
        labels = torch.rand_like(ours(input_ids=IDS, pixel_values=pixels).logits)
        for condition in (
            {"input_ids": IDS, "attention_mask": MASK},
            {"conditional_pixel_values": pixels.flip(0)},
            {"conditional_embeddings": torch.randn(2, 48)},
        ):
            asked = {
                "pixel_values": pixels,
                "labels": labels,
                "output_attentions": True,
                "output_hidden_states": True,
                **condition,
            }
            equal_fields(ours(**asked), theirs(**asked), OTHERWISE_IN_5)


def test_gradients_of_the_mask_loss_equal_the_references(
    tmp_path: Path, equal_gradients: Callable[[nn.Module, nn.Module], None]
) -> None:
    theirs = reference(use_complex_transposed_convolution=True)
    theirs.save_pretrained(tmp_path)
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64).double()
    labels = torch.rand(2, 64, 64).round().double()
    for model in (ours.double(), theirs.double()):  # in float32 the difference is rounding
        model(input_ids=IDS, pixel_values=pixels, labels=labels).loss.backward()
    equal_gradients(ours, theirs)


def test_gradients_of_the_contrastive_loss_equal_the_references(
    tmp_path: Path, equal_gradients: Callable[[nn.Module, nn.Module], None]
) -> None:
    theirs = reference().clip
    theirs.save_pretrained(tmp_path)
    ours = CLIPSegModel.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, 64, 64).double()
    for model in (ours.double(), theirs.double()):  # in float32 the difference is rounding
        model(input_ids=IDS, pixel_values=pixels, return_loss=True).loss.backward()
    equal_gradients(ours, theirs)


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (48, 112)], ids=str)
def test_every_field_of_both_towers_equals_the_references(
    size: tuple[int, int], tmp_path: Path, equal_fields: Check
) -> None:
    theirs = reference().clip
    theirs.save_pretrained(tmp_path)
    more = {"output_attentions": True, "output_hidden_states": True}
    vision = {"pixel_values": torch.randn(2, 3, *size), **more}
    text = {"input_ids": IDS, "attention_mask": MASK, **more}
    with torch.no_grad():
        for cls, asked in ((CLIPSegVisionModel, vision), (CLIPSegTextModel, text)):
            other = getattr(transformers, cls.__name__).from_pretrained(
                tmp_path, attn_implementation="eager"
            )
            equal_fields(cls.from_pretrained(tmp_path)(**asked), other(**asked))
        whole = CLIPSegModel.from_pretrained(tmp_path)
        asked = {**text, **vision, "return_loss": True}
        equal_fields(whole(**asked), theirs(**asked), OTHERWISE_IN_5)


def test_a_full_size_pass_equals_the_references(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.CLIPSegConfig(
        vision_config={"patch_size": 16}, use_complex_transposed_convolution=True
    )
    theirs = transformers.CLIPSegForImageSegmentation(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path)
    asked = {
        "pixel_values": torch.randn(1, 3, 352, 352),
        "input_ids": torch.tensor([[49406, 320, 2368, 49407]]),
    }
    with torch.no_grad():
        expected, output = theirs(**asked), ours(**asked)
    spread = float(expected.logits.std())
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-4 * spread)
    torch.testing.assert_close(output.pooled_output, expected.pooled_output, rtol=1e-4, atol=1e-4)


def test_what_we_save_the_reference_loads_whole(tmp_path: Path) -> None:
    theirs = reference(use_complex_transposed_convolution=True)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again, report = transformers.CLIPSegForImageSegmentation.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_what_the_reference_saves_in_several_files_loads(tmp_path: Path) -> None:
    theirs = reference()
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*-of-*.safetensors"))) > 2
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path).state_dict()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)


def test_the_published_size_has_the_published_names() -> None:
    config = transformers.CLIPSegConfig(
        vision_config={"patch_size": 16}, use_complex_transposed_convolution=True
    )
    with torch.device("meta"):
        theirs = transformers.CLIPSegForImageSegmentation(config).state_dict()
    raw = json.loads(config.to_json_string())
    from models import CLIPSegConfig

    with torch.device("meta"):
        ours = CLIPSegForImageSegmentation(CLIPSegConfig.from_dict(raw)).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


HARD = [
    "",
    "a red circle",
    "A  RED\tcircle\n",
    "naïve café déjà",
    "e\u0301 combining",
    "日本語 中文 한국어",
    "🙂🙃 👩‍👩‍👧",
    "it's we're I'd they've",
    "1234 5.6e-7",
    "\x00\x07control",
    "x" * 200,
    "<|endoftext|> inside",
    "don’t — “quotes”…",
]


@pytest.mark.parametrize("text", HARD, ids=repr)
def test_token_ids_equal_the_references(text: str, tmp_path: Path) -> None:
    from demo import vocabulary

    CLIPTokenizer(vocabulary.build())._tokenizer.model.save(str(tmp_path))
    theirs = transformers.CLIPTokenizerFast.from_pretrained(str(tmp_path))
    ours = CLIPTokenizer.from_pretrained(tmp_path)
    assert ours.encode([text]) == [theirs(text)["input_ids"]]


def test_a_processor_that_the_reference_saved_gives_its_pixels(tmp_path: Path) -> None:
    from demo import vocabulary

    CLIPTokenizer(vocabulary.build())._tokenizer.model.save(str(tmp_path))
    theirs = transformers.CLIPSegProcessor(
        image_processor=transformers.ViTImageProcessorPil(size={"height": 96, "width": 96}),
        tokenizer=transformers.CLIPTokenizerFast.from_pretrained(str(tmp_path)),
    )
    theirs.save_pretrained(tmp_path / "saved")
    ours = CLIPSegProcessor.from_pretrained(tmp_path / "saved")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    asked: dict[str, Any] = {
        "text": ["a red circle"],
        "images": Image.fromarray(pixels),
        "return_tensors": "pt",
    }
    expected, found = theirs(**asked), ours(**asked)
    assert found.input_ids.equal(expected["input_ids"])
    torch.testing.assert_close(found.pixel_values, expected["pixel_values"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(640, 480), (31, 77), (352, 352), (1, 1)])
def test_pixels_equal_the_references(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    theirs = transformers.ViTImageProcessorPil(
        size={"height": 352, "width": 352},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    expected = theirs(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ImageProcessor()([image]), expected, atol=1e-5, rtol=1e-5)
