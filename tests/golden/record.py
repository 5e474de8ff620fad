"""Record what transformers 4.37.2 answers: `python tests/golden/record.py`, with that version.

    pip install "transformers==4.37.2" "tokenizers==0.15.2" "huggingface_hub<0.24" torch safetensors

Each file holds a tiny model's weights, the inputs, and every field of every output; of the tuples
that `return_dict=False` gives, the shapes. `tests/models/test_golden.py` compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

FOLDER = Path(__file__).parent
TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
    "bos_token_id": 38,
    "eos_token_id": 39,
}
CLIPSEG = {
    "text_config": TEXT,
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "projection_dim": 12,
    "extract_layers": [0, 1, 3],
    "reduce_dim": 8,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 16,
}
GROUPVIT = {
    "text_config": TEXT,
    "vision_config": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "depths": [2, 1, 1],
        "num_hidden_layers": 4,
        "num_group_tokens": [6, 3, 0],
        "num_output_groups": [6, 3, 3],
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    },
    "projection_dim": 12,
    "projection_intermediate_dim": 20,
}
# class, configuration, side of the input, side of the logits: the refined head draws
# (patch // 4) ** 2 pixels for the side of each patch
CASES: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "clipseg": ("CLIPSegForImageSegmentation", CLIPSEG, 32, 32),
    "clipseg-refined": (
        "CLIPSegForImageSegmentation",
        {
            **CLIPSEG,
            "use_complex_transposed_convolution": True,
            "conditional_layer": 1,
            "extract_layers": [1, 2],
            "text_config": {**TEXT, "eos_token_id": 2},
        },
        48,
        24,
    ),
    "groupvit": ("GroupViTModel", GROUPVIT, 32, 32),
}


def flat(output: Any, name: str = "") -> dict[str, Tensor]:
    """Every tensor of an output under its path: fields by name, tuples by position."""
    if isinstance(output, Tensor):
        return {name: output.detach().contiguous().clone()}
    items = output.items() if hasattr(output, "items") else enumerate(output)
    found: dict[str, Tensor] = {}
    for key, value in items:
        found |= flat(value, f"{name}.{key}" if name else str(key))
    return found


def shapes(output: Any) -> Any:
    """The structure of nested tuples, with the shape of each tensor in its place."""
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape))
    return [shapes(value) for value in output]


def randomise(model: torch.nn.Module) -> None:
    """Values that matter everywhere, also where a fresh model has zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale" and not name.endswith(".logit_scale"):
                parameter.normal_(std=0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_()
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 2.0)


def calls(kind: str, size: int, logits: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Inputs by the name of the call, with the class that takes them."""
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, size, size)
    ids = torch.tensor([[38, 5, 6, 7, 39], [38, 9, 39, 39, 39]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    text = {"input_ids": ids, "attention_mask": mask}
    prefix = "CLIPSeg" if kind.startswith("CLIPSeg") else "GroupViT"
    both = {**text, "pixel_values": pixels, "return_loss": True}
    found: dict[str, tuple[str, dict[str, Any]]] = {
        "text": (f"{prefix}TextModel", text),
        "vision": (f"{prefix}VisionModel", {"pixel_values": pixels}),
    }
    if prefix == "GroupViT":
        found["model"] = (kind, both)
        found["segmentation"] = (kind, {**both, "output_segmentation": True})
        return found
    labels = torch.rand(2, logits, logits)
    found["model"] = ("CLIPSegModel", both)
    found["by_text"] = (kind, {**text, "pixel_values": pixels, "labels": labels})
    found["by_image"] = (
        kind,
        {"pixel_values": pixels, "conditional_pixel_values": pixels.flip(0)},
    )
    found["by_embedding"] = (
        kind,
        {"pixel_values": pixels, "conditional_embeddings": torch.randn(2, 12)},
    )
    return found


def build(cls: str, whole: Any, config: Any) -> Any:
    """A model of a class with the whole model's weights."""
    if type(whole).__name__ == cls:
        return whole
    part = (
        config
        if cls.endswith("SegModel")
        else getattr(config, "text_config" if "Text" in cls else "vision_config")
    )
    model = getattr(transformers, cls)(part).eval()
    front = "clip." if hasattr(whole, "clip") else ""
    weights = {
        key.removeprefix(front): value
        for key, value in whole.state_dict().items()
        if key.startswith(front) and key.removeprefix(front) in model.state_dict()
    }
    model.load_state_dict(weights)
    return model


def main() -> None:
    """Write one file per case."""
    if transformers.__version__ != "4.37.2":
        raise SystemExit(f"transformers is {transformers.__version__}, not 4.37.2")
    for name, (kind, raw, size, logits) in CASES.items():
        config = getattr(transformers, kind.split("For")[0].removesuffix("Model") + "Config")(**raw)
        whole = getattr(transformers, kind)(config).eval()
        randomise(whole)
        tensors = {f"weights/{key}": value for key, value in whole.state_dict().items()}
        plan: dict[str, Any] = {"class": kind, "config": raw, "calls": {}}
        for call, (cls, inputs) in calls(kind, size, logits).items():
            model = build(cls, whole, config)
            asked = {"output_attentions": True, "output_hidden_states": True}
            with torch.no_grad():
                answers = {"plain": model(**inputs), "full": model(**inputs, **asked)}
                tuples = {
                    "plain": shapes(model(**inputs, return_dict=False)),
                    "full": shapes(model(**inputs, **asked, return_dict=False)),
                }
            for form, answer in answers.items():
                for key, value in flat(answer).items():
                    tensors[f"{call}/{form}/{key}"] = value
            flags = [key for key, value in inputs.items() if not isinstance(value, Tensor)]
            given = {key: value for key, value in inputs.items() if key not in flags}
            tensors |= {f"{call}/in/{key}": value for key, value in given.items()}
            plan["calls"][call] = {"class": cls, "flags": flags, "tuples": tuples}
        metadata = {"plan": json.dumps(plan)}
        unique = {key: value.clone().contiguous() for key, value in tensors.items()}
        save_file(unique, FOLDER / f"{name}.safetensors", metadata=metadata)


if __name__ == "__main__":
    main()
