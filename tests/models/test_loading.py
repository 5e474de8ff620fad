"""A segmenter is loaded from parts that go together, or it is told which do not."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from models import CheckpointError, CLIPSegForImageSegmentation, Segmenter


def edited(folder: Path, name: str, **changes: Any) -> None:
    raw = json.loads((folder / name).read_text())
    for key, value in changes.items():
        raw[key] = raw[key] | value if isinstance(value, dict) else value
    (folder / name).write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"text_config": {"eos_token_id": 49407}}, r"49407 \(eos_token_id\)"),
        ("preprocessor_config.json", {"size": 60}, "60x60 pixels is not a multiple"),
    ],
)
def test_parts_of_a_checkpoint_that_do_not_go_together_are_refused(
    tiny_checkpoint: Path, tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    edited(folder, name, **changes)
    with pytest.raises(CheckpointError, match=message):
        Segmenter.from_pretrained(folder, device="cpu")


def test_a_tokenizer_with_words_that_the_model_does_not_know_is_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens(["widget"])
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="take the tokenizer that it was trained with"):
        Segmenter.from_pretrained(folder, device="cpu")


def test_a_model_of_other_colours_than_images_have_is_refused(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    config = copy.deepcopy(segmenter.model.config)
    config.vision_config.num_channels = 1
    CLIPSegForImageSegmentation(config).save_pretrained(tmp_path)
    segmenter.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="images of 1 channels, and ours have three"):
        Segmenter.from_pretrained(tmp_path, device="cpu")


def test_a_dtype_may_be_named(tiny_checkpoint: Path) -> None:
    half = Segmenter.from_pretrained(tiny_checkpoint, device="cpu", dtype="bfloat16")
    assert half.precision is torch.bfloat16
    unknown: list[Any] = ["bf16", "Tensor", 16]
    for nonsense in unknown:
        with pytest.raises(TypeError, match=f"dtype={nonsense!r} is none: .*bfloat16"):
            Segmenter.from_pretrained(tiny_checkpoint, device="cpu", dtype=nonsense)


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(CheckpointError, match="/no/such/folder"):
        Segmenter.from_pretrained("/no/such/folder")
