"""Words and tables for people."""

from __future__ import annotations

import re
import shutil
import sys
import unicodedata
from collections.abc import Sequence

# Control characters, ends of lines, half characters, and what turns the direction of what follows.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

GAP = 2  # between columns


def printable(text: str) -> str:
    """Text that may be anything, in one line that leaves the rest readable: else it is a "?"."""
    return _UNPRINTABLE.sub("?", text)


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 2, width: int | None = None
) -> str:
    """Aligned columns: the first to the left, those that hold words, numbers to the right.

    Columns that do not fit in a width go on below, beside the first one again.
    """
    lines = [[printable(cell) for cell in line] for line in (head, *rows)]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(head))]

    def aligned(line: Sequence[str], columns: Sequence[int]) -> str:
        spaces = {i: " " * (widths[i] - _width(line[i])) for i in columns}
        cells = [line[i] + spaces[i] if i < words else spaces[i] + line[i] for i in columns]
        return (" " * GAP).join(cells).rstrip()

    def drawn(columns: Sequence[int]) -> str:
        rule = (" " * GAP).join("-" * widths[i] for i in columns)
        told = [aligned(line, columns) for line in lines]
        return "\n".join([told[0], rule, *told[1:]])

    return "\n\n".join(map(drawn, _abreast(widths, width)))


def _abreast(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Which columns stand beside each other; all where the first takes more than half."""
    every = [*range(len(widths))]
    if width is None or 2 * widths[0] > width:
        return [every]
    found = [every[:1]]
    for column in every[1:]:
        beside = sum(widths[one] + GAP for one in found[-1])
        if len(found[-1]) > 1 and beside + widths[column] > width:
            found.append(every[:1])
        found[-1].append(column)
    return found


def terminal_width() -> int | None:
    """The columns of the terminal that is written to; None where it is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _width(text: str) -> int:
    """The columns that a text takes in a terminal: 汽 takes two, an accent of its own none."""
    wide = sum(unicodedata.east_asian_width(sign) in {"W", "F"} for sign in text)
    return len(text) + wide - sum(unicodedata.category(sign) in {"Mn", "Me", "Cf"} for sign in text)


def size(count: int) -> str:
    """Bytes in words."""
    for unit, worth in (("GB", 2**30), ("MB", 2**20)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count / 2**10:.0f} kB"


def duration(seconds: float) -> str:
    """Seconds in words, as exact as an estimate is."""
    length = abs(seconds)
    if length < 90:
        return f"{seconds:.0f} s"
    if length < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
