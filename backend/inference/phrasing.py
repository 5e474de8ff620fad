"""What a label might be called: the phrases that are tried, and where each is from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.labels import LONGEST_PROMPT, words_of
from backend.labelstudio.negation import understood
from backend.prompting import Query

TEMPLATES = ("the {}", "a {}", "a photo of a {}", "every {}")
NOUNS, ADJECTIVES = 4, 4  # the best of a kind that are combined with all of the other

_BEGINNING = re.compile(
    r"(?:(an?|the|every)(?:\s+|$))?(?:(\d+)\s+)?(.*)", re.IGNORECASE | re.DOTALL
)


class Source(StrEnum):
    """Where a phrase is from; the first of several counts."""

    PROMPT = "prompt"  # it is asked with already
    NAME = "name"
    TYPED = "typed"  # by an annotator of the project
    SYNONYM = "synonym"
    VOCABULARY = "vocabulary"
    ATTRIBUTE = "attribute"
    COMPOSITION = "composition"
    TEMPLATE = "template"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to ask with."""

    text: str
    source: Source

    @property
    def is_adjective(self) -> bool:
        """Whether it goes before a noun."""
        return self.source is Source.ATTRIBUTE


def plain(
    label: str, prompts: Sequence[str], typed: Sequence[str], vocabulary: Vocabulary
) -> list[Candidate]:
    """What may be tried of a label at first, each text once."""
    return distinct([*own(label, prompts, typed, vocabulary), *words(vocabulary)])


def own(
    label: str, prompts: Sequence[str], typed: Sequence[str], vocabulary: Vocabulary
) -> list[Candidate]:
    """What a label is called already, and by other words for that."""
    name = words_of(label)
    return distinct(
        [
            *(Candidate(text, Source.PROMPT) for text in prompts),
            Candidate(name, Source.NAME),
            *(Candidate(text, Source.TYPED) for text in typed),
            *(
                Candidate(other, Source.SYNONYM)
                for text in (*prompts, name)
                for other in vocabulary.synonyms(text)
            ),
        ]
    )


def prompted(asked: Iterable[Query]) -> list[Candidate]:
    """What labels are asked with."""
    return [Candidate(text, Source.PROMPT) for query in asked for text in query.prompts]


def words(vocabulary: Vocabulary) -> list[Candidate]:
    """Everything that a vocabulary names, by its usual name."""
    return [
        *(Candidate(names[0], Source.VOCABULARY) for names in vocabulary.things),
        *(Candidate(names[0], Source.ATTRIBUTE) for names in vocabulary.attributes),
    ]


def compositions(label: str, best: Sequence[Candidate], vocabulary: Vocabulary) -> list[Candidate]:
    """Attributes with things, of phrases in the order of how well they did.

    The best things with every attribute, and the best attributes with the best things; the label's
    own name is always among the things. What was composed before is a thing too.
    """
    name = words_of(label)
    nouns = [phrase.text for phrase in best if not phrase.is_adjective]
    adjectives = [phrase.text for phrase in best if phrase.is_adjective]
    every = [names[0] for names in vocabulary.attributes]
    first = list(dict.fromkeys([*nouns[:NOUNS], name]))
    pairs = [
        *((adjective, noun) for noun in first for adjective in every),
        *((one, noun) for one in adjectives[:ADJECTIVES] for noun in nouns[: 3 * NOUNS]),
    ]
    return distinct(
        Candidate(joined(adjective, noun), Source.COMPOSITION)
        for adjective, noun in dict.fromkeys(pairs)
        if f" {adjective} ".casefold() not in f" {noun} ".casefold()
    )


def worded(best: Sequence[Candidate]) -> list[Candidate]:
    """Phrases as people would write them in a sentence."""
    bare = (" ".join(filter(None, _parts(phrase.text)[1:])) for phrase in best)
    return distinct(
        Candidate(template.format(text), Source.TEMPLATE)
        for text in bare
        if text
        for template in TEMPLATES
    )


def joined(adjective: str, noun: str) -> str:
    """An attribute and a thing: "red ball", "ball with dots", "a red ball"; "" for no thing."""
    article, count, thing = _parts(noun)
    if not thing:
        return ""
    if adjective.startswith("with "):
        return f"{noun} {adjective}"
    if article.lower() in {"a", "an"}:
        article = "an" if adjective[:1].lower() in {*"aeiou"} else "a"
    return " ".join(filter(None, (article, count, adjective, thing)))


def _parts(phrase: str) -> tuple[str, str, str]:
    """A phrase's article, how many things it tells of, and the thing; "" for what it lacks."""
    article, count, thing = _BEGINNING.findall(phrase.strip())[0]
    return article, count, thing


def distinct(phrases: Iterable[Candidate]) -> list[Candidate]:
    """Each text once, in whatever case it is written, and none that could not be a prompt.

    Nor one with a "not" in it, which would not be asked as it stands, unless a label is called so.
    """
    found: dict[str, Candidate] = {}
    for phrase in _usable(phrases):
        found.setdefault(phrase.text.casefold(), phrase)
    return list(found.values())


def _usable(phrases: Iterable[Candidate]) -> Iterator[Candidate]:
    return (
        one
        for one in phrases
        if one.text.strip() and len(one.text) <= LONGEST_PROMPT
        if one.source in {Source.PROMPT, Source.NAME} or not understood(one.text)[1]
    )
