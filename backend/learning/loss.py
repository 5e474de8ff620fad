"""What a wrong mask costs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FOUND = 0.5  # a target with no pixel above is nothing


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy per pixel, and dice where there is something to find: (R, H, W) -> (R,).

    Args:
        logits: Of each pixel.
        targets: What it should be, in [0, 1].
        weights: What it counts; dice counts as the least of them does.
    """
    pixels = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none")
    guess = logits.sigmoid()
    shared, size = (guess * targets).sum(dim=(1, 2)), (guess + targets).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / (size + 1)
    there = targets.flatten(1).amax(dim=1) > FOUND
    return 2 * pixels.mean(dim=(1, 2)) + dice * there * weights.flatten(1).amin(dim=1)
