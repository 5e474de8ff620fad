"""Versions with their tensors: publish, read, and merge with the base checkpoint."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from backend.errors import VersionDamaged
from backend.learning.card import Card, Version
from backend.learning.versions import DIGITS, Versions
from models import checkpoint
from models.segmenter import load_model


class Registry(Versions):
    """All projects' versions in a folder, with their weights.

    Weights are a part of the model's parameters under the model's own names, such as
    "decoder.film_mul.weight"; what they lack is the base checkpoint's.
    """

    def publish(self, project: int, weights: Mapping[str, Tensor], card: Card) -> Version:
        """Keep weights as a candidate, in float32; it is there whole, or not at all.

        Raises:
            ValueError: there are no weights.
        """
        return self.keep(project, _packed(weights), card)

    @staticmethod
    def name(weights: Mapping[str, Tensor]) -> str:
        """What weights are called once they are published.

        Raises:
            ValueError: there are no weights.
        """
        return hashlib.sha256(_packed(weights)).hexdigest()[:DIGITS]

    def weights(self, version: Version) -> dict[str, Tensor]:
        """The weights, by the model's names.

        Raises:
            VersionDamaged: they are not those that were published.
        """
        content = self.content(version)
        try:
            return load(content)
        except SafetensorError as error:
            raise VersionDamaged(
                f"The weights of version {version.id} cannot be read: {error}"
            ) from error

    def merged(self, version: Version, base: Path, out: Path) -> None:
        """Write a checkpoint folder of the base with the version's weights in it, in float32.

        Raises:
            CheckpointError: the base cannot be read, or is not what the version was made for.
            VersionDamaged: the version's weights are not those that were published.
        """
        if checkpoint.digest(base) != version.card.base:
            raise checkpoint.CheckpointError(
                f"Version {version.id} was made for checkpoint {version.card.base[:8]}, and "
                f"{base} is {checkpoint.digest(base)[:8]}."
            )
        model = load_model(base)
        state = model.state_dict()
        model.load_state_dict({**state, **self.weights(version)})
        model.save_pretrained(out)
        for name in checkpoint.TEXT_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, out / name)


def _packed(weights: Mapping[str, Tensor]) -> bytes:
    """The file of weights, in float32.

    Raises:
        ValueError: there are none.
    """
    if not weights:
        raise ValueError("A version needs weights.")
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    return save(tensors, metadata={"format": "pt"})
