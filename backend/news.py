"""What Label Studio tells of accepted work is kept, and counted as news for the training lane.

Events wait in the inbox until what they tell is on the disk; only then they are forgotten. One
process at a time reads them, in their order.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import LockError

from backend.inbox import Inbox
from backend.learning.collected import Collected
from backend.training import TrainingLane

log = logging.getLogger(__name__)

AT_ONCE = 50  # events taken together
LOCK, HOLD = "promptbrush:training:reader", 60  # one reads, for so many seconds at most

Json = dict[str, Any]


class NewsReader:
    """Empties the inbox.

    Args:
        connection: To the broker.
        collected: Keeps what events tell of accepted work.
        after: News that make a training due.
        quiet: Seconds without more after which it is.
        heard: Is told of each project with news.
    """

    def __init__(
        self,
        connection: Redis,
        collected: Collected,
        after: int,
        quiet: float,
        heard: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._collected = collected
        self._after = after
        self._quiet = quiet
        self._heard = heard
        self._inbox = Inbox(connection)
        self._lane = TrainingLane(connection)

    def read(self) -> bool:
        """Read some events, unless another process does; gives whether there are more.

        Raises:
            OSError: what they tell cannot be kept, so that they wait.
        """
        lock = self._connection.lock(LOCK, timeout=HOLD, thread_local=False)
        if not lock.acquire(blocking=False):
            return False
        try:
            events = self._inbox.oldest(AT_ONCE)
            news: Counter[int] = Counter()
            for _, event in events:
                news += self._take(event)
            if events:
                with self._connection.pipeline() as pipeline:
                    self._inbox.forget([name for name, _ in events], pipeline)
                    for project, count in news.items():
                        self._lane.news(pipeline, project, count, self._after, self._quiet)
                    pipeline.execute()
            for project in news:
                self._heard(project)
            return len(events) == AT_ONCE
        finally:
            with contextlib.suppress(LockError):
                lock.release()

    def _take(self, event: Json) -> Counter[int]:
        """Keep what an event tells; gives how many annotations came, changed or went, by project.

        Raises:
            OSError: it cannot be kept.
        """
        project = event["project"]
        if project is None:
            return Counter()
        before = self._collected.counts(project)
        try:
            self._collected.take(event)
        except (KeyError, TypeError, ValueError):
            # it would be as unreadable the next time
            log.exception("an event of project %d cannot be read and is left out", project)
        return Counter({project: self._collected.counts(project).total - before.total})
