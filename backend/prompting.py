"""What each label is asked with, and the version that names it.

A version is content-addressed: the same weights asked the same way have the same name, and a
changed prompt, exemplar or threshold has another one. Label Studio asks again only when the name
changes.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from backend.labelstudio.config import Control, LabelConfig
from backend.labelstudio.labels import Label
from backend.labelstudio.negation import AROUND, EDGES, NOT, understood


@dataclass(frozen=True, slots=True)
class Query:
    """One label's question to an image.

    Several prompts are ensembled into one condition, and what exemplars show is mixed in.
    """

    image_key: str  # the field of the task's data that holds the image's URL
    label: str
    prompts: tuple[str, ...]
    threshold: float
    # Which take the answer, each in its own form; what is asked is the same without them. They hold
    # all labels, so that to compare them for each label would take a thousand labels a million.
    controls: tuple[Control, ...] = field(compare=False)
    exemplars: tuple[str, ...] = ()  # by the names of their conditions
    weights: tuple[tuple[float, float], ...] = ()
    """The exemplars' shares, beside the prompts', that an image may be asked with; each with its
    handicap, the IoU by which it has to promise more there than one without."""
    negatives: tuple[str, ...] = ()  # what the label's pixels are not
    contest: str = ""  # queries of the same one compete for every pixel; "" for none
    shown: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """The mean of the exemplars' conditions, (C,)."""
    recoloured: tuple[str, ...] = ()  # few exemplars in other colours, by their conditions' names
    shown_recoloured: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """The mean of those conditions, (C,)."""
    confidence: float = 0.0  # mean probability that a part of a mask needs to be shown
    probed: str = ""  # names the probe that parts are looked at with; "" for none
    chance: float = 0.0  # of being right, that a part needs to be shown, as the probe gives it
    probe: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)
    """Its numbers, (D + 1,)."""
    called: str = field(default="", compare=False)
    """The label as people read it, if that is another name."""

    @property
    def pictured(self) -> set[str]:
        """The names of the `<Image>` tags that its controls draw on."""
        return {control.to_name for control in self.controls}

    def showing_all(self) -> Self:
        """The same question, whose answer is shown however doubtful its parts are."""
        return replace(self, confidence=0.0, probed="", chance=0.0, probe=None)

    def saying(self, phrase: str) -> Self:
        """The same question in other words, and without exemplars, if the phrase has any.

        What a phrase says that it is not is added to what the label is not.
        """
        wanted, unwanted = understood(phrase)
        query = replace(self, negatives=(*self.negatives, *unwanted))
        if not wanted:
            return query
        return replace(query, prompts=(wanted,)).without_exemplars()

    def without_exemplars(self) -> Self:
        """The same question in words alone."""
        query = replace(self, exemplars=(), weights=(), shown=None)
        return replace(query, recoloured=(), shown_recoloured=None)


class Book(Protocol):
    """What a project says of its labels beyond the labeling configuration."""

    def over(self, query: Query, label: Label) -> Query:
        """A label's query as the configuration has it, with what the book says over it."""


def queries(
    config: LabelConfig, default_threshold: float, book: Book | None = None
) -> tuple[Query, ...]:
    """The queries of a labeling configuration, in its order, as a project's book has them.

    Controls that carry a label which is asked for in the same way share its query, unless the
    labels of one compete.
    """
    takers: dict[Query, list[Control]] = {}
    for control in config.outputs:
        for label in control.labels:
            query = Query(
                control.image_key,
                label.value,
                label.prompts,
                default_threshold if label.threshold is None else label.threshold,
                (),
                negatives=label.negatives,
                contest=control.name if control.competes else "",
                called=label.shown,
            )
            query = query if book is None else book.over(query, label)
            takers.setdefault(query, []).append(control)
    return tuple(replace(query, controls=tuple(controls)) for query, controls in takers.items())


def model_version(
    model: str, weights_digest: str, asked: Sequence[Query], tuned: str | None = None
) -> str:
    """A name such as `clipseg-1f0c93aa-7be01c55`: model, weights, prompts with what they fill.

    With the version that a project's own training made, that stands between the last two.
    """
    weights = [weights_digest[:8], *([tuned[:8]] if tuned else [])]
    return "-".join([model.lower(), *weights, asked_digest(asked)])


def asked_digest(asked: Sequence[Query]) -> str:
    """Eight digits that name what is asked, and what takes the answers."""
    prompts = [
        [
            [query.image_key, query.label, *query.prompts, query.threshold, *_beyond(query)],
            [[c.name, c.to_name, c.kind, c.labels_from, c.instances] for c in query.controls],
        ]
        for query in asked
    ]
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:8]


def _beyond(query: Query) -> list[dict[str, Any]]:
    """What a query is asked with beside prompts, if there is anything."""
    beyond: dict[str, Any] = {}
    if query.exemplars:
        beyond |= {"exemplars": sorted(query.exemplars), "weights": query.weights}
    if query.recoloured:
        beyond["recoloured"] = sorted(query.recoloured)
    if query.negatives:
        beyond["negatives"] = query.negatives
    if query.contest:
        beyond["contest"] = query.contest
    if query.confidence:
        beyond["confidence"] = query.confidence
    if query.probed:
        beyond["probe"] = [query.probed, query.chance]
    return [beyond] if beyond else []


def named(prompt: str, asked: Sequence[Query]) -> Query | None:
    """The query that a typed prompt names, asking for what was typed; None if it names none.

    "car: the red one" names the label before the colon and asks for the rest. "Car" asks what its
    label is asked with by itself, and one of a label's prompts asks that. A name counts as a whole,
    whatever is in it, the longest first: labels may be called "Not OK" or "car: red". What people
    read counts before an alias of the same name, and a name as it is typed before one in another
    case, or in other signs for the same ("Ｃａｒ").
    """
    exact = {query.label.strip(): query for query in reversed(asked)}
    exact |= {one.called.strip(): one for one in reversed(asked) if one.called}
    labels = {_folded(name): query for name, query in exact.items()}
    for name, rest in _readings(prompt.strip(), max(map(len, labels), default=0)):
        query = exact.get(name) or labels.get(_folded(name))
        if query:
            return query.saying(rest)
    wanted, _ = understood(prompt)
    for query in asked:
        if wanted.casefold() in {text.casefold() for text in query.prompts}:
            return query.saying(prompt)
    return None


def _readings(typed: str, longest: int) -> list[tuple[str, str]]:
    """The names that a prompt may begin with, and what it says of each; the longest name first."""
    as_typed, typed = typed, unicodedata.normalize("NFKC", typed)
    colons = ((sign.start(), sign.end()) for sign in re.finditer(":", typed))
    nots = ((sign.start(), sign.start()) for sign in NOT.finditer(typed))
    found: list[tuple[str, str]] = []
    for end, begin in sorted((*colons, *nots)):
        name, rest = typed[:end], typed[begin:].strip()
        if len(name.strip(AROUND)) > longest:  # no text is longer than its folded case
            break
        if rest:
            found += [(name.strip(AROUND), rest), (name.strip(EDGES), rest)]
    return [(as_typed, ""), (typed.strip(EDGES), ""), (typed.strip(AROUND), ""), *reversed(found)]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
