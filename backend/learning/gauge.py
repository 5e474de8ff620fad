"""The figures of what is accepted, kept up to date while people work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from backend.errors import BackendError

log = logging.getLogger(__name__)

QUIET = 5.0  # seconds without news, so that one who submits much is measured once
SHARE = 20  # a project that takes long is measured for a twentieth of the time at most


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
        self._rests: dict[int, float] = {}  # until when it is left alone

    def news(self, project: int) -> None:
        """Remember that accepted work of a project changed; any thread may say so."""
        self._heard[project] = time.monotonic()

    def catch_up(self) -> None:
        """Measure the projects that are quiet."""
        for project, heard in list(self._heard.items()):
            begun = time.monotonic()
            if begun < max(heard + self._quiet, self._rests.get(project, begun)):
                continue
            del self._heard[project]  # news that come meanwhile count again
            try:
                self._measure(project)
            except (BackendError, OSError) as error:
                log.warning("what is accepted in project %d is not measured: %s", project, error)
            took = time.monotonic() - begun
            self._rests[project] = begun + SHARE * took
