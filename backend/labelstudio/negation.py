"""What a phrase asks for, and what it says that it is not.

Text encoders do not know what "not" means: "a car, not its shadow" is closer to shadows than
"a car" is. So what follows a "not" is asked for by itself.
"""

import re
import string
from collections.abc import Iterable

_GAP = r"\s,;，；、–—(（"  # what may stand before a "not", on any keyboard
# a gap is entered where it begins only: from each of its signs anew, a long one would take minutes
NOT = re.compile(rf"(?:^|(?<![{_GAP}])[{_GAP}]+)(?:(?:but|and)\s+)?not\s+", re.IGNORECASE)
# what may stand around a phrase: spaces of any keyboard, those that nobody sees, what parts phrases
EDGES = f"{string.whitespace}\u00a0\u3000\u200b\ufeff,;，；、"
AROUND = f"{EDGES}\"'`“”„‘’«»‹›「」:：.。!！¿¡-–—•*"  # and around a label's name


def understood(phrase: str) -> tuple[str, tuple[str, ...]]:
    """What a phrase asks for, "" if nothing, and what it says it is not."""
    wanted, *unwanted = (part.strip(EDGES) for part in NOT.split(phrase.strip()))
    closed = (part.rstrip(")）") for part in unwanted)  # "a car (not its shadow)"
    return wanted, tuple(part for part in closed if part)


def heard(texts: Iterable[str], name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a label's texts ask for, and what they say it is not, each once.

    Its own `name` asks for itself, whatever is in it: "not ripe".
    """
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    for text in texts:
        said, others = (text, ()) if text.casefold() == name.casefold() else understood(text)
        wanted |= {said: None} if said else {}
        unwanted |= dict.fromkeys(others)
    return tuple(wanted), tuple(unwanted)
