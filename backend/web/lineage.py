"""Projects' versions for the page: where each comes from, how good it is, what it saves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Response
from flask.helpers import send_from_directory
from werkzeug.exceptions import NotFound

from backend.learning.acceptance import FILE, WEIGHTS, Acceptance, Figures
from backend.learning.card import Version
from backend.learning.versions import REPORTS, Versions

MOST_PROJECTS = 20  # shown, those with the latest versions
MOST_VERSIONS = 10  # shown of a project, the latest, beside the one that is served
REPORT = re.compile(r"[0-9a-f]{16}\.(html|json)")
# A report holds its own style and pictures, and nothing else.
GUARD = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Line:
    """A version of a project, or the base checkpoint, which has none."""

    version: Version | None
    served: bool
    report: bool  # whether there is one
    accepted: Figures | None

    @property
    def images(self) -> int | None:
        """That it was made and judged with."""
        data = self._metrics.get("data")
        images = data.get("images") if isinstance(data, dict) else None
        counts = images.values() if isinstance(images, dict) else [None]
        return sum(counts) if all(isinstance(count, int) for count in counts) else None

    @property
    def iou(self) -> float | None:
        """Mean on the held-out tasks."""
        return self._number("iou")

    @property
    def iou_before(self) -> float | None:
        """Of what was served when it was made, on the same tasks."""
        return self._number("active_iou")

    @property
    def _metrics(self) -> dict[str, Any]:
        return {} if self.version is None else dict(self.version.card.metrics)

    def _number(self, name: str) -> float | None:
        """A figure from 0 to 1; None too where a card was edited into nonsense."""
        value = self._metrics.get(name)
        return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else None


@dataclass(frozen=True, slots=True)
class Lineage:
    """A project's latest versions, newest first, the base checkpoint last."""

    project: int
    lines: tuple[Line, ...]
    older: int  # how many more versions there are
    assumption: str  # that the time saved rests on; "" where there is none


class Lineages:
    """Reads them from the folder of all projects' versions."""

    def __init__(self, folder: Path, versions: Versions) -> None:
        self._folder = folder
        self._versions = versions
        self._accepted: dict[int, tuple[int, Acceptance]] = {}  # with the time of its file
        self._made: dict[int, tuple[int, str]] = {}  # with the time of the project's folder

    def latest(self, base: str | None) -> tuple[list[Lineage], int]:
        """The projects with the latest versions, as they are served with a base checkpoint.

        And how many more projects have some.
        """
        made = {project: self._latest(project) for project in self._versions.projects()}
        found = sorted(filter(made.get, made), key=made.__getitem__, reverse=True)
        shown = found[:MOST_PROJECTS]
        return [self._lineage(project, base) for project in shown], len(found) - len(shown)

    def accepted(self, project: int) -> Acceptance:
        """What became of a project's predictions; read again when it was measured again."""
        try:
            written = (self._folder / str(project) / FILE).stat().st_mtime_ns
        except OSError:
            return Acceptance()
        held = self._accepted.get(project)
        if held is None or held[0] != written:
            held = self._accepted[project] = written, Acceptance.of(self._folder, project)
        return held[1]

    def report(self, project: int, name: str) -> Response:
        """A version's report, `<version>.html` or `.json`.

        Raises:
            NotFound: there is none of that name.
        """
        if not REPORT.fullmatch(name):
            raise NotFound("A report is named by its version, such as 1f0c93aa7be01c55.html.")
        answer = send_from_directory((self._reports(project)).absolute(), name)
        answer.headers["Content-Security-Policy"] = GUARD
        return answer

    def _latest(self, project: int) -> str:
        """When its latest version was made; "" where none can be read.

        Of hundreds of projects a few are shown, so the others are read only when they change.
        """
        changed = (self._folder / str(project)).stat().st_mtime_ns
        held = self._made.get(project)
        if held is None or held[0] != changed:
            versions = self._versions.versions(project)
            held = self._made[project] = changed, versions[-1].created if versions else ""
        return held[1]

    def _reports(self, project: int) -> Path:
        return self._folder / str(project) / REPORTS

    def _lineage(self, project: int, base: str | None) -> Lineage:
        versions = self._versions.versions(project)
        served = self._versions.active(project, base)
        accepted = self.accepted(project)
        figures = accepted.figures()
        lines = [
            Line(
                version,
                served is not None and version.id == served.id,
                (self._reports(project) / f"{version.id}.html").is_file(),
                figures.get(version.id[:WEIGHTS]),
            )
            for version in reversed(versions)
        ]
        shown = [line for place, line in enumerate(lines) if place < MOST_VERSIONS or line.served]
        older = len(lines) - len(shown)
        before = figures.get(base[:WEIGHTS]) if base else None
        shown.append(Line(None, served is None, False, before))
        return Lineage(project, tuple(shown), older, accepted.assumption if figures else "")
