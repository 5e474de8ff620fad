"""What is measured of a project's accepted work by itself, while people work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from backend.errors import BackendError

log = logging.getLogger(__name__)

QUIET = 5.0  # seconds without news, so that one who submits much is measured once
PATIENCE = 60.0  # seconds after which news are measured though there is no end to them
SHARE = 20  # a project that takes long is measured for a twentieth of the time at most


@dataclass(slots=True)
class _News:
    """What a project had since it was measured."""

    first: float = inf  # when it came
    latest: float = inf
    count: int = 0
    pressing: bool = False

    def ripe(self, quiet: float) -> float:
        """When they are to be measured."""
        return min(self.latest + quiet, self.first + PATIENCE)


class Gauge:
    """Measures projects with news when they are quiet.

    News of what cannot be measured count when the next come, as if they had come with them.

    Args:
        measure: Measures a project.
        what: Is measured, for the log.
        quiet: Seconds.
        first: How many news it takes to measure. News that are pressing are enough by themselves.
        growth: How many times as many it takes each time that these were enough.
    """

    def __init__(
        self,
        measure: Callable[[int], object],
        what: str,
        quiet: float = QUIET,
        first: int = 1,
        growth: int = 1,
    ) -> None:
        self._measure = measure
        self._what = what
        self._quiet = quiet
        self._first = first
        self._growth = growth
        self._news: dict[int, _News] = {}
        self._enough: dict[int, int] = {}  # how many news a project is measured after next
        self._rests: dict[int, float] = {}  # until when it is left alone

    def news(self, project: int, count: int = 1, pressing: bool = False) -> None:
        """Remember that accepted work of a project changed; any thread may say so."""
        now = time.monotonic()
        heard = self._news.setdefault(project, _News())
        heard.first, heard.latest = min(heard.first, now), now
        heard.count += count
        heard.pressing |= pressing

    def catch_up(self) -> bool:
        """Measure the next project that has enough news and is quiet; whether there was one.

        One at a time, so that nobody who waits for something else waits for all of them.
        """
        for project, heard in list(self._news.items()):
            begun, enough = time.monotonic(), self._enough.get(project, self._first)
            if not heard.pressing and heard.count < enough:
                continue
            if begun < max(heard.ripe(self._quiet), self._rests.get(project, begun)):
                continue
            del self._news[project]  # what comes meanwhile counts again
            try:
                self._measure(project)
                if heard.count >= enough:  # those that press do not put off the others
                    self._enough[project] = enough * self._growth
            except (BackendError, OSError) as error:
                log.warning("%s of project %d is not measured: %s", self._what, project, error)
                self._owe(project, heard)
            except Exception:
                log.exception("%s of project %d is not measured: a defect", self._what, project)
            took = time.monotonic() - begun
            self._rests[project] = begun + SHARE * took
            return True
        return False

    def _owe(self, project: int, heard: _News) -> None:
        """Keep news for the next, which may be there already."""
        later = self._news.setdefault(project, _News())
        later.count += heard.count
        later.pressing |= heard.pressing
