"""Reads Label Studio's events: what annotators accepted is kept, and counted as news."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import LockError

from backend.errors import BackendError
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
LOCK, READING = "promptbrush:training:reader", 60  # one reads, for so many seconds at most

Json = dict[str, Any]


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

    def read(self) -> bool:
        """Read some events; gives whether there may be more.

        Raises:
            RedisError: the broker does not answer.
            OSError: what they tell cannot be kept, and they wait.
        """
        lock = self._connection.lock(LOCK, timeout=READING, thread_local=False)
        if not lock.acquire(blocking=False):
            return False
        try:
            events = self._inbox.oldest(EVENTS)
            news: Counter[int] = Counter()
            pressing: set[int] = set()
            for _, event in events:
                project, count = event["project"], self._taken(event)
                if count:
                    news[project] += count
                    pressing |= {project} if self._says_something_new(event) else set()
            after, quiet = self._settings.train_after, self._settings.train_quiet
            with self._connection.pipeline() as pipeline:
                self._inbox.forget([name for name, _ in events], pipeline)
                for project, count in news.items():
                    self._lane.news(pipeline, project, count, after, quiet)
                pipeline.execute()
            for project, count in news.items():
                for gauge in self._gauges:
                    gauge.news(project, count, project in pressing)
            return len(events) == EVENTS
        finally:
            try:
                lock.release()
            except LockError:
                log.debug("reading took longer than the lock is held")

    def _taken(self, event: Json) -> int:
        """Keep what an event tells; gives how many annotations came, changed or went.

        Raises:
            OSError: it cannot be kept.
        """
        project = event["project"]
        if project is None:
            return 0
        before = self._collected.counts(project)
        try:
            self._collected.take(event)
        except (KeyError, TypeError, ValueError):
            # it would be as unreadable the next time
            log.exception("an event of project %d cannot be read and is left out", project)
        return self._collected.counts(project).total - before.total

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
