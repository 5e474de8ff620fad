"""Hugging Face folders to models and back.

A checkpoint is a folder, or the id of one on the hub: `config.json`, weights (in one file, or in
several with an index), `tokenizer.json` (or `vocab.json` with `merges.txt`) and
`preprocessor_config.json` (or `processor_config.json`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol, Self, TypeVar

import huggingface_hub
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

log = logging.getLogger(__name__)

CONFIG = "config.json"
SAFETENSORS = "model.safetensors"
PICKLED = "pytorch_model.bin"
INDEX = ".index.json"  # after either name: tells which files hold which weights, of large ones
LFS_POINTER = b"version https://git-lfs"  # how the file begins that git clones without Git LFS
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"  # transformers 5 writes the former into it, and nothing else
TEXT_FILES = ("tokenizer.json", "vocab.json", "merges.txt", PREPROCESSOR, PROCESSOR)

PATIENCE = 10  # seconds that the hub has to answer at all
UNAUTHORIZED, FORBIDDEN = 401, 403
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}

# Files saved before these became non-persistent buffers still hold them; they are plain ranges.
OBSOLETE = "position_ids"


class CheckpointError(Exception):
    """A checkpoint cannot be found, reached or used; the message says which and what to do."""


class _Config(Protocol):
    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self: ...


C = TypeVar("C", bound=_Config)


def locate(id_or_folder: str | Path) -> Path:
    """The folder itself, or the local copy of a hub id, downloaded if need be.

    Where the hub does not answer, a copy that was downloaded before is enough.

    Raises:
        CheckpointError: there is no such folder, or it cannot be downloaded.
    """
    name = str(id_or_folder)
    try:
        folder = Path(id_or_folder).expanduser()
        if folder.is_dir():
            return folder
        if folder.exists():
            raise CheckpointError(f"Checkpoint {name!r} is a file: give the folder that it is in.")
    except (OSError, RuntimeError) as error:  # no permission on the way, too long, no such user
        raise CheckpointError(f"Checkpoint folder {name!r} cannot be used: {error}.") from error
    if "://" in name:
        raise CheckpointError(f"Checkpoint {name!r} is an address: give a hub id, as OWNER/NAME.")
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise CheckpointError(f"There is no checkpoint folder {name!r}.")
    try:
        huggingface_hub.model_info(name, timeout=PATIENCE)  # a download waits for ever for this
        return _snapshot(name)
    except CheckpointError:
        raise
    except Exception as error:
        # The client's own errors, its HTTP library's, whichever that is, a transfer's, the disk's.
        try:
            kept = _snapshot(name, local_files_only=True)
        except Exception:
            raise CheckpointError(_why(name, error)) from error
        log.warning("checkpoint %s is used as it was downloaded before: %s", name, _line(error))
        return kept


def at_hand(id_or_folder: str | Path) -> Path | None:
    """What `locate` finds without the network; None if that is nothing."""
    folder = Path(id_or_folder)
    try:
        return folder if folder.is_dir() else _snapshot(str(folder), local_files_only=True)
    except Exception:  # as in `locate`
        return None


def _snapshot(name: str, *, local_files_only: bool = False) -> Path:
    for weights in (SAFETENSORS, PICKLED):
        folder = huggingface_hub.snapshot_download(
            name,
            allow_patterns=[CONFIG, weights, weights + INDEX, _shards(weights), *TEXT_FILES],
            local_files_only=local_files_only,
        )
        if _of_weights(Path(folder)):
            return Path(folder)
    raise CheckpointError(f"Checkpoint {name!r} has neither {SAFETENSORS} nor {PICKLED}.")


def _shards(weights: str) -> str:
    """What the files are called that the weights are in where one would be too large."""
    stem, _, suffix = weights.partition(".")
    return f"{stem}-*-of-*.{suffix}"


def _why(name: str, error: Exception) -> str:
    """Why a checkpoint of the hub cannot be had, and what to do."""
    if isinstance(error, GatedRepoError):  # which is a kind of the next
        return (
            f"Checkpoint {name!r} is gated: ask for access at {huggingface_hub.constants.ENDPOINT}/"
            f"{name}, and set HF_TOKEN to a token of who has it."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The hub has no public checkpoint {name!r} (others need HF_TOKEN), "
            "and there is no such folder."
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == UNAUTHORIZED:
        return (
            f"The hub does not take the token it is asked with for checkpoint {name!r} "
            f"({_line(error)}): set HF_TOKEN to another; for a public checkpoint, unset it."
        )
    if status == FORBIDDEN:
        return (
            f"The hub does not let the token it is asked with read checkpoint {name!r} "
            f"({_line(error)}): give the token access to it, or set HF_TOKEN to another."
        )
    if isinstance(error, HFValidationError):
        return f"{name!r} is neither a folder nor a valid hub id."
    if isinstance(error, OSError) and error.errno in UNWRITABLE:
        cache = huggingface_hub.constants.HF_HUB_CACHE
        return (
            f"Checkpoint {name!r} cannot be kept in {cache} ({error.strerror}): "
            "make room there, or set HF_HOME to another folder."
        )
    return (
        f"The hub cannot be reached for checkpoint {name!r} and it is not in the local cache "
        f"({_line(error)}): check the network, or give a folder."
    )


def _line(error: Exception) -> str:
    """What went wrong at the bottom, in one line."""
    cause = error.__cause__ or error
    return str(cause).partition("\n")[0] or type(cause).__name__


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a checkpoint folder."""
    path = folder / name
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"Checkpoint {folder} has no {name}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return raw


def read_config(folder: Path, config: type[C], part: str = "") -> C:
    """The model's configuration, or that of a part in the whole model's.

    Raises:
        CheckpointError: there is none, or a value cannot be used.
    """
    raw = read_json(folder, CONFIG)
    try:
        return config.from_dict(raw.get(part) or raw)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be used: {error}") from error


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Tensors by name, safetensors first; pickled files are read as weights only.

    Raises:
        CheckpointError: there are none, they cannot be read, or a file holds something else.
    """
    names = _of_weights(folder)
    if not names:
        raise CheckpointError(f"Checkpoint {folder} has neither {SAFETENSORS} nor {PICKLED}.")
    weights: dict[str, Tensor] = {}
    for name in names:
        weights |= _read(folder / name)
    return weights


def _of_weights(folder: Path) -> list[str]:
    """The names of the files with the weights: of one, of those that an index names, or of none."""
    for name in (SAFETENSORS, PICKLED):
        if (folder / name).is_file():
            return [name]
        if (folder / (name + INDEX)).is_file():
            named = read_json(folder, name + INDEX).get("weight_map")
            files = list(named.values()) if isinstance(named, dict) else []
            if not files or not all(isinstance(f, str) and Path(f).name == f for f in files):
                raise CheckpointError(
                    f"{folder / (name + INDEX)} cannot be used: its weight_map does not name "
                    "files beside it."
                )
            return sorted(set(files))
    return []


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file, by name."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if begins == LFS_POINTER:
        raise CheckpointError(
            f"{path} is a pointer to the weights, not the weights: fetch them with `git lfs pull`."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        raw = torch.load(path, map_location="cpu", weights_only=True)
        raw = raw.get("state_dict", raw)  # of a training's state
        return {str(name): tensor for name, tensor in raw.items() if isinstance(tensor, Tensor)}
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} is refused: it holds more than weights, or is none of torch's files."
        ) from error
    except Exception as error:  # damaged files make the libraries raise nearly anything
        raise CheckpointError(
            f"{path} is damaged ({_line(error)}): copy or download it again."
        ) from error


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fill `model` strictly: every parameter is set, in its own precision, and none is left over.

    A model on the "meta" device, which has no memory, is given the weights'; any other keeps its
    own tensors, and takes the values.

    Raises:
        CheckpointError: names or shapes differ, or values are no numbers or quantised; the message
            lists the first few.
    """
    expected = model.state_dict()
    weights = _of_part(
        {
            name: tensor
            for name, tensor in read_weights(folder).items()
            if name.rsplit(".", 1)[-1] != OBSOLETE
        },
        expected,
        alone=bool(getattr(model, "part", "")),
    )
    missing = sorted(expected.keys() - weights.keys())
    surplus = sorted(weights.keys() - expected.keys())
    reshaped = sorted(
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected.keys() & weights.keys()
        if weights[name].shape != expected[name].shape
    )
    for what, names in (("lacks", missing), ("has unknown", surplus), ("has", reshaped)):
        if names:
            raise CheckpointError(
                f"Checkpoint {folder} does not fit {type(model).__name__}: it {what} {_few(names)}."
            )
    rounded = sorted(
        name
        for name in expected
        if expected[name].is_floating_point() and not weights[name].is_floating_point()
    )
    if rounded:
        raise CheckpointError(
            f"Checkpoint {folder} is quantised, with integers in {_few(rounded)}, which is not "
            "supported: take the one that it was made from."
        )
    held = {
        name: weights[name].to(torch.get_default_device(), tensor.dtype, copy=True)
        for name, tensor in expected.items()
    }
    model.load_state_dict(held, assign=next(iter(expected.values())).is_meta)
    # looked at as the model holds them: what is too large for its precision is infinite there
    spoilt = sorted(name for name, t in model.state_dict().items() if not t.isfinite().all())
    if spoilt:
        raise CheckpointError(
            f"Checkpoint {folder} has weights that are not numbers or infinite, in {_few(spoilt)}: "
            "its training diverged, or it was saved in a precision too small for it. Take another."
        )


def _few(names: Sequence[str]) -> str:
    """The first few names, and how many there are more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _of_part(
    weights: dict[str, Tensor], expected: Mapping[str, Tensor], *, alone: bool
) -> dict[str, Tensor]:
    """The weights of a model inside a larger one's checkpoint, under the model's own names.

    A tower `alone` may be saved with or without its own name in front ("text_model."), and a whole
    model has more in front ("clip.text_model.") and beside it.
    """
    first = next(iter(expected))
    for own in ("", first.partition(".")[0] + "."):
        bare = first.removeprefix(own)
        front = next((name.removesuffix(bare) for name in weights if name.endswith(bare)), None)
        if front is not None:
            found = {
                own + name.removeprefix(front): tensor
                for name, tensor in weights.items()
                if name.startswith(front)
            }
            return {k: v for k, v in found.items() if k in expected} if alone else found
    return weights


def save(model: nn.Module, config: Mapping[str, Any], folder: Path, dtype: torch.dtype) -> None:
    """Write `config.json` and `model.safetensors`, floating-point tensors as `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {"architectures": [type(model).__name__], **config}
    text = json.dumps(raw, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).detach().cpu().contiguous()
        for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / SAFETENSORS, metadata={"format": "pt"})
    (folder / SAFETENSORS).chmod((folder / CONFIG).stat().st_mode)  # written for its owner alone


def digest(folder: Path) -> str:
    """SHA-256 (hex) of everything in the folder that decides its masks."""
    total = hashlib.sha256()
    for name in dict.fromkeys((CONFIG, SAFETENSORS, PICKLED, *TEXT_FILES, *_of_weights(folder))):
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                part = hashlib.file_digest(file, "sha256").hexdigest()
            total.update(f"{name} {part}\n".encode())
    return total.hexdigest()
