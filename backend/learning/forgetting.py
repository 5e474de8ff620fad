"""What a version still knows of what nobody labeled: everyday phrases, asked before and after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.learning.everyday import phrases
from backend.learning.lessons import Lesson
from models import ImageFeatures, Segmenter

TAUGHT, ASKED = 800, 80  # phrases
# Agreement with the base checkpoint: what a version is moved back for, on the images that it was
# made with, and what it has to have on others. On scenes with new shapes, of which much is said
# differently for good reason, it was 0.78 when known phrases had lost 0.01 of their IoU, and 0.70
# at 0.05.
WANTED_KEPT, LEAST_KEPT = 0.75, 0.7
FOUND = 0.005  # of an image, from which the base finds something
IMAGES = 50  # that are asked of, at most
# Of the tuned weights, to try; the last tenth brought more forgetting than it taught.
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True, slots=True)
class Everyday:
    """Conditions of everyday phrases: what training holds on to, and others that tell if it did."""

    taught: Tensor  # (P, C)
    asked: Tensor  # (Q, C)

    @classmethod
    def of(cls, segmenter: Segmenter, prompts: Iterable[str], seed: int) -> Everyday:
        """Phrases that a model knows the words of, other than a project's own prompts."""
        said = phrases(TAUGHT + ASKED, segmenter.tokenizer.words(), prompts, seed)
        encoded = segmenter.encode_text(said).float().cpu().clone()
        return cls(encoded[:TAUGHT], encoded[TAUGHT:])


@dataclass(frozen=True, slots=True)
class Kept:
    """How like the base checkpoint a model answers everyday phrases."""

    agreement: float = 1.0  # mean IoU of their masks, where the base finds something
    answers: int = 0

    @classmethod
    def of(cls, scores: Sequence[float]) -> Kept:
        """The mean of IoUs."""
        return cls(float(np.mean(scores)), len(scores)) if scores else cls()


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What the base checkpoint finds in an image: K of the phrases that it was asked."""

    asked: Tensor  # conditions (K, C)
    masks: NDArray[np.uint8]  # (K, bytes): packed bits, since many images are held at a time

    @classmethod
    def of(cls, base: Segmenter, image: ImageFeatures, asked: Tensor, threshold: float) -> Known:
        """Ask conditions (Q, C); a pixel counts from that probability on."""
        found = _found(base, image, asked, threshold)
        there = found.mean(axis=1) >= FOUND
        return cls(asked[torch.from_numpy(there)], np.packbits(found[there], axis=1))

    def agreements(self, other: Segmenter, image: ImageFeatures, threshold: float) -> list[float]:
        """IoU of another model's masks with each of these; `image` is as that one encodes it."""
        if not len(self.asked):
            return []
        new = _found(other, image, self.asked, threshold)
        old = np.unpackbits(self.masks, axis=1, count=new.shape[1]).astype(bool)
        overlap: list[float] = ((old & new).sum(axis=1) / (old | new).sum(axis=1)).tolist()
        return overlap


def _found(
    segmenter: Segmenter, image: ImageFeatures, asked: Tensor, threshold: float
) -> NDArray[np.bool_]:
    """The pixels of each condition, asked by itself: (Q, pixels)."""
    marked = segmenter.each(image, asked) >= threshold
    found: NDArray[np.bool_] = marked.flatten(1).cpu().numpy()
    return found


def settled(
    base: Segmenter,
    parent: Segmenter,
    tuned: Mapping[str, Tensor],
    lessons: Sequence[Lesson],
    asked: Tensor,
    threshold: float,
) -> tuple[dict[str, Tensor], float]:
    """Weights between a parent's and the tuned ones, and the share of the tuned ones in them.

    The largest share is taken with which the base checkpoint's answers to everyday phrases are
    kept on the project's images. Models between two such are about as good as their answers' mean
    (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903).
    """
    own = parent.model.state_dict()
    images = [lesson.features(base) for lesson in lessons[:IMAGES]]
    known = [Known.of(base, image, asked, threshold) for image in images]
    for share in SHARES:
        weights = {
            name: own[name].float().cpu().lerp(tensor, share) for name, tensor in tuned.items()
        }
        mixed = base.with_decoder(weights)
        scores = [
            score
            for one, image in zip(known, images, strict=True)
            for score in one.agreements(mixed, image, threshold)
        ]
        if Kept.of(scores).agreement >= WANTED_KEPT:
            break
    return weights, share
