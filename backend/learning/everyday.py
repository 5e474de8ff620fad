"""Everyday phrases: what may be asked beside a project's labels, and is not to be forgotten.

Nobody labels what such a phrase finds, so that the answer of the base checkpoint is what it is held
to. Half of the phrases are put together from colours, patterns and things. The other half are words
that the checkpoint's own tokenizer has whole, which are the commonest of what it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "cyan", "black", "white")
PATTERNS = ("striped", "dotted", "checkered", "plain", "shiny", "wooden", "small", "large")
THINGS = (
    *("circle", "square", "triangle", "ring", "cross", "star", "thing", "line", "text"),
    *("person", "face", "hand", "dog", "cat", "bird", "horse", "car", "bus", "bicycle", "boat"),
    *("tree", "flower", "grass", "sky", "water", "road", "building", "window", "door", "chair"),
    *("table", "bottle", "cup", "plate", "book", "phone", "shoe", "bag", "food", "background"),
)
TEMPLATES = ("{}", "the {}", "a {}", "a photo of a {}", "a picture of the {}", "every {}")
LITTLE = frozenset({"a", "an", "the", "of", "photo", "picture", "every"})  # choose nothing
COMMONEST = 2000  # words of a vocabulary


def phrases(number: int, vocabulary: Sequence[str], avoided: Iterable[str], seed: int) -> list[str]:
    """Different phrases of one to three words, some of them in a sentence.

    Args:
        number: How many.
        vocabulary: Words, the commonest first.
        avoided: A phrase that says all that one of these says is left out: a project may change
            what it means.
        seed: The same one gives the same phrases.
    """
    rng = np.random.default_rng(seed)
    taken = [_said(text) for text in avoided]
    words = vocabulary[:COMMONEST]
    found: dict[str, None] = {}
    while len(found) < number:
        if words and rng.random() < 0.5:
            chosen = [_any(rng, words) for _ in range(int(rng.integers(1, 4)))]
        else:
            chosen = [
                *[_any(rng, COLOURS)] * int(rng.integers(2)),
                *[_any(rng, PATTERNS)] * int(rng.integers(2)),
                _any(rng, THINGS),
            ]
        phrase = " ".join(chosen)
        if any(said and said <= _said(phrase) for said in taken):
            continue
        found[_any(rng, TEMPLATES).format(phrase) if rng.random() < 0.5 else phrase] = None
    return list(found)


def _said(text: str) -> frozenset[str]:
    """The words of a text that choose something."""
    return frozenset(re.findall(r"\w+", text.casefold())) - LITTLE


def _any(rng: np.random.Generator, things: Sequence[str]) -> str:
    return things[int(rng.integers(len(things)))]
