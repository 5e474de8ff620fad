"""Phrases for the labels of a project, from what it knows of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import inf
from typing import Any

from backend.errors import BadRequest, NothingToGoBy
from backend.inference.offering import of_label, small
from backend.inference.predictor import Predictor
from backend.inference.promptbook import PromptBook
from backend.inference.sighting import Sighting
from backend.inference.suggest import MOST_ABSENT, MOST_PRESENT, Evidence, Suggestion, suggest
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.images import TaskImage
from backend.learning.dataset import Account, Part
from backend.learning.train import Source
from backend.prompting import Query
from backend.report import table

MOST_LOOKED = 200  # accepted images that are looked through


class Basis(StrEnum):
    """What phrases were judged by."""

    ACCEPTED = "accepted"  # what annotators accepted
    EXEMPLAR = "exemplar"  # what the label's exemplars find in an image
    IMAGE = "image"  # an image, of which nothing is known


BASES = {
    Basis.ACCEPTED: "what was accepted",
    Basis.EXEMPLAR: "what its exemplars find in the image",
    Basis.IMAGE: "the image alone",
}


@dataclass(frozen=True, slots=True)
class Suggested:
    """Phrases for a label, best first."""

    label: str
    basis: Basis
    asked: tuple[str, ...]  # what it is asked with now
    phrases: tuple[Suggestion | Sighting, ...]

    def to_json(self, most: int) -> dict[str, Any]:
        """Everything, of the best phrases."""
        return {
            "label": self.label,
            "basis": self.basis.value,
            "asked": list(self.asked),
            "phrases": [asdict(one) for one in self.phrases[:most]],
        }


def chosen(asked: Sequence[Query], label: str | None) -> dict[str, Query]:
    """The first query of each label, or of one.

    Raises:
        BadRequest: there is no such label.
    """
    found: dict[str, Query] = {}
    for query in asked:
        found.setdefault(query.label, query)
    if label is None:
        return found
    if label not in found:
        raise BadRequest(f'The project has no label "{label}": it has {", ".join(found)}.')
    return {label: found[label]}


def from_accepted(
    predictor: Predictor,
    source: Source,
    queries: Mapping[str, Query],
    vocabulary: Vocabulary,
    book: PromptBook,
    seconds: float = inf,
) -> list[Suggested]:
    """Phrases for labels by what annotators accepted; labels without any are left out.

    What was typed for a label, as the project's book remembers, is among them.

    Tasks that judge versions are not looked at. No round of phrases begins after `seconds`.

    Raises:
        NothingToGoBy: none of the labels is in anything that was accepted.
    """
    until, entries = time.monotonic() + seconds, book.entries
    evidence = _gathered(predictor, source, queries)
    there = {label: found for label, found in evidence.items() if any(e.mask.any() for e in found)}
    if not there:
        named = ", ".join(f'"{label}"' for label in queries)
        raise NothingToGoBy(
            f"Nothing tells where {named} is: accept an annotation, or give an image to look at."
        )
    return [
        Suggested(
            label,
            Basis.ACCEPTED,
            queries[label].prompts,
            tuple(
                suggest(
                    predictor.segmenter,
                    label,
                    found,
                    vocabulary,
                    prompts=queries[label].prompts,
                    typed=[text.text for text in entries[label].texts] if label in entries else (),
                    threshold=queries[label].threshold,
                    until=until,
                )
            ),
        )
        for label, found in there.items()
    ]


def from_image(
    predictor: Predictor,
    image: TaskImage,
    query: Query,
    vocabulary: Vocabulary,
    book: PromptBook,
) -> Suggested:
    """Phrases for a label by an image: what its exemplars find there, else what the image shows."""
    phrases: Sequence[Suggestion | Sighting]
    phrases = of_label(predictor, image, query, book, vocabulary)
    shown = any(isinstance(one, Suggestion) for one in phrases)
    basis = Basis.EXEMPLAR if shown else Basis.IMAGE
    return Suggested(query.label, basis, query.prompts, tuple(phrases))


def _gathered(
    predictor: Predictor, source: Source, queries: Mapping[str, Query]
) -> dict[str, list[Evidence]]:
    """Where each label is, on as many images as are looked at."""
    evidence: dict[str, list[Evidence]] = {label: [] for label in queries}
    for count, sample in enumerate(source((Part.TRAINING, Part.VALIDATION), Account())):
        wanted = [
            label
            for label, query in queries.items()
            if label in sample.labels
            and query.image_key == sample.image_key
            and _lacks(evidence[label], label in sample.masks)
        ]
        if wanted:
            (features,) = predictor.encode([(sample.image.digest, sample.image.image)])
            for label in wanted:
                evidence[label].append(Evidence(features, small(sample.mask(label))))
        if count + 1 == MOST_LOOKED or not _any_lacks(evidence.values()):
            break
    return evidence


def _any_lacks(evidence: Collection[Sequence[Evidence]]) -> bool:
    return any(_lacks(one, True) or _lacks(one, False) for one in evidence)


def _lacks(evidence: Sequence[Evidence], present: bool) -> bool:
    held = sum(bool(one.mask.any()) is present for one in evidence)
    return held < (MOST_PRESENT if present else MOST_ABSENT)


def told(found: Suggested, most: int) -> str:
    """A label's best phrases, for people."""
    now = ", ".join(f'"{text}"' for text in found.asked)
    head = f"{found.label}, asked with {now} now, by {BASES[found.basis]}"
    return f"{head}:\n\n{phrase_table(found.phrases[:most])}"


def phrase_table(phrases: Sequence[Suggestion | Sighting]) -> str:
    """Phrases with their proof, for people."""
    rows = []
    for one in phrases:
        if isinstance(one, Suggestion):
            alarms = f"{one.alarms} of {one.absent}"
            rows.append([one.text, one.source, f"{one.iou:.3f}", str(one.images), alarms])
        else:
            figures = one.confidence, one.similarity, one.share
            rows.append([one.text, one.source, *(f"{figure:.2f}" for figure in figures)])
    sighted = any(isinstance(one, Sighting) for one in phrases)
    proof = ["sure", "like the image", "of it"] if sighted else ["IoU", "masks", "false alarms"]
    return table(["phrase", "from", *proof], rows) if rows else "no phrase finds anything"
