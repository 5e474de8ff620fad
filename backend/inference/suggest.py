"""Which phrases find what a label means, measured where it is known where the label is.

Phrases are tried in rounds: what a label might be called, then the best with attributes, then the
best in other words. All are tried on a few images, the better ones on all. Images are encoded once,
and so are phrases; a phrase costs one pass of the decoder on each image.

A further word may help by chance, on a few images that happen to have it. So of the phrases that
are short of the best by next to nothing, the shortest is taken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.errors import NothingToGoBy
from backend.inference.masks import SPECK, shrunk
from backend.inference.phrasing import Candidate, Source, compositions, distinct, plain, worded
from backend.inference.vocabulary import Vocabulary
from models import ImageFeatures, Segmenter

MOST_PRESENT, MOST_ABSENT = 32, 16  # images that are looked at
# What all images without the label weigh beside those with it. If they weigh much, the best phrase
# is one that finds little anywhere; if nothing, "red" is as good as "red star" where all else that
# is red happens to be missing. Of the weights tried, this lost least on other images.
ABSENT = 0.1
FIRST = 5  # images that every phrase is tried on
KEPT = 0.25  # of the phrases are tried on all images
LEAST_KEPT = 24  # phrases, if there are as many
COMPOSED = 2  # times that attributes are added
BEST = 3  # phrases that are put in other words
# Of mean IoU, by which phrases that do as well are short of the best at most. The standard error of
# the difference, within bounds, was no better with any number of masks (benchmarks/RESULTS.md).
AS_WELL = 0.02

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """An image of which it is known where a label is: (H, W), nowhere where it is absent."""

    features: ImageFeatures
    mask: Mask


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A phrase with its proof."""

    text: str
    source: Source
    iou: float  # mean; where the label is not, and something is found, it is 0 and weighs less
    images: int  # where the label is
    alarms: int  # images where it is not and the phrase finds something
    absent: int  # images where it is not


def suggest(
    segmenter: Segmenter,
    label: str,
    evidence: Sequence[Evidence],
    vocabulary: Vocabulary,
    *,
    prompts: Sequence[str] = (),
    typed: Sequence[str] = (),
    threshold: float,
    until: float = inf,
) -> list[Suggestion]:
    """Phrases for a label, best first; its own prompts and name are always among them.

    Args:
        segmenter: The model as it is served to the project.
        label: Its value.
        evidence: Where it is; the first `MOST_PRESENT` images that have it count, and the first
            `MOST_ABSENT` others.
        vocabulary: Words to try.
        prompts: What it is asked with now.
        typed: What annotators typed for it.
        threshold: From which probability on a pixel counts.
        until: When (monotonic) no further round of phrases begins.

    Raises:
        NothingToGoBy: the label is on none of the images.
    """
    present = [one for one in evidence if one.mask.any()][:MOST_PRESENT]
    absent = [one for one in evidence if not one.mask.any()][:MOST_ABSENT]
    if not present:
        raise NothingToGoBy(
            f'Nothing tells where "{label}" is: accept an annotation of it, or show an exemplar.'
        )
    trial = _Trial(segmenter, [*present, *absent], len(present), threshold)
    trial.take(plain(label, prompts, typed, vocabulary))
    for _ in range(COMPOSED):
        if time.monotonic() < until:
            trial.take(compositions(label, trial.best(), vocabulary))
    if time.monotonic() < until:
        trial.take(worded(trial.best()[:BEST]))
    return trial.suggestions()


class _Trial:
    """Phrases on images; each keeps its IoU on each, NaN where nothing is and nothing is found."""

    def __init__(
        self, segmenter: Segmenter, evidence: Sequence[Evidence], present: int, threshold: float
    ) -> None:
        """`evidence` begins with as many images where the label is."""
        self._segmenter = segmenter
        self._evidence = evidence
        self._present = present
        self._threshold = threshold
        absent = len(evidence) - present
        weight = absent_weight(present, absent, ABSENT)
        self._weights = torch.tensor([1.0] * present + [weight] * absent)  # (E,)
        self._seen: set[str] = set()  # phrases tried, in lower case
        self._scores: dict[Candidate, Tensor] = {}  # (E,) of those that went through all

    def take(self, phrases: Sequence[Candidate]) -> None:
        """Try phrases that were not tried before; the label's own go through all images."""
        new = [one for one in distinct(phrases) if one.text.casefold() not in self._seen]
        self._seen |= {one.text.casefold() for one in new}
        rows = conditions(self._segmenter, new)
        new = list(rows)
        if not new:
            return
        first = min(FIRST, self._present)
        scores = self._judge(torch.stack(list(rows.values())), slice(first))
        count = max(LEAST_KEPT, round(KEPT * len(new)))
        order = _means(scores, self._weights[:first]).argsort(descending=True, stable=True)
        passed = set(order[:count].tolist())
        passed |= {i for i, one in enumerate(new) if one.source in {Source.PROMPT, Source.NAME}}
        kept = sorted(passed)
        rest = self._judge(torch.stack([rows[new[i]] for i in kept]), slice(first, None))
        for i, more in zip(kept, rest, strict=True):
            self._scores[new[i]] = torch.cat([scores[i], more])

    def best(self) -> list[Candidate]:
        """Phrases that went through all, best first; those that do as well by their length."""
        phrases = list(self._scores)
        if not phrases:
            return []
        scores = torch.stack(list(self._scores.values()))
        means = _means(scores, self._weights).tolist()
        short = [0 if tied else 1 for tied in as_well(scores, self._weights).tolist()]

        def rank(i: int) -> tuple[int, int, float]:
            return short[i], 0 if short[i] else len(phrases[i].text.split()), -means[i]

        return [phrases[i] for i in sorted(range(len(phrases)), key=rank)]

    def suggestions(self) -> list[Suggestion]:
        """What was found of each, best first."""
        found = []
        for phrase in self.best():
            scores = self._scores[phrase]
            alarms = int((~scores[self._present :].isnan()).sum())
            absent = len(self._evidence) - self._present
            iou = float(_means(scores[None], self._weights)[0])
            found.append(Suggestion(phrase.text, phrase.source, iou, self._present, alarms, absent))
        return found

    def _judge(self, rows: Tensor, which: slice) -> Tensor:
        """IoU of conditions (N, C) on some of the images: (N, E)."""
        columns = [
            iou(marked(self._segmenter, one.features, rows, self._threshold), one.mask)
            for one in self._evidence[which]
        ]
        return torch.stack(columns, dim=1) if columns else rows.new_empty(len(rows), 0).cpu()


def conditions(segmenter: Segmenter, phrases: Sequence[Candidate]) -> dict[Candidate, Tensor]:
    """The condition (C,) of each phrase that the model can read."""
    reads = segmenter.reads([phrase.text for phrase in phrases])
    read = [phrase for phrase, can in zip(phrases, reads, strict=True) if can]
    return dict(zip(read, segmenter.encode_text([phrase.text for phrase in read]), strict=True))


def marked(segmenter: Segmenter, features: ImageFeatures, rows: Tensor, threshold: float) -> Tensor:
    """What each condition (N, C) finds by itself, at the model's resolution: bool (N, h, w).

    Specks are nothing, as in what is served.
    """
    found = segmenter.each(features, rows) >= threshold
    enough = found.flatten(1).sum(dim=1) >= SPECK * found[0].numel()
    return (found & enough[:, None, None]).cpu()


def iou(found: Tensor, mask: Mask) -> Tensor:
    """Of masks (N, h, w) with the truth (H, W), both at the smaller size: (N,), NaN of nothing."""
    there = torch.from_numpy(shrunk(mask, (found.shape[1], found.shape[2])))
    both = (found & there).flatten(1).sum(dim=1)
    either = (found | there).flatten(1).sum(dim=1)
    return both / either  # 0 / 0 is NaN


def absent_weight(present: int, absent: int, share: float) -> float:
    """What an image without a label weighs beside one with it: all of them `share` of the others.

    None weighs more than one with the label, however few they are.
    """
    return min(1.0, share * present / max(1, absent))


def _means(scores: Tensor, weights: Tensor) -> Tensor:
    """(N, E) and images' weights (E,) -> (N,), of what is there: NaN counts nothing."""
    counted = weights * ~scores.isnan()
    return (counted * scores.nan_to_num(0.0)).sum(dim=1) / counted.sum(dim=1).clamp(min=1e-9)


def as_well(scores: Tensor, weights: Tensor) -> Tensor:
    """Which phrases do as well as the best, by IoU (N, E) and images' weights (E,): bool (N,)."""
    means = _means(scores, weights)
    return means.max() - means <= AS_WELL
