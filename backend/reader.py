"""Reads Label Studio's events: what annotators accepted is kept, and counted as news.

No event stands in the way of others. One that can never be read is set aside, where a person can
find it. One that cannot be kept now, since the disk is full or a folder is closed, stays in the
broker, and all that stayed is tried again after a while.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from backend.errors import BackendError
from backend.holding import HOLD, holding
from backend.inbox import Inbox
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.events import Kind
from backend.labelstudio.interaction import phrases
from backend.learning.collected import Collected
from backend.learning.gauge import Gauge
from backend.settings import Settings
from backend.training import TrainingLane

log = logging.getLogger(__name__)

EVENTS = 50  # taken together
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0  # seconds until what could not be kept is tried again
LOCK = "promptbrush:training:reader"  # one reads

# What one annotation's event has in common with another's.
SHARED = ("project", "label_config", "project_created_at", "project_updated_at")

Json = dict[str, Any]
Named = tuple[str, Json]  # an event with the inbox's id of it


@dataclass(frozen=True, slots=True)
class _Told:
    """What events told of a project: how much had happened before them, and after them."""

    before: int
    total: int
    pressing: bool  # whether there is a phrase that was not typed before

    def and_then(self, later: _Told) -> _Told:
        """These and later ones."""
        return _Told(self.before, later.total, self.pressing or later.pressing)


class Reader:
    """Reads events on an open connection; of several readers one at a time does.

    Args:
        connection: To the broker.
        collected: Keeps what events tell of accepted work.
        lane: Where enough news make a training due.
        gauges: Are told of news; those of a phrase that was not typed before are pressing.
        settings: When a training is due.
    """

    def __init__(
        self,
        connection: Redis,
        collected: Collected,
        lane: TrainingLane,
        gauges: Sequence[Gauge],
        settings: Settings,
    ) -> None:
        self._connection = connection
        self._collected = collected
        self._lane = lane
        self._gauges = gauges
        self._settings = settings
        self._inbox = Inbox(connection)
        self._typed: dict[int, set[str]] = {}  # phrases, by project
        self._after = ""  # the event that was looked at last, while any before it waits
        self._missed = False  # whether any up to there waits
        self._again: float | None = None  # when all that waits is tried again
        self._pause = FIRST_PAUSE
        self._waiting: set[int | None] = set()  # projects of which the log says that they wait

    def read(self) -> bool:
        """Read some events; gives whether there may be more.

        Raises:
            RedisError: the broker does not answer.
        """
        lock = self._connection.lock(LOCK, timeout=HOLD, thread_local=False)
        if not lock.acquire(blocking=False):
            return False
        with holding(lock):
            if self._again is not None and time.monotonic() >= self._again:
                self._after, self._missed, self._again = "", False, None
            events = self._inbox.oldest(EVENTS, self._after)
            read: list[str] = []
            told: dict[int, _Told] = {}
            for alike in _alike(events):
                for name, event, taken in self._take(alike):
                    read.append(name)
                    if taken is not None:
                        project = event["project"]
                        told[project] = told[project].and_then(taken) if project in told else taken
            if not lock.owned():  # another reads on from here by now, and tells
                return True
            after, quiet = self._settings.train_after, self._settings.train_quiet
            with self._connection.pipeline() as pipeline:
                self._inbox.forget(read, pipeline)
                for project, one in told.items():
                    self._lane.news(pipeline, project, one.before, one.total, after, quiet)
                _, *counts = pipeline.execute()
            for (project, one), count in zip(told.items(), counts, strict=True):
                for gauge in self._gauges if count else ():
                    gauge.news(project, count, one.pressing)
            more = len(events) == EVENTS
            if self._missed and events:
                self._after = events[-1][0]
            if not more and self._again is None:
                self._end_pass()
            return more

    def _take(self, alike: Sequence[Named]) -> Iterator[tuple[str, Json, _Told | None]]:
        """Keep what events tell, as one, or one by one where that fails; gives those it is done of.

        What is read at a time waits for the disk once, and not once for each.
        """
        if len(alike) > 1:
            saved = [one for _, event in alike for one in event["saved"]]
            try:
                taken = self._kept({**alike[-1][1], "saved": saved})
            except Exception as error:  # which of them is to blame is found out below
                log.debug("%d events are read one by one: %r", len(alike), error)
            else:
                yield from ((name, event, taken) for name, event in alike)
                return
        for name, event in alike:
            try:
                taken = self._taken(name, event)
            except OSError as error:
                self._wait(event.get("project"), error)
                continue
            yield name, event, taken

    def _kept(self, event: Json) -> _Told | None:
        """Keep what an event tells; None if it tells nothing of a project.

        Raises:
            OSError: it cannot be kept now.
        """
        if event["project"] is None:
            return None
        before, after = self._collected.take(event)
        pressing = after != before and self._says_something_new(event)
        return _Told(before.total, after.total, pressing)

    def _taken(self, name: str, event: Json) -> _Told | None:
        """Keep what an event tells, or set it aside; None if it tells nothing of a project.

        Raises:
            OSError: it cannot be kept now.
        """
        try:
            return self._kept(event)
        except Exception as error:  # whatever it is: unless the disk is to blame, it would be again
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            place = self._collected.set_aside(name, event)
            log.exception(
                "event %s (%s) of project %s can never be read and is set aside in %s: %r",
                name,
                event.get("action"),
                event.get("project"),
                place,
                error,
            )
            return None

    def _wait(self, project: int | None, error: OSError) -> None:
        """Leave an event of a project for later."""
        self._missed = True
        if project not in self._waiting:
            self._waiting.add(project)
            log.error(
                "events of project %s wait, since what they tell cannot be kept: %s. They are "
                "tried again, at last every %.0f s.",
                project,
                error,
                LONGEST_PAUSE,
            )

    def _end_pass(self) -> None:
        """All events were looked at: what waits is tried again after a pause, ever longer.

        Where nothing waits, what cannot be kept from now on is told again, and soon tried again.
        """
        if self._missed:
            self._again = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return
        for project in self._waiting:
            log.info("events of project %s are kept again", project)
        self._waiting.clear()
        self._pause = FIRST_PAUSE

    def _says_something_new(self, event: Mapping[str, Any]) -> bool:
        """Whether an annotation has a phrase that was not typed before, as far as is remembered."""
        if event["kind"] != Kind.ANNOTATED:
            return False
        project = event["project"]
        try:
            config = parse_label_config(self._collected.label_config(project) or "")
        except BackendError:
            return False
        said = {
            phrase for saved in event["saved"] for phrase in phrases(saved.get("result"), config)
        }
        known = self._typed.setdefault(project, set())
        new = said - known
        known |= said
        return bool(new)


def _alike(events: Sequence[Named]) -> list[list[Named]]:
    """Events that differ in nothing but the one annotation that was saved, together."""
    found: dict[object, list[Named]] = {}
    for name, event in events:
        one = event.get("kind") == Kind.ANNOTATED and len(event.get("saved") or ()) == 1
        rest = tuple((part, event.get(part)) for part in SHARED)
        found.setdefault(rest if one else name, []).append((name, event))
    return list(found.values())
