"""What is trained of a model, apart from it: a copy that reads what the rest has encoded.

Of a CLIPSeg that is the decoder without its `reduces`, of a GroupViT the projection that compares
groups with texts. So what is cached of an image holds for all versions, and so do conditions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from models import CLIPSegForImageSegmentation, Segmenter
from models.engines import Windows, background_of, gathered, shared_out
from models.groupvit import GroupViTModel
from models.towers import unit

FROZEN = "reduces."
SURE = 1e-4  # what a probability keeps from 0 and 1, so that its logit is a number


class Pupil(Protocol):
    """A part of a model."""

    trained: dict[str, Tensor]  # by the model's names

    def logits(
        self, parts: Sequence[Tensor], asked: Tensor, grid: tuple[int, int], windows: Windows
    ) -> Tensor:
        """Features of B images and conditions (B, C) -> (B, h', w'); either B may be 1."""


def pupil_of(segmenter: Segmenter) -> Pupil:
    """A copy, in float32, of what is trained of a model."""
    if isinstance(segmenter.model, CLIPSegForImageSegmentation):
        return CLIPSegPupil(segmenter.model)
    return GroupViTPupil(segmenter.model)


class CLIPSegPupil:
    """The decoder."""

    def __init__(self, model: CLIPSegForImageSegmentation) -> None:
        self._decoder = copy.deepcopy(model.decoder).float()
        self.trained: dict[str, Tensor] = {
            f"decoder.{name}": parameter.requires_grad_(True)
            for name, parameter in self._decoder.named_parameters()
            if not name.startswith(FROZEN)
        }

    def logits(
        self, parts: Sequence[Tensor], asked: Tensor, grid: tuple[int, int], windows: Windows
    ) -> Tensor:
        """(B, 1, T, R) each and (B, C) -> (B, H, W)."""
        reduced = [part.flatten(0, 1) for part in parts]
        logits: Tensor = self._decoder(reduced, asked, grid)
        return logits


class GroupViTPupil:
    """The visual projection; a label competes with the background alone."""

    def __init__(self, model: GroupViTModel) -> None:
        self._projection = copy.deepcopy(model.visual_projection).float().eval()
        self._scale = model.logit_scale.detach().float()
        self._background = background_of(model)
        self.trained: dict[str, Tensor] = {
            f"visual_projection.{name}": parameter.requires_grad_(True)
            for name, parameter in self._projection.named_parameters()
        }

    def logits(
        self, parts: Sequence[Tensor], asked: Tensor, grid: tuple[int, int], windows: Windows
    ) -> Tensor:
        """Groups (B, W, G, D), maps (B, W, G, h, w) and (B, C) -> (B, h', w')."""
        groups, maps = parts
        embeds = unit(self._projection(groups.flatten(0, 2))).view(*groups.shape[:3], -1)
        cosines = (embeds * unit(asked)[:, None, None]).sum(dim=-1, keepdim=True)
        shares = shared_out(cosines, self._scale, self._background)
        patches = (shares[..., None] * maps).sum(dim=2).transpose(0, 1)  # (W, B, h, w)
        return gathered(patches, grid, windows).clamp(SURE, 1 - SURE).logit()
