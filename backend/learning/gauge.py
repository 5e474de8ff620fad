"""The figures of what is accepted, kept up to date while people work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from backend.errors import BackendError

log = logging.getLogger(__name__)

QUIET = 5.0  # seconds without news, so that one who submits much is measured once


class Gauge:
    """Measures projects with news when they are quiet; what cannot be, waits for the next news.

    Args:
        measure: Measures a project.
        quiet: Seconds.
    """

    def __init__(self, measure: Callable[[int], object], quiet: float = QUIET) -> None:
        self._measure = measure
        self._quiet = quiet
        self._heard: dict[int, float] = {}  # when a project had its latest news

    def news(self, project: int) -> None:
        """Remember that accepted work of a project changed; any thread may say so."""
        self._heard[project] = time.monotonic()

    def catch_up(self) -> None:
        """Measure the projects that are quiet."""
        for project, heard in list(self._heard.items()):
            if time.monotonic() - heard < self._quiet:
                continue
            del self._heard[project]  # news that come meanwhile count again
            try:
                self._measure(project)
            except (BackendError, OSError) as error:
                log.warning("what is accepted in project %d is not measured: %s", project, error)
