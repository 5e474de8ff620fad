"""Which phrases name something in an image, where nothing is known but the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from backend.inference.phrasing import Candidate, Source, distinct, joined
from backend.inference.suggest import conditions
from models import Exemplar, ImageFeatures, Segmenter

MOST_ASKED = 200  # words of a vocabulary that get a mask: those most like the image
NOUNS, ADJECTIVES = 10, 5  # the surest, which are put together
PEAK = 0.002  # of the image's pixels: where a phrase is surest, it is judged
LIKENESS = 0.6  # logits that a standard deviation of the similarity to the whole image is worth
WORD = 1.0  # logits: what each further word of a phrase has to be worth
SAME = 0.8  # IoU from which two phrases mean the same
PIXELS = 8192  # that are compared at a time: as floats, masks take four times their memory


@dataclass(frozen=True, slots=True)
class Sighting:
    """A phrase that something in an image answers to."""

    text: str
    source: Source
    confidence: float  # probability where the phrase is surest
    similarity: float  # cosine of phrase and whole image
    share: float  # of the image that its mask has


def look(
    segmenter: Segmenter,
    image: Image.Image,
    features: ImageFeatures,
    phrases: Sequence[Candidate],
    *,
    threshold: float,
) -> list[Sighting]:
    """What is in an image: the best phrase for each mask, surest first; what has none is not there.

    A phrase is judged by how sure the model is of it, and by how similar it is to the whole image.
    Labels of a model whose labels compete do so here. Of attributes and things among the phrases
    the surest are put together too.
    """
    shown = segmenter.encode_exemplar(Exemplar(image))[0]
    sight = _Sight(segmenter, features, shown, threshold)
    sight.take(phrases)
    best = sight.best()
    nouns = [one.text for one in best if not one.is_adjective][:NOUNS]
    adjectives = [one.text for one in best if one.is_adjective][:ADJECTIVES]
    sight.take([Candidate(joined(a, n), Source.COMPOSITION) for a in adjectives for n in nouns])
    return sight.sightings()


class _Sight:
    """Phrases asked of one image."""

    def __init__(
        self, segmenter: Segmenter, features: ImageFeatures, shown: Tensor, threshold: float
    ) -> None:
        """`shown` is the condition, (C,), that the whole image gives."""
        self._segmenter = segmenter
        self._features = features
        self._shown = shown
        self._threshold = threshold
        self._phrases: list[Candidate] = []
        self._peaks = torch.empty(0)  # (N,) logits
        self._similarities = torch.empty(0)
        self._masks = torch.empty(0, 0, 0, dtype=torch.bool)  # (N, h, w)

    def take(self, phrases: Sequence[Candidate]) -> None:
        """Ask for more; of many, for those most similar to the image."""
        rows = conditions(self._segmenter, distinct(phrases))
        if not rows:
            return
        stacked = torch.stack(list(rows.values()))
        likeness = torch.cosine_similarity(stacked, self._shown[None], dim=1)
        nearest = likeness.topk(min(MOST_ASKED, len(rows))).indices.sort().values
        found = self._segmenter.probabilities(self._features, stacked[nearest]).float().cpu()
        flat = found.flatten(1)
        top = flat.topk(max(1, round(PEAK * flat.shape[1])), dim=1).values
        peaks = torch.logit(top, eps=1e-6).mean(dim=1)
        masks = found >= self._threshold
        self._phrases += [list(rows)[i] for i in nearest.tolist()]
        self._peaks = torch.cat([self._peaks, peaks])
        self._similarities = torch.cat([self._similarities, likeness[nearest].float().cpu()])
        self._masks = torch.cat([self._masks.reshape(-1, *masks.shape[1:]), masks])

    def best(self) -> list[Candidate]:
        """Everything asked, surest first."""
        return [self._phrases[i] for i in self._order()]

    def sightings(self) -> list[Sighting]:
        """What has a mask, one phrase for each, surest first."""
        flat = self._masks.flatten(1)
        shared = torch.zeros(len(flat), len(flat))  # pixels; whole numbers, so exact
        for start in range(0, flat.shape[1], PIXELS):
            part = flat[:, start : start + PIXELS].float()
            shared += part @ part.T
        area = shared.diagonal()
        same = shared >= SAME * (area[:, None] + area - shared)
        found: list[Sighting] = []
        told: list[int] = []
        for index in self._order():
            if not area[index] or same[index, told].any():
                continue
            told.append(index)
            phrase = self._phrases[index]
            found.append(
                Sighting(
                    phrase.text,
                    phrase.source,
                    float(self._peaks[index].sigmoid()),
                    float(self._similarities[index]),
                    float(area[index]) / flat.shape[1],
                )
            )
        return found

    def _order(self) -> list[int]:
        if not self._phrases:
            return []
        spread = self._similarities.std(unbiased=False).clamp(min=1e-6)
        likeness = (self._similarities - self._similarities.mean()) / spread
        lengths = torch.tensor([len(phrase.text.split()) for phrase in self._phrases])
        sure = self._peaks + LIKENESS * likeness - WORD * lengths
        return [int(i) for i in sure.argsort(descending=True, stable=True)]
