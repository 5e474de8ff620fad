"""What a wrong mask costs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FOUND = 0.5  # a target with no pixel above is nothing
# Where nothing is to be found, a mask of few pixels hardly shows in the mean over all of them, and
# is one to be removed nevertheless: so the worst of them cost something by themselves. Twice as
# much took a tenth more of what was wrongly found away, and as much of what was known before.
WORST = 0.01  # of the pixels
WRONG = 0.25


def mask_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy per pixel, and dice where there is something to find: (R, H, W) -> (R,).

    Where there is nothing, the cross entropy of the worst pixels counts beside that of all.

    Args:
        logits: Of each pixel.
        targets: What it should be, in [0, 1].
        weights: What it counts; dice counts as the least of them does.
    """
    pixels = F.binary_cross_entropy_with_logits(logits, targets, weights, reduction="none")
    guess = logits.sigmoid()
    shared, size = (guess * targets).sum(dim=(1, 2)), (guess + targets).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / (size + 1)
    most, each = targets.flatten(1).amax(dim=1), pixels.flatten(1)
    worst = each.topk(max(1, round(WORST * each.shape[1])), dim=1).values.mean(dim=1)
    shape = dice * (most > FOUND) * weights.flatten(1).amin(dim=1)
    return 2 * each.mean(dim=1) + shape + WRONG * worst * (most == 0)
