"""Words that may be suggested: things, what else they are called, and attributes of them.

A plain text file. A line is one thing, with its synonyms behind commas, the usual word first; below
a line `[attributes]` it is one attribute. Empty lines and what begins with # are nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backend.errors import BadVocabulary
from backend.settings import DEMOS, Settings
from demo import WORDS

EVERYDAY = Path(__file__).with_name("everyday.txt")
MOST_WORDS = 2000  # each costs a pass of the text tower once, and of the decoder on each image
LONGEST_WORD = 100  # characters
MOST_BYTES = 1024**2
ATTRIBUTES = "[attributes]"

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Things and attributes, each with all its names, the usual one first."""

    things: tuple[Names, ...]
    attributes: tuple[Names, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """The vocabulary of a file.

        Raises:
            BadVocabulary: it cannot be read, is no text, or holds too much or nothing.
        """
        try:
            if path.stat().st_size > MOST_BYTES:
                raise BadVocabulary(
                    f"The vocabulary {path} is larger than {MOST_BYTES // 1024} KiB: "
                    f"keep the {MOST_WORDS} words that matter for your images."
                )
            text = path.read_text(encoding="utf-8-sig")  # as Windows saves it
        except OSError as error:
            raise BadVocabulary(
                f"The vocabulary {path} cannot be read: {error.strerror}."
            ) from None
        except UnicodeDecodeError:
            raise BadVocabulary(f"The vocabulary {path} is not text in UTF-8.") from None
        return cls.from_lines(text.splitlines(), str(path))

    @classmethod
    def from_lines(cls, lines: Iterable[str], told: str = "given") -> Self:
        """The vocabulary of lines, which problems call `told`.

        Raises:
            BadVocabulary: there are too many words, too long ones, another heading, or none.
        """
        things: list[Names] = []
        attributes: list[Names] = []
        into = things
        for number, line in enumerate(lines, start=1):
            words = _names(line)
            if line.strip().casefold() == ATTRIBUTES:
                into = attributes
            elif line.lstrip().startswith("["):
                raise BadVocabulary(
                    f'Line {number} of the vocabulary {told} is "{line.strip()[:40]}": the only '
                    f"heading is {ATTRIBUTES}."
                )
            elif words:
                long = [word for word in words if len(word) > LONGEST_WORD]
                if long:
                    raise BadVocabulary(
                        f'Line {number} of the vocabulary {told} holds "{long[0][:40]}...", '
                        f"longer than {LONGEST_WORD} characters: give words or short phrases."
                    )
                into.append(words)
        count = sum(map(len, (*things, *attributes)))
        if count > MOST_WORDS:
            raise BadVocabulary(
                f"The vocabulary {told} holds {count:,} words, more than {MOST_WORDS:,}: "
                "keep those that matter for your images."
            )
        if not things:
            raise BadVocabulary(f"The vocabulary {told} holds no word: give a thing in each line.")
        return cls(tuple(things), tuple(attributes))

    def synonyms(self, phrase: str) -> list[str]:
        """The phrase with a thing or an attribute in it called otherwise, each once."""
        said = phrase.casefold()
        found: dict[str, None] = {}
        for names in (*self.things, *self.attributes):
            for name in names:
                pattern = rf"(?<!\w){re.escape(name.casefold())}(?!\w)"  # it may end in a sign
                if re.search(pattern, said):
                    parts = re.split(pattern, said)  # re.sub would read a backslash in a word
                    found |= dict.fromkeys(other.join(parts) for other in names if other != name)
        found.pop(said, None)
        return list(found)


NO_WORDS = Vocabulary(())


def vocabulary(settings: Settings) -> Vocabulary:
    """Words to suggest: those that are set, what the demo knows, or everyday ones.

    Raises:
        BadVocabulary: the file that is set cannot be used.
    """
    usual = WORDS if settings.checkpoint in DEMOS else EVERYDAY
    return Vocabulary.read(settings.vocabulary or usual)


def _names(line: str) -> Names:
    """What a line calls one thing."""
    if line.lstrip().startswith("#"):
        return ()
    parts = (" ".join(part.split()) for part in line.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))
