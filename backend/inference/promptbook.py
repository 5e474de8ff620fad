"""The prompt book: what a project's labels are asked with, where it came from, and its proof.

What a person set beats what was measured. For each of a label's texts, negatives, exemplars,
weight, threshold, confidence and probe, the first of these counts that says something:

1. the book, where a person set it (`promptbrush prompts set`);
2. the labeling configuration, where it says it: `predicted_values`, `negative_values`,
   `model_score_threshold`;
3. the book, as it was measured on accepted masks;
4. the label's name and the default threshold; parts are shown however doubtful they are.

What was measured with one checkpoint says nothing of another. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from backend.labelstudio.labels import Label, words_of
from backend.labelstudio.negation import heard
from backend.prompting import Query

# that a person may set
FIELDS = ("texts", "exemplars", "negatives", "weight", "threshold", "confidence", "probe")

# Exemplars, at most, that are shown in other colours, too: three tell by themselves what they have
# in common.
FEW = 2

Curve = tuple[tuple[float, float], ...]


class Origin(StrEnum):
    """Where a phrase came from."""

    CONFIG = "labeling config"
    TYPED = "typed by an annotator"
    SUGGESTED = "suggested"
    HAND = "set by hand"


ASKED = {Origin.TYPED, Origin.SUGGESTED}  # with by annotators


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words for a label, and how good they are by themselves."""

    text: str
    origin: Origin
    iou: float | None = None  # mean, against accepted masks
    masks: int = 0  # how many those were
    predicted: int = 0  # masks that annotators got while it was asked with, as far as is known
    accepted: float | None = None  # share of those that they took as they were, or nearly
    times: int = 0  # accepted annotations in which it was typed
    used: bool = True
    reason: str = ""  # why it is not used


def used(phrases: Iterable[Phrase]) -> tuple[str, ...]:
    """The texts of those that are in use."""
    return tuple(phrase.text for phrase in phrases if phrase.used)


@dataclass(frozen=True, slots=True)
class Shown:
    """An accepted mask as an exemplar; figures are on other tasks than its own."""

    id: str  # names its condition
    task: int
    iou: float | None = None  # mean, asked with it alone
    gain: float | None = None  # of the label's IoU, with it beside the others
    masks: int = 0  # on which that was measured
    used: bool = True
    reason: str = ""  # why it is not used
    recoloured: str = ""  # names the condition of the same in other colours, if there is one
    project: int = 0  # that the task is of; 0 is the book's own
    refused: bool = False  # by a person: measuring leaves it as it is


@dataclass(frozen=True, slots=True)
class Proof:
    """How good a label's entry is, beside what the labeling configuration alone gives."""

    iou: float  # mean, against accepted masks
    before: float  # the same of the labeling configuration with the default threshold
    masks: int
    part: str  # which tasks judged


@dataclass(frozen=True, slots=True)
class Probed:
    """A second look at the parts of a label's masks: those that are likely wrong are left out."""

    id: str  # names the probe's numbers
    chance: float  # of being right, that a part needs to be shown
    gain: float | None = None  # of the label's mean IoU, where it is and where it is not
    right: int = 0  # parts that it learned from
    wrong: int = 0
    curve: Curve = ()  # mean IoU by chance


@dataclass(frozen=True, slots=True)
class Entry:
    """One label in the book; None and nothing leave it to the labeling configuration."""

    label: str
    texts: tuple[Phrase, ...] = ()
    exemplars: tuple[Shown, ...] = ()
    negatives: tuple[Phrase, ...] = ()
    weight: float | None = None  # the exemplars' share beside that of the texts, all in all
    threshold: float | None = None
    confidence: float | None = None  # mean probability that a part of a mask needs to be shown
    probe: Probed | None = None  # None shows all parts that are sure enough
    by_hand: frozenset[str] = frozenset()  # which of FIELDS a person set
    proof: Proof | None = None
    handicaps: Curve = ()  # weights that an image may be asked with, and how far each is behind
    weights: Curve = ()  # mean IoU by weight, as it was measured
    thresholds: Curve = ()  # mean IoU by threshold
    confidences: Curve = ()  # mean IoU by confidence, with the threshold that was chosen
    masks: int = 0  # on which weight, threshold and confidence were chosen

    def heard(self, label: Label) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the texts in use ask for, and what they say that the label is not."""
        return heard(used(self.texts), words_of(label.shown or label.value))

    @property
    def asked_weights(self) -> Curve:
        """The exemplars' weights that an image may be asked with, each with its handicap.

        Handicaps belong to the weight that was measured: another one that a person set or wrote
        into the book stands alone. Nothing where exemplars are not asked at all.
        """
        if self.weight is None or not any(one.used for one in self.exemplars):
            return ()
        alone = ((self.weight, 0.0),)
        measured = "weight" not in self.by_hand and alone[0] in self.handicaps
        weights = self.handicaps if measured else alone
        return weights if any(weight > 0 for weight, _ in weights) else ()

    @property
    def recoloured(self) -> tuple[str, ...]:
        """The conditions of the exemplars in other colours, where those are few."""
        names = tuple(one.recoloured for one in self.exemplars if one.used)
        return names if len(names) <= FEW and all(names) else ()

    def setting(self, **changed: Any) -> Self:
        """The same with fields as a person sets them; None gives one back to measuring.

        Exemplars that are given back stay as they are until then, those that were left out too.
        """
        unset = {name for name, value in changed.items() if value is None}
        values = {name: value for name, value in changed.items() if value is not None}
        values |= dict.fromkeys(unset & {"texts", "negatives"}, ())
        values |= dict.fromkeys(unset & {"weight", "threshold", "confidence", "probe"})
        if "exemplars" in unset:
            values["exemplars"] = tuple(replace(one, refused=False) for one in self.exemplars)
        return replace(self, **values, by_hand=(self.by_hand | changed.keys()) - unset)

    def without(self, exemplars: Collection[str]) -> Self:
        """The same as a person sets it who leaves some exemplars out, by their ids."""
        left = (
            replace(one, used=False, refused=True, reason="left out by hand")
            if one.id in exemplars
            else one
            for one in self.exemplars
        )
        return replace(self, exemplars=tuple(left))

    def without_probe(self) -> Self:
        """The same as a person sets it who wants no second look."""
        return replace(self, probe=None, by_hand=self.by_hand | {"probe"})


@dataclass(frozen=True, slots=True)
class Note:
    """How a version of a book came to be."""

    at: str = ""  # ISO 8601, UTC
    by: str = ""  # what was done
    base: str | None = None  # digest of the checkpoint that its figures were measured with
    tuned: str | None = None  # the project's version that they were measured with


@dataclass(frozen=True, slots=True)
class PromptBook:
    """One version of a project's book."""

    project: int = 0
    number: int = 0  # of the version; 0 where nothing was written yet
    entries: Mapping[str, Entry] = field(default_factory=dict)
    note: Note = Note()
    conditions: Mapping[str, NDArray[np.float32]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Of exemplars, (C,) each, where it is read to be asked from."""
    probes: Mapping[str, NDArray[np.float32]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Their numbers, likewise."""

    def entry(self, label: str) -> Entry:
        """What it says of a label; an empty entry where that is nothing."""
        return self.entries.get(label) or Entry(label)

    def having(self, *entries: Entry) -> PromptBook:
        """The same with some entries in place of their labels' old ones; empty ones go."""
        merged = {**self.entries, **{entry.label: entry for entry in entries}}
        kept = {label: entry for label, entry in merged.items() if entry != Entry(label)}
        return replace(self, entries=kept)

    def fitting(self, base: str | None) -> PromptBook:
        """The same without what was measured with another checkpoint than that of this digest."""
        if base is None or self.note.base in {None, base}:
            return self
        said = map(_unmeasured, self.entries.values())
        return replace(self, entries={}).having(*said)

    def over(self, query: Query, label: Label) -> Query:
        """A label's query with what the book says over the labeling configuration."""
        entry = self.entries.get(query.label)
        if entry is None:
            return query
        if "negatives" in entry.by_hand or not query.negatives:
            query = replace(query, negatives=used(entry.negatives))
        if "texts" in entry.by_hand or not label.worded:
            texts, unwanted = entry.heard(label)
            negatives = (*query.negatives, *unwanted)
            query = replace(query, prompts=texts or query.prompts, negatives=negatives)
        if entry.threshold is not None and (
            "threshold" in entry.by_hand or label.threshold is None
        ):
            query = replace(query, threshold=entry.threshold)
        if entry.confidence is not None:
            query = replace(query, confidence=entry.confidence)
        if entry.probe is not None and entry.probe.id in self.probes:
            probed, chance = entry.probe.id, entry.probe.chance
            query = replace(query, probed=probed, chance=chance, probe=self.probes[probed])
        shown = [one.id for one in entry.exemplars if one.used and one.id in self.conditions]
        weights = entry.asked_weights
        if not shown or not weights:
            return query
        query = replace(query, exemplars=tuple(shown), weights=weights, shown=self._mean(shown))
        others = entry.recoloured
        if not others or any(name not in self.conditions for name in others):
            return query
        return replace(query, recoloured=others, shown_recoloured=self._mean(others))

    def _mean(self, names: Sequence[str]) -> NDArray[np.float32]:
        mean: NDArray[np.float32] = np.stack([self.conditions[name] for name in names]).mean(axis=0)
        return mean


def _unmeasured(entry: Entry) -> Entry:
    """What persons said, in words and numbers: it counts for every checkpoint."""
    chosen = "texts" in entry.by_hand
    return Entry(
        entry.label,
        texts=tuple(p for p in entry.texts if chosen or p.origin in ASKED),
        negatives=entry.negatives,
        weight=entry.weight if "weight" in entry.by_hand else None,
        threshold=entry.threshold if "threshold" in entry.by_hand else None,
        confidence=entry.confidence if "confidence" in entry.by_hand else None,
        by_hand=entry.by_hand - {"exemplars"},
    )
