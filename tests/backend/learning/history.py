"""A project whose versions were made, served and judged by annotators."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from backend.learning.acceptance import FILE, Row, Work
from backend.learning.card import Card, Version
from backend.learning.versions import Versions

BASE = "d" * 64


def work(number: int, weights: str, untouched: bool, iou: float = 0.8) -> Work:
    """An annotation that took eight seconds, of one mask that was predicted."""
    row = Row("Car", True, 0.7, 1.0 if untouched else iou, untouched)
    return Work(number, number, "2026", False, weights[:8], None, True, 1, 8.0, (row,))


def make(folder: Path, project: int = 3, base: str = BASE) -> list[Version]:
    """Three versions: one replaced, one rejected, one served; with reports, and work accepted."""
    versions = Versions(folder)
    made: list[Version] = []
    for number, (iou, before) in enumerate([(0.62, 0.31), (0.55, 0.62), (0.78, 0.62)]):
        metrics = {
            "iou": iou,
            "active_iou": before,
            "data": {"images": {"training": 14 + 8 * number, "held-out": 6}},
        }
        parent = made[0].id if number else None
        card = Card(base, parent, metrics=metrics)
        made.append(versions.keep(project, f"{project} {number}".encode(), card))
    gain = "mean IoU {} -> {} on 6 held-out tasks"
    versions.activate(project, made[0].id, gain.format(0.31, 0.62))
    versions.reject(project, made[1].id, 'the label "<b>Car</b>" falls from 0.700 to 0.550')
    versions.activate(project, made[2].id, gain.format(0.62, 0.78))
    reports = folder / str(project) / "reports"
    reports.mkdir()
    (reports / f"{made[2].id}.html").write_text("<style>p { color: red }</style><p>Report</p>")
    (reports / f"{made[2].id}.json").write_text("{}")
    works = [
        *(work(n, base, untouched=n < 2) for n in range(10)),
        *(work(n, made[0].id, untouched=n < 16) for n in range(10, 20)),
        *(work(n, made[2].id, untouched=n < 29) for n in range(20, 30)),
    ]
    content = {"annotations": [asdict(one) for one in works]}
    (folder / str(project) / FILE).write_text(json.dumps(content))
    return made
