"""What a project's labels are best asked with, measured on its accepted masks.

Texts, exemplars, their weight and the threshold are chosen on the tasks for training and
validation, and proved on the held-out ones where those are enough; where they are too few to judge
anything by, they count as the others do. An exemplar is never judged on its own task. What a person
set stays as it is.

Little evidence moves little: the weight of exemplars is at first what the words leave to be found,
and goes towards the best one as masks come; so does a threshold, which stays where it is below five
masks. A probe that looks at the parts of masks once more needs ten, and something to leave out.
Other words than the label's have to be clearly better.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from backend.errors import BadPrompt
from backend.inference.books import Books
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, PromptBook
from backend.labelstudio.config import LabelConfig
from backend.labelstudio.labels import Label
from backend.learning.acceptance import Acceptance
from backend.learning.choice import Choice
from backend.learning.credit import credit, credited
from backend.learning.dataset import Account, Marked
from backend.learning.evidence import Shot, gather
from backend.learning.train import Stage, Told, counted
from backend.prompting import Query, queries

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """A book with new figures, and what they stand on."""

    book: PromptBook
    account: Account


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with a predictor, and is not written down yet."""

    digest: str  # of the base checkpoint's files
    entries: Sequence[tuple[Entry, Entry]]  # as it was known when measuring began, and as it is now
    images: int
    account: Account

    def over(self, now: PromptBook) -> PromptBook:
        """A book with these figures; what was set, imported or rolled back to meanwhile stays."""
        now = now.fitting(self.digest)
        return now.having(
            *(_kept(now.entry(known.label), known, one) for known, one in self.entries)
        )

    def write(
        self,
        books: Books,
        project: int,
        config: LabelConfig,
        acceptance: Acceptance,
        *,
        threshold: float,
        tuned: str | None = None,
    ) -> Measured:
        """Write a project's book with these figures, and with what became of its predictions.

        `tuned` is the project's version that they are of; None is the base checkpoint.
        """
        so_far = books.ever_serving(project, self.digest)
        became = credit(acceptance, (queries(config, threshold, one) for one in so_far))

        def edit(now: PromptBook) -> PromptBook:
            book = self.over(now)
            return book.having(
                *(credited(book.entry(one.label), became) for _, one in self.entries)
            )

        by = f"measured on {self.images} accepted images"
        book = books.change(project, by, edit, base=self.digest, tuned=tuned)
        return Measured(book, self.account)


def measure(
    predictor: Predictor,
    digest: str,
    books: Books,
    project: int,
    config: LabelConfig,
    marked: Callable[[Account], Iterable[Marked]],
    *,
    threshold: float,
    told: Told = lambda _: None,
) -> Figures:
    """Measure what a project's labels are best asked with; the book stays as it is.

    Args:
        predictor: What the project is served with, or might be.
        digest: Of the base checkpoint's files.
        books: Where the book is.
        project: The project's id.
        config: Its labeling configuration.
        marked: Gives everything that is accepted, and tells an account what is seen of it.
        threshold: Where the labeling configuration says nothing.
        told: Is called after each task that is read, and after each image that is looked at; what
            it raises ends the measuring.
    """
    account, asked = Account(), queries(config, threshold)
    # a tuned CLIPSeg still has CLIP's projection, a tuned GroupViT one of its own
    encoder = f"{digest} {predictor.encoder}".strip()
    accepted = counted(marked(account), Stage.MEASURING, told)
    evidence = gather(predictor, books, project, encoder, asked, accepted, told)
    before = books.book(project).fitting(digest)
    keep, entries = partial(books.keep, project), list[tuple[Entry, Entry]]()
    for label, query in _labels(config, asked).items():
        known = before.entry(query.label)
        brought = _brought(predictor, books, project, known)
        choice = Choice(predictor, evidence, query, label, known, brought, threshold, keep)
        if choice.lacks(account.unseen):
            log.warning("%r stays as it was: images of its exemplars cannot be had", query.label)
            entries.append((known, known))
            continue
        try:
            entries.append((known, choice.entry()))
        except BadPrompt as error:  # the others are measured nevertheless
            log.warning("%r cannot be measured: %s", query.label, error)
            entries.append((known, known))
    return Figures(digest, entries, len(evidence.seen), account)


def _brought(predictor: Predictor, books: Books, project: int, entry: Entry) -> list[Shot]:
    """What exemplars of other projects show of a label, as far as it is known and wanted.

    A version that encodes exemplars in a way of its own cannot use them: their images are not here.
    """
    elsewhere = [one for one in entry.exemplars if one.project and not one.refused]
    if predictor.encoder or not elsewhere:
        return []
    width = predictor.condition(["thing"]).shape

    def shown(name: str) -> Tensor | None:
        condition = books.condition(project, name) if name else None
        fits = condition is not None and condition.shape == width
        return torch.from_numpy(condition) if fits else None

    found = []
    for one in elsewhere:
        condition, other = shown(one.id), shown(one.recoloured)
        if condition is not None:
            recoloured = None if other is None else (one.recoloured, other)
            found.append(Shot(one.id, one.task, condition, recoloured, one.project))
    return found


def _labels(config: LabelConfig, asked: Sequence[Query]) -> dict[Label, Query]:
    """Each label once, with the first query that asks for it."""
    first = {query.label: query for query in reversed(asked)}
    labels = {label.value: label for one in reversed(config.outputs) for label in one.labels}
    return {labels[name]: query for name, query in first.items()}


def _kept(now: Entry, known: Entry, measured: Entry) -> Entry:
    """A measured entry with what a person set, and what measuring knows nothing of.

    Where another one stands now than was `known` when measuring began, that stays.
    """
    if _figures(now) != _figures(known):
        return now
    by_hand = {name: getattr(now, name) for name in now.by_hand}
    if "exemplars" not in now.by_hand:
        refused = {one.id: one for one in now.exemplars if one.refused}
        others = (one for one in measured.exemplars if one.id not in refused)
        by_hand["exemplars"] = (*others, *refused.values())
    if "texts" not in now.by_hand:
        tried = {phrase.text for phrase in measured.texts}
        rest = [phrase for phrase in now.texts if phrase.text not in tried]
        by_hand["texts"] = (*measured.texts, *(replace(one, used=False) for one in rest))
    return replace(measured, **by_hand, by_hand=now.by_hand)


def _figures(entry: Entry) -> tuple[object, ...]:
    """What measuring alone writes into an entry, and no person sets."""
    curves = entry.handicaps, entry.weights, entry.thresholds, entry.confidences
    return entry.proof, entry.masks, *curves, {one.id for one in entry.exemplars}
