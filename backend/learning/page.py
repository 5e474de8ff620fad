"""A training's report as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from backend.inference.scores import ABSENT
from backend.learning.chart import COLOURS, GREY, Series, chart
from backend.learning.evaluate import Evaluation
from backend.learning.promotion import Verdict
from backend.report import printable

WIDTH = 420  # of a chart, in pixels: on a phone, letters of a wider one are too small to read
STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  overflow-wrap: anywhere }
div { overflow-x: auto; margin: 1rem 0 } table { border-collapse: collapse }
th, td { padding: .2rem .8rem; text-align: left }
* + td, th + th { text-align: right; overflow-wrap: normal } th:first-child { min-width: 8rem }
tr + tr > * { border-top: 1px solid #8884 } [scope=row] { font-weight: normal }
figure { display: inline-block; margin: 0 1rem 1rem 0 } img, svg { max-width: 100% }
"""


def page(
    title: str,
    was: str,
    share: float,
    verdict: Verdict,
    evaluation: Evaluation,
    history: Sequence[tuple[int, float, float]],
    account: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> str:
    """The page; everything in it that came from people is escaped.

    Args:
        title: Its heading.
        was: What was served until then.
        share: Of what was trained, how much the candidate is.
        verdict: On the candidate.
        evaluation: Both on the held-out tasks.
        history: Step, loss and IoU of each look.
        account: What was used, and what was left out.
        settings: Of the training.
    """
    active, candidate = evaluation.means()
    labels = [
        [f"{label}{where}", f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}", str(images)]
        for present, where in ((True, ""), (False, ", where it is not"))
        for label, (old, new, images) in evaluation.labels(present).items()
    ]
    if labels:
        total = f"{active:.3f}", f"{candidate:.3f}", f"{candidate - active:+.3f}"
        labels.append([f"all, with a weight of {ABSENT} where it is not", *total, ""])
    used = [[part, str(count)] for part, count in account["images"].items()]
    left = [
        [reason, str(told["count"]), ", ".join(map(str, told["tasks"]))]
        for reason, told in account["left_out"].items()
    ]
    figures = "".join(
        f'<figure><img src="{case.picture}" alt="accepted and found masks">'
        f"<figcaption>task {case.score.task}, {escape(printable(case.score.label))}: "
        f"IoU {case.candidate:.2f}, before {case.active:.2f}</figcaption></figure>"
        for case in evaluation.worst
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p><strong>{'Promoted' if verdict.promoted else 'Rejected'}</strong>: "
        f"{escape(verdict.reason)}</p>",
        f"<p>“Active” is what was served until then: {escape(was)}.</p>",
        "<h2>IoU on held-out tasks</h2>",
        _table("IoU", ["label", "active", "candidate", "difference", "images"], labels),
        "<p>Where a label is not, to find nothing counts 1, and anything else 0. Few images are "
        "looked at in several ways (mirrored, nearer, turned, in another light), of which the mean "
        "counts. The candidate is asked as it would be served, by what was measured with it.</p>",
        f"<p>{escape(_everyday(evaluation))}</p>",
        "<h2>Training</h2>",
        _training(history, share),
        "<h2>Calibration</h2>",
        _calibration(evaluation),
        "<h2>Worst answers</h2>",
        figures or "<p>None.</p>",
        "<h2>Data</h2>",
        _table("Images", ["images for", "count"], used),
        _table("Left out", ["left out because", "count", "such as task"], left) if left else "",
        "<h2>Settings</h2>",
        _table("Settings", ["setting", "value"], [[one, str(settings[one])] for one in settings]),
    ]
    return (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        f"<style>{STYLE}</style><main>{''.join(parts)}</main></html>\n"
    )


def _everyday(evaluation: Evaluation) -> str:
    """What became of what nobody labeled."""
    active, candidate = evaluation.kept
    return (
        f"Everyday phrases that the base checkpoint finds something for are answered as it does: "
        f"mean IoU with its masks {active.agreement:.3f} -> {candidate.agreement:.3f}, "
        f"{candidate.answers} answers."
    )


def _table(name: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that a keyboard can move sideways, where a screen is narrower than it."""
    cells = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    table = f"<table><tr>{cells}</tr>{body}</table>"
    return f'<div tabindex="0" role="group" aria-label="{name}">{table}</div>'


def _figure(drawing: str, caption: str) -> str:
    if not drawing:  # of a line with one point, such as that of a training with one look
        return ""
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def _training(history: Sequence[tuple[int, float, float]], share: float) -> str:
    """How the loss fell and the IoU rose."""
    ious = [(float(step), iou) for step, _, iou in history]
    losses = [(float(step), loss) for step, loss, _ in history if step]
    taken = "the weights of the highest are taken"
    if share < 1:
        taken += f", moved back to {share:.0%} of their change so that less is forgotten"
    return _figure(
        chart("IoU on validation tasks", [Series("IoU", ious)], "step", low=0, high=1, width=WIDTH),
        f"mean IoU on validation tasks: of the points after the first, {taken}",
    ) + _figure(
        chart("loss", [Series("loss", losses, COLOURS[1])], "step", low=0, width=WIDTH),
        "loss, smoothed",
    )


def _calibration(evaluation: Evaluation) -> str:
    """The share of pixels that is right against the probability they were given."""
    active, candidate = evaluation.calibration
    series = [
        Series("exact", [(0, 0), (1, 1)], GREY, dashed=True),
        Series("active", [(said, right) for said, right, _ in active.points()], COLOURS[1]),
        Series("candidate", [(said, right) for said, right, _ in candidate.points()]),
    ]
    return _figure(
        chart("reliability", series, "probability", low=0, high=1, width=WIDTH, height=380),
        "share of pixels that have the label, by the probability that they were given; expected "
        f"calibration error {active.error():.3f} -> {candidate.error():.3f}, of pixels given 0.1 "
        "or more",
    )
