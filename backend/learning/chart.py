"""Curves as a drawing, in SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MARGIN = 48
GAPS = 5  # between the lines of a grid, at most
SAMPLE, LETTER, LINE = 23, 7, 18  # of a legend, in pixels: a line's sample, a letter, a row
LONGEST_NAME = 60  # letters in a legend
# Told apart by those who see no red or no green, too (Okabe and Ito's palette).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
GREY = "#888888"

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """A line with a name."""

    name: str
    points: Sequence[Point]
    colour: str = COLOURS[0]
    dashed: bool = False


def chart(
    title: str,
    series: Sequence[Series],
    across: str,
    *,
    low: float | None = None,
    high: float | None = None,
    width: int = 640,
    height: int = 300,
) -> str:
    """Lines over one pair of axes; nothing if none has two points.

    Args:
        title: What is drawn.
        series: The lines.
        across: What the horizontal axis is.
        low: Where the vertical axis begins, instead of below the least value.
        high: And where it ends.
        width: Of the drawing, in pixels.
        height: And its height, with one row of names.
    """
    drawn = [one for one in series if len(one.points) > 1]
    if not drawn:
        return ""
    xs = [x for one in drawn for x, _ in one.points]
    ys = [y for one in drawn for _, y in one.points]
    columns, rows = ticks(min(xs), max(xs)), ticks(_or(low, min(ys)), _or(high, max(ys)))
    right = width - MARGIN / 2
    names = [_short(one.name) for one in drawn]
    legend = _legend(names, right)
    top = legend[-1][1] + LINE + 4
    height += int(top) - MARGIN
    bottom = height - MARGIN

    def place(point: Point) -> tuple[float, float]:
        x = (point[0] - columns[0]) / (columns[-1] - columns[0])
        y = (point[1] - rows[0]) / (rows[-1] - rows[0])
        return MARGIN + x * (right - MARGIN), bottom - y * (bottom - top)

    parts = []
    for value in rows:
        _, y = place((columns[0], value))
        parts.append(f'<path d="M{MARGIN},{y:.1f}H{right:.1f}" stroke="{GREY}" opacity=".35"/>')
        parts.append(_text(MARGIN - 6, y + 4, f"{value:g}", "end"))
    for value in columns:
        x, _ = place((value, rows[0]))
        parts.append(_text(x, bottom + 18, f"{value:g}", "middle"))
    parts.append(_text((MARGIN + right) / 2, height - 10, across, "middle"))
    for one, name, (beside, above) in zip(drawn, names, legend, strict=True):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, one.points))
        dashes = ' stroke-dasharray="5 4"' if one.dashed else ""
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{one.colour}" stroke-width="2"'
            f"{dashes}><title>{escape(one.name)}</title></polyline>"
        )
        if not one.dashed and len(one.points) <= 40:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{one.colour}"/>'
                for x, y in map(place, one.points)
            ]
        parts.append(
            f'<path d="M{beside:.0f},{above:.0f}h18" stroke="{one.colour}" stroke-width="3"'
            f"{dashes}/>"
        )
        parts.append(_text(beside + SAMPLE, above + 4, name, "start"))
    return (
        f'<svg viewBox="0 0 {width} {height}" '
        f'width="{width}" role="img" font-family="system-ui, sans-serif" font-size="12" '
        f'fill="currentColor"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def _legend(names: Sequence[str], right: float) -> list[Point]:
    """Where the sample of each name begins, in as many rows as they need."""
    places: list[Point] = []
    x, y = float(MARGIN), float(MARGIN - LINE - 4)
    for name in names:
        wide = SAMPLE + LETTER * len(name)
        if places and x + wide > right:
            x, y = float(MARGIN), y + LINE
        places.append((x, y))
        x += wide + LINE
    return places


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def standalone(drawing: str) -> str:
    """A drawing as a file of its own, which has to name the format that it is in."""
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def ticks(low: float, high: float) -> list[float]:
    """Round numbers that span a range, at even gaps."""
    if high <= low:
        high = low + 1
    rough = (high - low) / GAPS
    power = 10.0 ** math.floor(math.log10(rough))
    gap = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    first, last = math.floor(low / gap + 1e-6), math.ceil(high / gap - 1e-6)
    return [round(step * gap, 10) for step in range(first, last + 1)]


def _or(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(said)}</text>'
