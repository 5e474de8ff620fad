"""How often annotators accept what a phrase draws.

A prediction's version names what was asked, and every version of a prompt book is kept: so it is
known which texts each label was asked with when a mask was predicted. A mask counts for every one
of them, whatever exemplars, threshold and weights helped to draw it. It is accepted if it was
submitted as it was, or nearly so; what annotators asked for themselves counts for nothing, since
nobody knows what they refused.

Predictions that no version of the book accounts for, because the labeling configuration said
something else or another checkpoint answered, count for nothing either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from backend.inference.promptbook import Entry, Phrase
from backend.labelstudio.negation import understood
from backend.learning.acceptance import Acceptance
from backend.prompting import Query, asked_digest


@dataclass(slots=True)
class Credit:
    """What became of a text's masks."""

    predicted: int = 0
    accepted: int = 0


Credits = Mapping[tuple[str, str], Credit]  # by label and text


def credit(acceptance: Acceptance, ever_asked: Iterable[Iterable[Query]]) -> Credits:
    """What became of the masks of every text of every label.

    Args:
        acceptance: What annotators did with predictions.
        ever_asked: The queries of each version of the book.
    """
    named = {}
    for asked in map(tuple, ever_asked):
        texts: dict[str, set[str]] = {}
        for query in asked:
            texts.setdefault(query.label, set()).update(query.prompts)
        named[asked_digest(asked)] = texts
    found: dict[tuple[str, str], Credit] = {}
    for work in acceptance.works:
        texts = named.get(work.prompts or "", {})
        for row in work.rows:
            for text in texts.get(row.label, ()) if row.predicted else ():
                one = found.setdefault((row.label, text), Credit())
                one.predicted += 1
                one.accepted += row.accepted
    return found


def credited(entry: Entry, known: Credits) -> Entry:
    """An entry whose texts tell what became of their masks."""

    def told(phrase: Phrase) -> Phrase:
        asked, _ = understood(phrase.text)  # unless it is the label's own name
        one = known.get((entry.label, phrase.text)) or known.get((entry.label, asked))
        if one is None:
            return replace(phrase, predicted=0, accepted=None)
        share = round(one.accepted / one.predicted, 4)
        return replace(phrase, predicted=one.predicted, accepted=share)

    return replace(entry, texts=tuple(map(told, entry.texts)))
