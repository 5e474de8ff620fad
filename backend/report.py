"""Words and tables for people."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Control characters, ends of lines, half characters, and what turns the direction of what follows.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text that may be anything, in one line that leaves the rest readable: else it is a "?"."""
    return _UNPRINTABLE.sub("?", text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2) -> str:
    """Aligned columns: the first to the left, those that hold words, numbers to the right."""
    lines = [[printable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(head))]

    def aligned(line: Sequence[str]) -> str:
        spaces = [" " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)]
        cells = [
            cell + space if i < words else space + cell
            for i, (cell, space) in enumerate(zip(line, spaces, strict=True))
        ]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([aligned(lines[0]), rule, *map(aligned, lines[1:])])


def _width(text: str) -> int:
    """The columns that a text takes in a terminal: 汽 takes two, an accent of its own none."""
    wide = sum(unicodedata.east_asian_width(sign) in {"W", "F"} for sign in text)
    return len(text) + wide - sum(unicodedata.category(sign) in {"Mn", "Me", "Cf"} for sign in text)


def duration(seconds: float) -> str:
    """Seconds in words, as exact as an estimate is."""
    length = abs(seconds)
    if length < 90:
        return f"{seconds:.0f} s"
    if length < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
