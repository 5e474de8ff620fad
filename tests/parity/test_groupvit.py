"""GroupViT's weights in both implementations, through files, in both directions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from models import GroupViTModel, GroupViTProcessor, GroupViTTextModel, GroupViTVisionModel

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[298, 5, 6, 7, 299], [298, 9, 299, 299, 299]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def reference(**changes: Any) -> Any:
    vision = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "depths": [2, 1, 1],
        "num_hidden_layers": 4,
        "num_group_tokens": [8, 4, 0],
        "num_output_groups": [8, 4, 4],
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 8,
        **changes.pop("vision", {}),
    }
    text = {
        "vocab_size": 300,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "bos_token_id": 298,
        "eos_token_id": changes.pop("eos_token_id", 299),
    }
    torch.manual_seed(0)
    config = transformers.GroupViTConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=24,
        projection_intermediate_dim=40,
        **changes,
    )
    model = transformers.GroupViTModel(config).eval()
    with torch.no_grad():  # a fresh reference has zeros here, which hide differences
        for name, parameter in model.named_parameters():
            if "group_token" in name or "position_embeddings" in name:
                parameter.normal_(std=0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)
    return model


CASES: list[dict[str, Any]] = [
    {},
    {"eos_token_id": 2},
    {"vision": {"hidden_act": "quick_gelu"}},
    {
        "vision": {
            "depths": [1, 1],
            "num_hidden_layers": 2,
            "num_group_tokens": [8, 0],
            "num_output_groups": [8, 8],
        }
    },
    {"vision": {"assign_eps": 0.5, "assign_mlp_ratio": [1, 2]}},
]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_every_field_equals_the_references(
    changes: dict[str, Any], tmp_path: Path, equal_fields: Callable[..., None]
) -> None:
    theirs = reference(**changes)
    theirs.save_pretrained(tmp_path)
    ours = GroupViTModel.from_pretrained(tmp_path)
    inputs = {
        "input_ids": IDS,
        "attention_mask": MASK,
        "pixel_values": torch.randn(2, 3, 64, 64),
        "return_loss": True,
        "output_segmentation": True,
        "output_hidden_states": True,
        "output_attentions": True,
    }
    with torch.no_grad():
        # 5.x gives no states of the text tower
        besides = ("text_model_output.hidden_states", "text_model_output.attentions")
        equal_fields(ours(**inputs), theirs(**inputs), besides)


def test_gradients_of_the_contrastive_loss_equal_the_references(
    tmp_path: Path, equal_gradients: Callable[[nn.Module, nn.Module], None]
) -> None:
    theirs = reference()
    theirs.save_pretrained(tmp_path)
    ours = GroupViTModel.from_pretrained(tmp_path)
    inputs = {
        "input_ids": IDS,
        "pixel_values": torch.randn(2, 3, 64, 64).double(),
        "return_loss": True,
    }
    for model in (ours.double(), theirs.double()):  # in float32 the difference is rounding
        model(**inputs).loss.backward()
    equal_gradients(ours, theirs)


def test_what_either_side_saves_the_other_loads_whole(tmp_path: Path) -> None:
    theirs = reference()
    theirs.save_pretrained(tmp_path / "theirs")
    for cls in (GroupViTModel, GroupViTTextModel, GroupViTVisionModel):
        ours = cls.from_pretrained(tmp_path / "theirs")
        ours.save_pretrained(tmp_path / cls.__name__)
        again, report = getattr(transformers, cls.__name__).from_pretrained(
            tmp_path / cls.__name__, output_loading_info=True
        )
        assert not any(report[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        state = ours.state_dict()
        for name, tensor in again.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)


def test_the_published_size_has_the_published_names() -> None:
    from models import GroupViTConfig

    with torch.device("meta"):
        theirs = transformers.GroupViTModel(transformers.GroupViTConfig()).state_dict()
        ours = GroupViTModel(GroupViTConfig()).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_a_full_size_pass_equals_the_references(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = transformers.GroupViTModel(transformers.GroupViTConfig()).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "group_token" in name or "position_embeddings" in name:
                parameter.normal_(std=0.02)
    theirs.save_pretrained(tmp_path)
    ours = GroupViTModel.from_pretrained(tmp_path)
    inputs = {
        "input_ids": torch.tensor([[49406, 320, 2368, 49407]]),
        "pixel_values": torch.randn(1, 3, 224, 224),
        "output_segmentation": True,
    }
    with torch.no_grad():
        expected, output = theirs(**inputs), ours(**inputs)
    torch.testing.assert_close(output.logits_per_image, expected.logits_per_image)
    torch.testing.assert_close(
        output.segmentation_logits, expected.segmentation_logits, rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("size", [(640, 480), (300, 301), (224, 224), (100, 500)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pixels_equal_the_references(size: tuple[int, int], mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    theirs = transformers.CLIPImageProcessorPil()
    expected = theirs(image, return_tensors="pt")["pixel_values"]
    ours = GroupViTProcessor.default_image_processor([image.convert("RGB")])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
