"""A training's report as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from backend.learning.evaluate import Evaluation
from backend.learning.promotion import Verdict

WIDTH, HEIGHT, MARGIN = 640, 240, 40
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: left }
td + td, th + th { text-align: right } tr + tr td { border-top: 1px solid #8884 }
figure { display: inline-block; margin: 0 1rem 1rem 0 } img, svg { max-width: 100% }
"""


def page(
    title: str,
    verdict: Verdict,
    evaluation: Evaluation,
    history: Sequence[tuple[int, float, float]],
    account: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """The page; everything in it that came from people is escaped."""
    active, candidate = evaluation.means()
    labels = [
        [label, f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}", str(images)]
        for label, (old, new, images) in evaluation.labels().items()
    ]
    labels.append(
        [
            "all, absent ones too",
            f"{active:.3f}",
            f"{candidate:.3f}",
            f"{candidate - active:+.3f}",
            "",
        ]
    )
    used = [[part, str(count)] for part, count in account["images"].items()]
    left = [
        [reason, str(told["count"]), ", ".join(map(str, told["tasks"]))]
        for reason, told in account["left_out"].items()
    ]
    figures = "".join(
        f'<figure><img src="{case.picture}" alt="accepted and found masks">'
        f"<figcaption>task {case.score.task}, {escape(case.score.label)}: "
        f"IoU {case.score.candidate:.2f}, before {case.score.active:.2f}</figcaption></figure>"
        for case in evaluation.worst
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p><strong>{'Promoted' if verdict.promoted else 'Rejected'}</strong>: "
        f"{escape(verdict.reason)}</p>",
        "<h2>IoU on held-out tasks</h2>",
        _table(["label", "active", "candidate", "difference", "images"], labels),
        "<h2>Training</h2>",
        _curve("IoU on validation tasks", [(step, iou) for step, _, iou in history]),
        _curve("loss", [(step, loss) for step, loss, _ in history if step]),
        "<h2>Worst answers</h2>",
        figures or "<p>None.</p>",
        "<h2>Data</h2>",
        _table(["images for", "count"], used),
        _table(["left out because", "count", "such as task"], left) if left else "",
        "<h2>Settings</h2>",
        _table(["setting", "value"], [[name, str(value)] for name, value in settings.items()]),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>{''.join(parts)}</html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"


def _curve(title: str, points: Sequence[tuple[int, float]]) -> str:
    """A curve as a drawing, from 0 or the least value to the largest."""
    if len(points) < 2:
        return ""
    last, top = points[-1][0], max(value for _, value in points) or 1.0
    low = min(0.0, *(value for _, value in points))
    across, along = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    line = " ".join(
        f"{MARGIN + across * step / last:.1f},"
        f"{HEIGHT - MARGIN - along * (value - low) / (top - low):.1f}"
        for step, value in points
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">'
        f"<title>{escape(title)}</title>"
        f'<path d="M{MARGIN},{MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" '
        f'stroke="#888"/><polyline points="{line}" fill="none" stroke="#0072b2" '
        f'stroke-width="2"/><g font-size="12" fill="currentColor">'
        f'<text x="{MARGIN}" y="{MARGIN - 8}">{top:.3f}</text>'
        f'<text x="{MARGIN}" y="{HEIGHT - MARGIN + 18}">{low:.3f}</text>'
        f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - MARGIN + 18}" text-anchor="end">'
        f"step {last}</text></g></svg><figcaption>{escape(title)}</figcaption></figure>"
    )
