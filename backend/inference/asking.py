"""What an image is asked with for a label: one condition, or the best of several for that image.

How much exemplars are worth beside words differs from image to image: a thing of another colour
than those that were shown is found by words alone, and a name that means nothing finds at least
something by chance. The model's own probabilities tell which of several answers is likely to be
right: where they are low inside a mask, or high outside, its IoU with the truth is low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Self

import torch
from torch import Tensor

from backend.inference.masks import SPECK

# That nothing is found is what a poor condition says of every image, so that counts for less than
# it claims. Of the values tried, this marks no more where nothing is than one condition did.
NOTHING = 0.75
# By how much, in IoU, exemplars in other colours have to promise more than as they are. With 0.05
# instead of 0.1 or 0.15, one mask finds the most of what comes in any colour (0.335, 0.298, 0.266),
# and things of its own look as well to within 0.01.
RECOLOURED = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class Asking:
    """Conditions of which the one counts whose answer is expected to be the best."""

    conditions: Tensor  # (K, C)
    handicaps: tuple[float, ...]  # (K,), in IoU: by how much an answer has to be better

    @classmethod
    def only(cls, condition: Tensor) -> Self:
        """Ask with one condition, (C,)."""
        return cls(condition[None], (0.0,))

    @classmethod
    def mixed(
        cls,
        said: Tensor,
        shown: Tensor,
        weights: Sequence[tuple[float, float]],
        recoloured: Tensor | None = None,
    ) -> Self:
        """Ask with texts and exemplars, in each of some mixtures.

        Args:
            said: The texts' condition, (C,).
            shown: The exemplars', (C,).
            weights: The exemplars' shares, each with its handicap.
            recoloured: The exemplars' condition in other colours, (C,), if it is to be asked with.
        """
        shares, handicaps = zip(*weights, strict=True)
        rows = [torch.lerp(said, shown, share) for share in shares]
        if recoloured is not None:
            share, least = min(weights, key=itemgetter(1))
            rows.append(torch.lerp(said, recoloured, share))
            handicaps = (*handicaps, least + RECOLOURED)
        return cls(torch.stack(rows), handicaps)

    @property
    def likeliest(self) -> Tensor:
        """The condition (C,) to ask with where no image tells."""
        return self.conditions[self.handicaps.index(min(self.handicaps))]

    def best(self, probabilities: Tensor, thresholds: Tensor) -> Tensor:
        """Which condition counts, by threshold: (K, h, w) and (T,) -> (T,)."""
        worth = expected_iou(probabilities, thresholds)
        return (worth - torch.tensor(self.handicaps)[:, None]).argmax(dim=0)

    def choice(self, probabilities: Tensor, threshold: float) -> int:
        """The same at one threshold."""
        if len(self.conditions) == 1:
            return 0
        return int(self.best(probabilities, torch.tensor([threshold])))


def expected_iou(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """The IoU that masks should have if probabilities are right: (K, h, w) and (T,) -> (K, T).

    Expected pixels of the intersection over those of the union, each pixel by itself. Where nothing
    reaches a threshold, or a speck, it is the chance that nothing is there, as far as that counts.
    """
    rows = probabilities.flatten(1).float().cpu()
    inside = rows[:, None] >= thresholds[:, None]  # (K, T, P)
    area = inside.sum(dim=2)
    hit = (rows[:, None] * inside).sum(dim=2)
    missed = rows.sum(dim=1, keepdim=True) - hit
    nothing = NOTHING * (1 - rows.amax(dim=1, keepdim=True))
    return torch.where(area < SPECK * rows.shape[1], nothing, hit / (area + missed).clamp(min=1))
