"""The same weights in both implementations, through files, in both directions."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import CLIPSegForImageSegmentation, CLIPTokenizer, ImageProcessor

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")


def reference(**changes: object) -> object:
    raw: dict[str, object] = {
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
    return transformers.CLIPSegForImageSegmentation(transformers.CLIPSegConfig(**raw)).eval()


CASES = [
    {},
    {"use_complex_transposed_convolution": True},
    {"conditional_layer": 1},
    {"extract_layers": [0, 3]},
    {"extract_layers": [0, 1, 2, 4], "conditional_layer": 3},
    {"eos_token_id": 2},
    {"hidden_act": "gelu", "patch_size": 8},
]


@pytest.mark.parametrize("changes", CASES, ids=lambda c: ",".join(c) or "default")
@pytest.mark.parametrize("size", [64, 96])
def test_masks_and_conditions_equal_the_references(
    changes: dict[str, object], size: int, tmp_path: Path
) -> None:
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path)  # type: ignore[attr-defined]
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path)
    pixels = torch.randn(2, 3, size, size)
    ids = torch.tensor([[298, 5, 6, 7, 299], [298, 9, 299, 299, 299]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        expected = theirs(pixel_values=pixels, input_ids=ids, attention_mask=mask)  # type: ignore[operator]
        visual = theirs(pixel_values=pixels, conditional_pixel_values=pixels.flip(0))  # type: ignore[operator]
        conditions = ours.get_conditional_embeddings(ids, mask)
        exemplars = ours.get_conditional_embeddings(conditional_pixel_values=pixels.flip(0))
        activations = ours.encode_image(pixels)
        torch.testing.assert_close(conditions, expected.conditional_embeddings)
        torch.testing.assert_close(exemplars, visual.conditional_embeddings)
        torch.testing.assert_close(ours.decode(activations, conditions), expected.logits)
        torch.testing.assert_close(ours.decode(activations, exemplars), visual.logits)


def test_what_we_save_the_reference_loads_whole(tmp_path: Path) -> None:
    theirs = reference(use_complex_transposed_convolution=True)
    theirs.save_pretrained(tmp_path / "theirs")  # type: ignore[attr-defined]
    ours = CLIPSegForImageSegmentation.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again, report = transformers.CLIPSegForImageSegmentation.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for name, tensor in theirs.state_dict().items():  # type: ignore[attr-defined]
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


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
