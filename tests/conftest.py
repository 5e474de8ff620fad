"""A tiny checkpoint of the real architecture with seeded random weights, for every test."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from demo import vocabulary
from models import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPTokenizer,
    ImageProcessor,
    Segmenter,
)

settings.register_profile("behaviour", deadline=None)  # on a busy machine time says nothing
settings.load_profile("behaviour")
# models of this size gain nothing from a second thread, and on busy cores lose much by waiting
torch.set_num_threads(1)
# what a shell starts in the background ignores it, and so would the processes that tests interrupt
signal.signal(signal.SIGINT, signal.default_int_handler)


def tiny_config(vocabulary_size: int, **overrides: object) -> CLIPSegConfig:
    """A model of a few thousand parameters; the end-of-text id is the largest, as CLIP's is."""
    raw: dict[str, object] = {
        "text_config": {
            "vocab_size": vocabulary_size,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "eos_token_id": vocabulary_size - 1,
        },
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 8,
        },
        "projection_dim": 24,
        "extract_layers": [0, 1, 2],
        "reduce_dim": 16,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 32,
        **overrides,
    }
    return CLIPSegConfig.from_dict(raw)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-checkpoint")
    tokenizer = CLIPTokenizer(vocabulary.build())
    tokenizer.save_pretrained(folder)
    torch.manual_seed(16)  # of random towers, few let a decoder learn in forty steps
    size = tokenizer.encode([""])[0][-1] + 1
    CLIPSegForImageSegmentation(tiny_config(size)).save_pretrained(folder)
    processor = ImageProcessor(64, 64).to_dict()
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.fixture(scope="session")
def segmenter(tiny_checkpoint: Path) -> Segmenter:
    return Segmenter.from_pretrained(tiny_checkpoint, device="cpu")


@pytest.fixture
def half(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """A segmenter as it is on a GPU: the model itself in half precision, and nothing packed."""
    made = Segmenter.from_pretrained(tiny_checkpoint, device="cpu")
    made.model.bfloat16()
    made.dtype = made.precision = torch.bfloat16
    monkeypatch.setattr(made._engine, "_fast", None)
    return made
