"""What the demo checkpoints are trained to do, as numbers to make small."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.sampling import ANYTHING, TRAITS

LARGEST_SCALE = 4.6052  # ln 100, as CLIP was trained
LEAST_SHARE = 1e-5


class Helpers(nn.Module):
    """Heads that name the traits of patches and of conditions, in training only."""

    def __init__(self, width: int, joint: int) -> None:
        super().__init__()
        self.patches = nn.ModuleList(nn.Linear(width, 1 + len(names)) for names in TRAITS)
        self.conditions = nn.ModuleList(nn.Linear(joint, len(names)) for names in TRAITS)

    def naming_loss(self, activation: Tensor, patches: Tensor) -> Tensor:
        """Cross entropy of the traits (B, 3, h, w) from an activation (B, h*w, D)."""
        cells = activation.flatten(0, 1)
        losses = [
            F.cross_entropy(head(cells).float(), patches[:, i].flatten(), ignore_index=ANYTHING)
            for i, head in enumerate(self.patches)
        ]
        return torch.stack(losses).mean()

    def speaking_loss(self, conditions: Tensor, traits: Tensor) -> Tensor:
        """Cross entropy of the traits (R, 3) from conditions (R, C)."""
        losses = [
            F.cross_entropy(head(conditions).float(), traits[:, i], ignore_index=ANYTHING)
            for i, head in enumerate(self.conditions)
            if (traits[:, i] >= 0).any()
        ]
        return torch.stack(losses).mean()


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy per pixel, and dice where there is something to find; both (R, H, W)."""
    pixels = F.binary_cross_entropy_with_logits(logits, targets)
    return 2 * pixels + _dice(logits.sigmoid(), targets)


def share_loss(shares: Tensor, targets: Tensor) -> Tensor:
    """The same where labels compete: shares of each pixel and its label, both (B, N, H, W).

    What the shares leave of one is the background's.
    """
    sums = [(1 - x.sum(dim=1, keepdim=True)).clamp(min=0) for x in (shares, targets)]
    said, right = (torch.cat(pair, dim=1) for pair in zip((shares, targets), sums, strict=True))
    pixels = -(right * said.clamp(min=LEAST_SHARE).log()).sum(dim=1).mean()
    return pixels + _dice(shares.flatten(0, 1), targets.flatten(0, 1))


def gathering_loss(maps: Tensor, things: Tensor) -> Tensor:
    """Cross entropy of the groups' maps and what each is to gather, both (B, G, h, w)."""
    return -(things * maps.clamp(min=LEAST_SHARE).log()).sum(dim=1).mean()


def _dice(guess: Tensor, targets: Tensor) -> Tensor:
    """One less twice the part in common, where there is something to find; both (R, H, W)."""
    size = targets.sum(dim=(1, 2))
    shared = (guess * targets).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / (guess.sum(dim=(1, 2)) + size + 1)
    return dice[size > 0].mean()


def contrast_loss(shown: Tensor, said: Tensor, scale: Tensor, traits: Tensor) -> Tensor:
    """CLIP's loss between exemplars and their descriptions (E, C); equal looks are no rivals.

    Of a batch without any, it is 0.
    """
    if not len(shown):
        return shown.sum()
    scale = scale.clamp(max=LARGEST_SCALE).exp()
    similarity = scale * F.normalize(shown, dim=1) @ F.normalize(said, dim=1).T
    same = (traits[:, None] == traits[None]).all(dim=2)
    same.fill_diagonal_(False)
    similarity = similarity.masked_fill(same, -1e4)
    right = torch.arange(len(shown))
    return (F.cross_entropy(similarity, right) + F.cross_entropy(similarity.T, right)) / 2


def overlap(guess: Tensor, truth: Tensor) -> float:
    """Mean IoU of boolean masks (R, H, W), where there is something to find."""
    there = truth.flatten(1).any(dim=1)
    guess, truth = guess[there].flatten(1), truth[there].flatten(1)
    return ((guess & truth).sum(1) / (guess | truth).sum(1)).mean().item()
