"""Label Studio's events on their way to the inbox, while the broker is away.

Label Studio sends an event once, whether it is heard or not. So one that the broker does not take,
since it is restarted or has no room, waits here and is sent again: nobody's work is lost by that.
What waits ends with the process; order does not matter to who reads.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from redis.exceptions import RedisError

from backend.inbox import MOST_BYTES, Inbox, written
from backend.labelstudio.events import Event
from backend.outage import Outage

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between tries


class Backlog:
    """The events that wait: bounded, oldest out first.

    Args:
        inbox: Where they go.
        most_bytes: That they may have together, beside the one that is being sent.
        pause: Seconds between tries.
    """

    def __init__(self, inbox: Inbox, most_bytes: int = MOST_BYTES, pause: float = PAUSE) -> None:
        self._inbox = inbox
        self._most_bytes = most_bytes
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._bytes = 0
        self._sending = False
        self._outage = Outage(log)

    def add(self, event: Event) -> None:
        """Send an event; later if the broker does not take it, or has not taken others yet.

        Raises:
            RecursionError: what it holds nests too deep to be written.
        """
        text = written(event)
        if not self._sending and self._sent(text):
            return
        if len(text) > self._most_bytes:  # all others would make room for it, in vain
            log.error(
                "event %s is lost: it alone is more than may wait for the broker", event.action
            )
            return
        log.info("event %s waits for the broker", event.action)
        with self._lock:
            self._waiting.append(text)
            self._make_room(len(text))
            if not self._sending:
                self._sending = True
                threading.Thread(target=self._send, name="backlog", daemon=True).start()

    def _send(self) -> None:
        """Send what waits until nothing does."""
        count = 0
        while (text := self._taken()) is not None:
            if self._sent(text):
                count += 1
                continue
            with self._lock:
                self._waiting.appendleft(text)
                self._make_room(len(text))
            time.sleep(self._pause)
        log.info("the broker has taken the %d events that waited", count)

    def _sent(self, text: str) -> bool:
        """Whether the broker takes an event."""
        try:
            self._inbox.put(text)
        except RedisError as error:
            self._outage.goes_on(error)
            return False
        self._outage.ends()
        return True

    def _taken(self) -> str | None:
        """The oldest, which no longer waits: one that is being sent cannot be told lost as well."""
        with self._lock:
            self._sending = bool(self._waiting)
            if not self._sending:
                return None
            text = self._waiting.popleft()
            self._bytes -= len(text)
            return text

    def _make_room(self, more: int) -> None:
        """Count what has come to wait; where that is too much, the oldest is lost."""
        self._bytes += more
        while self._bytes > self._most_bytes:
            self._bytes -= len(self._waiting.popleft())
            log.error("an event is lost: more wait for the broker than there is room for")
