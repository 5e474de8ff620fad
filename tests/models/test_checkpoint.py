import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file

from models import CheckpointError, CLIPSegForImageSegmentation, Segmenter, checkpoint


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def pickled(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return weights


def test_an_old_pickled_file_with_position_ids_loads(copy: Path, segmenter: Segmenter) -> None:
    weights = pickled(copy)
    weights["clip.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    weights["clip.vision_model.embeddings.position_ids"] = torch.arange(65)[None]
    torch.save(weights, copy / "pytorch_model.bin")
    model = CLIPSegForImageSegmentation.from_pretrained(copy)
    for name, tensor in segmenter.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_pickled_training_state_has_its_weights_under_their_own_key(copy: Path) -> None:
    weights = pickled(copy)
    torch.save({"epoch": 3, "state_dict": weights}, copy / "pytorch_model.bin")
    model = CLIPSegForImageSegmentation.from_pretrained(copy)
    assert torch.equal(model.state_dict()["clip.logit_scale"], weights["clip.logit_scale"])


def in_shards(folder: Path, name: str) -> list[Path]:
    """The folder's weights in two files and an index, as large checkpoints have them."""
    weights = pickled(folder)
    stem, suffix = name.split(".")
    shards = [folder / f"{stem}-0000{number}-of-00002.{suffix}" for number in (1, 2)]
    where = {one: shards[place % 2] for place, one in enumerate(weights)}
    for shard in shards:
        part = {one: tensor for one, tensor in weights.items() if where[one] == shard}
        save_file(part, shard) if suffix == "safetensors" else torch.save(part, shard)
    index = {"metadata": {}, "weight_map": {one: shard.name for one, shard in where.items()}}
    (folder / f"{name}.index.json").write_text(json.dumps(index))
    return shards


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_load_and_are_named_where_one_is_missing(
    copy: Path, segmenter: Segmenter, name: str
) -> None:
    first, _ = in_shards(copy, name)
    model = CLIPSegForImageSegmentation.from_pretrained(copy)
    for key, tensor in segmenter.model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], tensor, rtol=0, atol=0)
    before = checkpoint.digest(copy)
    first.write_bytes(first.read_bytes() + b" ")
    assert checkpoint.digest(copy) != before
    first.unlink()
    with pytest.raises(CheckpointError, match=rf"{first.name} cannot be read: No such file"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": "../b"}}',
        '{"weight_map": {"a": ["b"]}}',
    ],
)
def test_an_index_that_names_no_files_beside_it_is_named(copy: Path, content: str) -> None:
    pickled(copy)
    (copy / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"index\.json cannot be used: its weight_map"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


def test_a_pickled_file_that_would_run_code_is_refused(copy: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    pickled(copy)
    with (copy / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"weight": Bomb()}, file, protocol=2)
    with pytest.raises(CheckpointError):
        CLIPSegForImageSegmentation.from_pretrained(copy)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1f0c\n", "git lfs pull"),
        (b"<!DOCTYPE html>", "none of torch's files"),
        (b"", "is damaged"),
        (b"\x80\x02]q\x00.", "is damaged"),
    ],
)
def test_a_pickled_file_is_told_for_what_it_is(copy: Path, content: bytes, message: str) -> None:
    pickled(copy)
    (copy / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"pytorch_model\.bin .*{message}"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


def test_a_file_that_may_not_be_read_is_not_called_damaged(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.open

    def forbidden(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "model.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(CheckpointError, match=r"safetensors cannot be read: Permission denied"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


@pytest.mark.parametrize("name", ["a" * 300, "~no-such-user-here/clipseg"])
def test_a_folder_that_cannot_be_looked_at_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match="cannot be used"):
        checkpoint.locate(name)


def test_a_file_instead_of_a_folder_is_named(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)  # where the name could be one on the hub
    for name in (copy / "model.safetensors", "copy/model.safetensors"):
        with pytest.raises(CheckpointError, match="is a file: give the folder that it is in"):
            checkpoint.locate(name)


def test_the_address_of_a_page_is_told_from_a_hub_id() -> None:
    with pytest.raises(CheckpointError, match="is an address: give a hub id"):
        checkpoint.locate("https://huggingface.co/CIDAS/clipseg-rd64-refined")


def test_loading_is_strict_and_names_what_does_not_fit(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    lost = weights.pop("decoder.film_mul.weight")
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks decoder\.film_mul\.weight"):
        CLIPSegForImageSegmentation.from_pretrained(copy)
    save_file(
        {**weights, "decoder.film_mul.weight": lost, "surplus": lost.clone()},
        copy / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match="has unknown surplus"):
        CLIPSegForImageSegmentation.from_pretrained(copy)
    save_file({**weights, "decoder.film_mul.weight": lost[:3]}, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\(3, 24\) instead of \(16, 24\)"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


def test_quantised_weights_are_refused(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["decoder.film_mul.weight"] = weights["decoder.film_mul.weight"].mul(127).to(torch.int8)
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"quantised, with integers in decoder\.film_mul"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(copy: Path, value: float) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["decoder.film_mul.weight"][0, 0] = value
    save_file(weights, copy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not numbers .* in decoder\.film_mul\.weight: its"):
        CLIPSegForImageSegmentation.from_pretrained(copy)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", "[]", "must hold a JSON object"),
        ("config.json", "[" * 100_000, "cannot be read as JSON"),
        ("config.json", '{"model_type": ["clipseg"]}', "known: clipseg, groupvit"),
        ("config.json", '{"model_type": "clipseg", "extract_layers": [99]}', "extract_layers"),
        ("model.safetensors", "not weights", "damaged"),
        ("tokenizer.json", "{}", "tokenizer in .* is damaged"),
        ("preprocessor_config.json", '{"size": {}}', "cannot be used"),
    ],
)
def test_a_damaged_file_is_named(copy: Path, name: str, content: str, message: str) -> None:
    (copy / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        Segmenter.from_pretrained(copy)


def configured(folder: Path, where: str, value: object) -> None:
    raw = part = json.loads((folder / "config.json").read_text())
    *parts, name = where.split(".")
    for one in parts:
        part = part[one]
    part[name] = value
    (folder / "config.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("reduce_dim", None, "reduce_dim None is not a whole number"),
        ("reduce_dim", 15, "split into 2 attention heads"),
        ("reduce_dim", -1, "reduce_dim -1 is not a whole number from 1 up"),
        ("decoder_num_attention_heads", 0, "heads 0 is not a whole number from 1 up"),
        ("extract_layers", 1, "extract_layers 1 is not a list in which each is a whole number"),
        ("extract_layers", [0.0, 1.0], "each is a whole number"),
        ("extract_layers", [1] * 100_000, "extract_layers has 100000 entries: at most 1000"),
        ("logit_scale_init_value", float("nan"), "nan is not a number"),
        ("use_complex_transposed_convolution", "false", "'false' is not true or false"),
        ("text_config.num_hidden_layers", 10**9, "1000000000 is not a whole number from 0 to 1000"),
        ("text_config.hidden_act", "silu", "Unknown activation 'silu'"),
        ("text_config.eos_token_id", None, "eos_token_id None is not a whole number"),
        ("text_config.attention_dropout", 1.5, "1.5 is not a number from 0 to 1"),
        ("vision_config.num_attention_heads", -2, "-2 is not a whole number from 1 up"),
        ("vision_config.num_attention_heads", True, "True is not a whole number"),
        ("vision_config.hidden_size", 10**12, "Storage size calculation overflowed"),
        ("vision_config.patch_size", 0, "patch_size 0 is not a whole number from 1 up"),
        ("vision_config.layer_norm_eps", -4, "-4 is not a number above 0"),
        ("vision_config.image_size", [64, 64], "image_size .* is not a whole number"),
        ("vision_config.layer_norm_eps", "1e-5", "layer_norm_eps '1e-5' is not a number"),
    ],
)
def test_a_configuration_that_makes_no_model_is_named(
    copy: Path, where: str, value: object, message: str
) -> None:
    configured(copy, where, value)
    with pytest.raises(CheckpointError, match=f"config.json cannot be used: .*{message}"):
        Segmenter.from_pretrained(copy)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("text_config.vocab_size", 10**9, r"instead of \(1000000000, 32\)"),
        ("vision_config.image_size", 10**6, r"instead of \(15625000001, 32\)"),
        ("vision_config.hidden_size", 10**9, r"instead of \(1000000000,\)"),
        ("decoder_intermediate_size", 10**12, r"instead of \(1000000000000,\)"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_they_take_memory(
    copy: Path, where: str, value: int, message: str
) -> None:
    configured(copy, where, value)
    with pytest.raises(CheckpointError, match=f"does not fit .*{message}"):
        Segmenter.from_pretrained(copy)


def test_a_configuration_may_have_no_padding_token(copy: Path) -> None:
    raw = json.loads((copy / "config.json").read_text())
    raw["text_config"] |= {"pad_token_id": None, "bos_token_id": None}
    (copy / "config.json").write_text(json.dumps(raw))
    Segmenter.from_pretrained(copy, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=r"has no |neither"):
        Segmenter.from_pretrained(copy)


def test_an_unreachable_hub_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="hub cannot be reached") as caught:
        checkpoint.locate("promptbrush-test/does-not-exist")
    assert "\n" not in str(caught.value)


class Unread(Exception):
    """As the hub client's HTTP library has one, whichever that is."""


def fails(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unread("timed out\nand more"), r"cannot be reached .*\(timed out\): check the network"),
        (RuntimeError("Data processing error: no CAS"), r"cannot be reached .*\(Data processing"),
        (PermissionError(errno.EACCES, "Permission denied"), r"Permission denied.*set HF_HOME"),
        (OSError(errno.ENOSPC, "No space left on device"), r"No space left.*make room there"),
    ],
)
def test_why_a_download_fails_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fails(error))
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoint.locate("promptbrush-test/does-not-exist")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        (HfHubHTTPError, 401, r"does not take the token .*: set HF_TOKEN to another"),
        (HfHubHTTPError, 403, r"does not let the token .*: give the token access"),
        (GatedRepoError, 403, r"is gated: ask for access at https://.*/promptbrush-test/gated"),
        (GatedRepoError, 401, r"is gated: ask for access"),
        (RepositoryNotFoundError, 401, r"no public checkpoint .* \(others need HF_TOKEN\)"),
        (HfHubHTTPError, 500, r"cannot be reached .*: check the network"),
    ],
)
def test_a_hub_that_refuses_tells_what_the_token_lacks(
    monkeypatch: pytest.MonkeyPatch, kind: type[HfHubHTTPError], status: int, told: str
) -> None:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    error = kind(f"{status} Client Error\nand more", response=response)
    monkeypatch.setattr("huggingface_hub.model_info", fails(error))
    with pytest.raises(CheckpointError, match=told) as caught:
        checkpoint.locate("promptbrush-test/gated")
    assert "\n" not in str(caught.value)
    assert ("the network" in str(caught.value)) == (status == 500)


def test_a_hub_that_does_not_answer_keeps_no_copy_from_being_used(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    asked: list[float] = []

    def silent(name: str, *, timeout: float) -> None:
        asked.append(timeout)
        raise Unread("timed out")

    def cached(name: str, *, local_files_only: bool = False, **_: object) -> str:
        assert local_files_only
        return str(tiny_checkpoint)

    monkeypatch.setattr("huggingface_hub.model_info", silent)
    monkeypatch.setattr("huggingface_hub.snapshot_download", cached)
    assert checkpoint.locate("promptbrush-test/cached") == tiny_checkpoint
    assert asked == [checkpoint.PATIENCE]


def test_of_what_the_hub_has_only_what_is_read_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    published = ["README.md", "config.json", "model.safetensors", "pytorch_model.bin"]
    published += ["flax_model.msgpack", "tf_model.h5", "tokenizer.json", "vocab.json"]
    taken: list[str] = []

    def download(name: str, *, allow_patterns: list[str], **_: object) -> str:
        taken.extend(one for one in published if any(fnmatch(one, p) for p in allow_patterns))
        return str(tiny_checkpoint)

    monkeypatch.setattr("huggingface_hub.model_info", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert checkpoint.locate("promptbrush-test/published") == tiny_checkpoint
    assert taken == ["config.json", "model.safetensors", "tokenizer.json", "vocab.json"]


def test_the_digest_changes_with_every_file_that_decides_masks(copy: Path) -> None:
    seen = {checkpoint.digest(copy)}
    assert checkpoint.digest(copy) in seen
    for name in ("config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"):
        (copy / name).write_bytes((copy / name).read_bytes() + b" ")
        seen.add(checkpoint.digest(copy))
    (copy / "README.md").write_text("words decide nothing")
    seen.add(checkpoint.digest(copy))
    assert len(seen) == 5


def test_the_written_config_is_the_published_form(copy: Path) -> None:
    raw = json.loads((copy / "config.json").read_text())
    assert raw["model_type"] == "clipseg"
    assert raw["architectures"] == ["CLIPSegForImageSegmentation"]
    assert raw["vision_config"]["model_type"] == "clipseg_vision_model"
