"""What annotators typed for labels, in accepted tasks.

Text encoders read neither case nor the number of spaces: a phrase is one however it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from backend.errors import BadPrompt
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry
from backend.labelstudio.labels import LONGEST_PROMPT
from backend.learning.dataset import Sample
from backend.prompting import Query, named

log = logging.getLogger(__name__)

Spelled = dict[tuple[str, str], str]


def spellings(asked: Sequence[Query], entries: Iterable[Entry]) -> Spelled:
    """How phrases are written that are known, by their label and what is read of them."""
    texts = [(query.label, text) for query in asked for text in query.prompts]
    texts += [(entry.label, phrase.text) for entry in entries for phrase in entry.texts]
    return {(label, _read(text)): text for label, text in reversed(texts)}


def typed(
    sample: Sample, asked: Sequence[Query], spelled: Spelled, predictor: Predictor
) -> Iterator[tuple[str, str, bool]]:
    """Accepted labels that phrases were typed for, the phrases, and whether those were offered.

    A phrase that names no label was answered for the one that it is nearest to. One that no model
    reads, such as a caption that somebody wrote there, is none. A new one joins `spelled`.
    """
    there = [
        query
        for query in asked
        if query.image_key == sample.image_key and query.label in sample.masks
    ]
    for phrase in sample.typed if there else ():
        query = named(phrase, asked)
        try:
            if query is None:
                nearest = there[0] if len(there) == 1 else predictor.closest(phrase, there)
                query = nearest.saying(phrase)
            predictor.condition(query.prompts)
            if len(query.prompts[0]) > LONGEST_PROMPT:
                raise BadPrompt(f"A text has 1 to {LONGEST_PROMPT} characters.")
        except BadPrompt as error:
            log.warning("What was typed in task %d is not tried: %s", sample.task, error)
            continue
        own = any((query.label, query.prompts) == (one.label, one.prompts) for one in asked)
        if not own and query.label in sample.masks:  # a label's name, or a "not", says nothing new
            said = query.prompts[0]
            known = spelled.setdefault((query.label, _read(said)), said)
            yield query.label, known, phrase in sample.suggested


def _read(text: str) -> str:
    """What text encoders read of a text, as far as case and spaces go."""
    return " ".join(text.lower().split())
