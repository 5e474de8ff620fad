"""Images and queries in, scored masks out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from backend.errors import BadPrompt
from backend.inference.asking import Asking
from backend.inference.features import FeatureCache
from backend.inference.masks import clean, parts
from backend.inference.probe import Probe, describe
from backend.inference.scores import ABSENT
from backend.prompting import Query
from models import Exemplar, ImageFeatures, Segmenter
from models.engines import PROMPTS_PER_PASS
from models.segmenter import marked

log = logging.getLogger(__name__)

TOGETHER = 8 * PROMPTS_PER_PASS  # conditions whose probabilities are computed before any is used


@dataclass(frozen=True, slots=True)
class Found:
    """A query's answer on one image."""

    query: Query
    mask: NDArray[np.bool_] | None  # (H, W) as displayed; None where nothing was found
    score: float  # how likely the mask is, in the mean; the likeliest pixel where there is none

    @property
    def certainty(self) -> float:
        """How sure the model is of its answer, found or not, in [0, 1].

        Doubts about what was not found weigh less: most images without a mask lack the label, and
        teach no mask.
        """
        return self.score if self.mask is not None else 1.0 - ABSENT * self.score


class Predictor:
    """A segmenter with the features of the images it saw last.

    Segmenters that encode alike share a cache; `encoder` names one that does not, and keeps its
    features apart.
    """

    def __init__(self, segmenter: Segmenter, features: FeatureCache, encoder: str = "") -> None:
        self.segmenter = segmenter
        self.encoder = encoder
        self._features = features

    @classmethod
    def tuned(
        cls, base: Segmenter, weights: Mapping[str, Tensor], version: str, features: FeatureCache
    ) -> Self:
        """A version's weights on the base checkpoint that `features` are of.

        Raises:
            ValueError: the weights do not fit.
        """
        segmenter = base.with_decoder(weights)
        return cls(segmenter, features, "" if segmenter.encodes_like(base) else f"{version} ")

    def encode(self, images: Sequence[tuple[str, Image.Image]]) -> list[ImageFeatures]:
        """Features of (digest, image) pairs, encoding those not seen before in one batch."""
        known: dict[str, ImageFeatures] = {}
        new: dict[str, Image.Image] = {}
        for digest, image in images:
            features = self._features.get(self.encoder + digest)
            if features is None:
                new[digest] = image
            else:
                known[digest] = features
        encoded = self.segmenter.encode_image(list(new.values()))
        for digest, features in zip(new, encoded, strict=True):
            self._features.put(self.encoder + digest, features)
            known[digest] = features
        return [known[digest] for digest, _ in images]

    def describe(self, features: ImageFeatures) -> NDArray[np.float32]:
        """What an image looks like all in all, (D,): the mean of its deepest features."""
        deepest = features.parts[0].float().flatten(0, -2)
        described: NDArray[np.float32] = deepest.mean(dim=0).cpu().numpy()
        return described

    def condition(
        self,
        prompts: Sequence[str],
        exemplars: Sequence[Exemplar] | Tensor = (),
        weight: float = 0.5,
    ) -> Tensor:
        """One condition (C,) for a label, of its prompts and of exemplars with that weight.

        Raises:
            BadPrompt: a prompt is empty or longer than the model reads.
        """
        try:
            return self.segmenter.condition(prompts, exemplars, weight)
        except ValueError as error:
            raise BadPrompt(str(error)) from error

    def asking(self, query: Query) -> Asking:
        """What to ask for a query: its prompts, mixed with what its exemplars show.

        Raises:
            BadPrompt: a prompt, or what the label is not, is empty or longer than the model reads.
        """
        if query.negatives:
            self.condition(query.negatives)
        if query.shown is None:
            return Asking.only(self.condition(query.prompts))
        shown = self._of_exemplars(query.shown)
        said = self.condition(query.prompts) if query.prompts else shown
        other = query.shown_recoloured
        recoloured = None if other is None else self._of_exemplars(other)
        return Asking.mixed(said, shown, query.weights, recoloured)

    def _of_exemplars(self, shown: NDArray[np.float32]) -> Tensor:
        return self.condition((), torch.from_numpy(shown)[None])

    def askings(self, asked: Sequence[Query]) -> tuple[dict[Query, Asking], dict[str, str]]:
        """What to ask for each query that can be asked; why others cannot, by label.

        Of a query that can be asked in part, the rest is left out; it is told, too.

        Raises:
            BadPrompt: none can be.
        """
        askings: dict[Query, Asking] = {}
        refused: dict[str, str] = {}
        for query in asked:
            try:
                askings[query] = self.asking(query)
            except BadPrompt as error:
                refused[query.label] = str(error)
                rest = self.readable(query)
                with suppress(BadPrompt):  # nothing is left of it
                    askings[rest] = self.asking(rest)
                left = "a part of label" if rest in askings else "label"
                log.warning("%s %r is left out: %s", left, query.label, error)
        if refused and not askings:
            raise BadPrompt(next(iter(refused.values())))
        return askings, refused

    def readable(self, query: Query) -> Query:
        """A query without what the model cannot be asked with.

        That is texts that are empty or longer than it reads, and exemplars that another checkpoint
        was shown. As it is where nothing would be left to ask with.
        """
        prompts, negatives = self._read(query.prompts), self._read(query.negatives)
        rest = replace(query, prompts=prompts, negatives=negatives)
        if query.shown is not None:
            try:
                self._of_exemplars(query.shown)
            except BadPrompt:
                rest = rest.without_exemplars()
        return rest if prompts or rest.shown is not None else query

    def _read(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        reads = self.segmenter.reads(texts)
        return tuple(text for text, can in zip(texts, reads, strict=True) if can)

    def settled(self, features: ImageFeatures, asking: Asking, threshold: float) -> Tensor:
        """The condition (C,) that counts on an image."""
        if len(asking.conditions) == 1:
            return asking.conditions[0]
        answers = self.segmenter.each(features, asking.conditions)
        return asking.conditions[asking.choice(answers, threshold)]

    def closest(self, phrase: str, labels: Sequence[Query]) -> Query:
        """The query whose prompts mean most nearly what `phrase` does (cosine of conditions).

        Raises:
            BadPrompt: the phrase is empty or longer than the model reads, or so are all prompts.
        """
        asked = self.condition([phrase])
        reads = [all(self.segmenter.reads(query.prompts)) for query in labels]
        known = [query for query, can in zip(labels, reads, strict=True) if can] or labels
        likeness = [
            torch.cosine_similarity(asked, self.condition(query.prompts), dim=0) for query in known
        ]
        return known[int(torch.stack(likeness).argmax())]

    def find(self, features: ImageFeatures, asked: Mapping[Query, Asking]) -> list[Found]:
        """The answer to every query on one image.

        Equal conditions are asked once: labels that mean the same do not compete.

        Raises:
            BadPrompt: what a query is not is empty or longer than the model reads.
        """
        return list(self.finding(features, asked))

    def finding(self, features: ImageFeatures, asked: Mapping[Query, Asking]) -> Iterator[Found]:
        """What `find` gives, one by one: of a large image a hundred masks fill the memory."""
        if not asked:
            return
        unwanted = list(dict.fromkeys(text for query in asked for text in query.negatives))
        askings = list(asked.values())
        if self.segmenter.competes:  # no more than what is asked may be there to win a pixel
            askings = [
                Asking.only(self.settled(features, asking, query.threshold))
                for query, asking in asked.items()
            ]
        texts = [Asking.only(self.condition([text])) for text in unwanted]
        told = self._answers(features, [*texts, *askings])
        unlikely = {text: answer[0] for text, answer in zip(unwanted, told, strict=False)}
        beside = _chosen(asked, askings, told)
        likely: Iterable[tuple[Tensor, Tensor]] = ((one, one) for one in beside)
        if unwanted and self.segmenter.competes:  # what one label is not is no rival of the others
            alone = _chosen(asked, askings, self._answers(features, askings))
            likely = zip(alone, beside, strict=True)
        patches = None
        if any(query.probe is not None for query in asked):
            patches = self.segmenter.patches(features)
        yield from _apart(
            scored(query, one, features.size, patches)
            for query, one in zip(asked, resolved(list(asked), likely, unlikely), strict=True)
        )

    def _answers(self, features: ImageFeatures, askings: Sequence[Asking]) -> Iterator[Tensor]:
        """Probabilities of each one's conditions, (K, h, w), one by one, but equal ones asked once.

        They are decoded in groups, in the order in which they are needed, and held until they are
        needed no more: those of a thousand labels would fill gigabytes.
        """
        given = [one.conditions.to(self.segmenter.device, self.segmenter.dtype) for one in askings]
        rows, inverse = torch.unique(torch.cat(given), dim=0, return_inverse=True)
        places = [one.tolist() for one in torch.split(inverse, [*map(len, given)])]
        last = {place: index for index, some in enumerate(places) for place in some}
        groups = self._groups(len(rows), dict.fromkeys(inverse.tolist()))
        held: dict[int, Tensor] = {}
        for index, some in enumerate(places):
            while not held.keys() >= {*some}:
                group = next(groups)
                decoded = self.segmenter.probabilities(features, rows[group]).cpu()
                held |= zip(group, decoded, strict=True)
            yield torch.stack([held[place] for place in some])
            for place in {place for place in some if last[place] == index}:
                del held[place]

    def _groups(self, count: int, needed: Iterable[int]) -> Iterator[list[int]]:
        """Rows that are decoded together; rivals are so all.

        The last bits of an answer hang on how many rows a pass of the decoder has. The last rows,
        too few for a pass, are one of their own, whatever the order is in which rows are needed.
        """
        if self.segmenter.competes:
            yield [*range(count)]
            return
        whole = count - count % PROMPTS_PER_PASS
        if whole < count:
            yield [*range(whole, count)]
        order = [place for place in needed if place < whole]
        for start in range(0, whole, TOGETHER):
            yield order[start : start + TOGETHER]


def _chosen(
    asked: Iterable[Query], askings: Sequence[Asking], answers: Iterator[Tensor]
) -> Iterator[Tensor]:
    """Of the answers (K, h, w) to each query the one that counts, (h, w)."""
    for query, asking, answer in zip(asked, askings, answers, strict=True):
        yield answer[asking.choice(answer, query.threshold)]


def resolved(
    asked: Sequence[Query], answers: Iterable[tuple[Tensor, Tensor]], unlikely: Mapping[str, Tensor]
) -> Iterator[Tensor]:
    """Probabilities (h, w) of queries, 0 where what they are not, or a rival, has a higher one.

    Args:
        asked: The queries.
        answers: The probabilities (h, w) of each, and the same as they were asked together with
            what queries are not.
        unlikely: The probabilities, (h, w), of that.
    """
    if any(query.contest for query in asked):
        answers = _contested(asked, [*answers])
    for query, (likely, beside) in zip(asked, answers, strict=True):
        for text in query.negatives:
            likely = likely.masked_fill(unlikely[text] > beside, 0.0)
        yield likely


def _contested(
    asked: Sequence[Query], answers: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[Tensor, Tensor]]:
    """Answers without what a rival has; of rivals that are as likely the first has the pixel."""
    left = [*answers]
    for contest in {query.contest for query in asked} - {""}:
        rivals = [i for i, query in enumerate(asked) if query.contest == contest]
        winner = torch.stack([answers[i][0] for i in rivals]).argmax(dim=0)
        for place, index in enumerate(rivals):
            likely, beside = answers[index]
            left[index] = likely.masked_fill(winner != place, 0.0), beside
    return left


def _apart(found: Iterable[Found]) -> Iterator[Found]:
    """Answers without the pixels along edges that rivals share once they are enlarged."""
    taken: dict[str, NDArray[np.bool_]] = {}
    for one in found:
        mask, contest = one.mask, one.query.contest
        if contest and mask is not None:
            mask = mask & ~taken[contest] if contest in taken else mask
            taken[contest] = mask | taken[contest] if contest in taken else mask
            one = replace(one, mask=mask if mask.any() else None)
        yield one


def scored(
    query: Query, probabilities: Tensor, size: tuple[int, int], patches: Tensor | None = None
) -> Found:
    """Clean, look at the parts, bring to the image's size, threshold, score.

    Args:
        query: What was asked.
        probabilities: (h, w).
        size: Of the image, (H, W).
        patches: What is in them, (D, h', w'); without it, parts are not looked at.
    """
    likely = probabilities.numpy()
    if not (likely >= query.threshold).any():  # as most labels on most images
        return Found(query, None, float(likely.max()))
    cleaned = clean(likely, query.threshold, query.confidence)
    if query.probe is not None and patches is not None:
        likely, cleaned = probed(query, likely, cleaned, patches)
    inside = cleaned >= query.threshold
    if not inside.any():
        return Found(query, None, float(likely.max()))
    mask = marked(torch.from_numpy(cleaned), query.threshold, size).numpy()
    if not mask.any():  # an image of fewer pixels than the model's grid can lose a small part
        return Found(query, None, float(likely.max()))
    return Found(query, mask, float(likely[inside].mean()))


def probed(
    query: Query,
    likely: NDArray[np.float32],
    cleaned: NDArray[np.float32],
    patches: Tensor,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What is likely, (h, w), and what is left of the parts, (h, w), after a look at them.

    How likely a part is lies between what the decoder and what the probe says: that tells better
    than either which parts are right.
    """
    row = query.probe
    if row is None or len(row) != len(patches) + 1:
        _tell_of_another(query.label, query.probed)
        return likely, cleaned
    numbered, sizes = parts(cleaned >= query.threshold)
    chances = Probe.of(row).chances(describe(numbered, len(sizes), patches))
    chance = np.append(np.inf, chances).astype(np.float32)[numbered]  # of each pixel's part
    both = np.where(numbered > 0, (likely + chance) / 2, likely)
    return both, np.where(chance < query.chance, np.float32(0), cleaned)


@cache
def _tell_of_another(label: str, probe: str) -> None:
    """Tell once, and not for every image."""
    log.error("Probe %s of %r is of another checkpoint: all parts are shown.", probe, label)
