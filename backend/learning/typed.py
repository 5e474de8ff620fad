"""What annotators typed for labels, in accepted tasks.

Text encoders read neither case nor the number of spaces: a phrase is one however it is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from backend.errors import BadPrompt
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry
from backend.labelstudio.labels import LONGEST_PROMPT, as_read
from backend.labelstudio.negation import understood
from backend.learning.dataset import Marked
from backend.prompting import Query, named

log = logging.getLogger(__name__)

Spelled = dict[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Typed:
    """What a phrase says of an accepted label that was not known of it."""

    label: str
    text: str  # what it asks for; "" where that is the label's own name, or text
    unwanted: tuple[str, ...]  # what it says that the label is not
    offered: bool  # by us


def spellings(asked: Sequence[Query], entries: Iterable[Entry]) -> Spelled:
    """How phrases are written that are known, by their label and what is read of them."""
    texts = [(query.label, text) for query in asked for text in query.prompts]
    for entry in entries:
        texts += [(entry.label, phrase.text) for phrase in (*entry.texts, *entry.negatives)]
    return {(label, as_read(text)): text for label, text in reversed(texts)}


def typed(
    marked: Marked, asked: Sequence[Query], spelled: Spelled, predictor: Predictor
) -> Iterator[Typed]:
    """What phrases that were typed say of accepted labels.

    A phrase that names no label was answered for the one that it is nearest to; one that says only
    what is not meant, for the one that was chosen, which is not known where there are several. One
    that no model reads, such as a caption that somebody wrote there, is none. A new one joins
    `spelled`.
    """
    masks = marked.masks if marked.typed else {}  # which take time
    there = [
        query for query in asked if query.image_key == marked.image_key and query.label in masks
    ]
    for phrase in marked.typed if there else ():
        query = named(phrase, asked)
        try:
            if query is None:
                if len(there) > 1 and not understood(phrase)[0]:
                    continue
                nearest = there[0] if len(there) == 1 else predictor.closest(phrase, there)
                query = nearest.saying(phrase)
            own = [one for one in asked if one.label == query.label]
            known = {text for one in own for text in one.negatives}
            unwanted = [text for text in query.negatives if text not in known]
            for text in (query.prompts[0], *unwanted):
                predictor.condition([text])
                if len(text) > LONGEST_PROMPT:
                    raise BadPrompt(f"A text has 1 to {LONGEST_PROMPT} characters.")
        except BadPrompt as error:
            log.warning("What was typed in task %d is not tried: %s", marked.task, error)
            continue
        new = query.prompts[:1] if all(query.prompts != one.prompts for one in own) else ()
        if query.label in masks and (new or unwanted):
            said = [
                spelled.setdefault((query.label, as_read(text)), text) for text in (*new, *unwanted)
            ]
            text = said.pop(0) if new else ""
            yield Typed(query.label, text, tuple(said), phrase in marked.suggested)
