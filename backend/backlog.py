"""Label Studio's events on their way to the inbox, while the broker is away.

Label Studio sends an event once, whether it is heard or not. So one that the broker does not take,
since it is restarted or has no room, waits here and is sent again: nobody's work is lost by that.
What waits is in files too, which the next process sends where this one ends; an event that is read
twice is as good as read once. Order does not matter to who reads.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import RedisError

from backend.durable import rewrite
from backend.inbox import MOST_BYTES, Inbox, written
from backend.labelstudio.events import Event
from backend.outage import Outage

log = logging.getLogger(__name__)

PAUSE = 1.0  # seconds between tries


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An event that waits."""

    text: str
    file: Path

    def keep(self) -> None:
        """Have it outlive this process, where the disk allows that."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            rewrite(self.file, self.text.encode())
        except OSError as error:
            log.warning("an event that waits for the broker ends with this process: %s", error)

    def forget(self) -> None:
        """It waits no longer."""
        with suppress(OSError):
            self.file.unlink()


class Backlog:
    """The events that wait: bounded, oldest out first.

    Args:
        inbox: Where they go.
        folder: Where they are kept; what an earlier process left there is sent, too.
        most_bytes: That they may have together, beside the one that is being sent.
        pause: Seconds between tries.
    """

    def __init__(
        self, inbox: Inbox, folder: Path, most_bytes: int = MOST_BYTES, pause: float = PAUSE
    ) -> None:
        self._inbox = inbox
        self._folder = folder
        self._most_bytes = most_bytes
        self._pause = pause
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._sending = False
        self._outage = Outage(log)
        for left in _left(folder):
            self._wait(left)

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
        one = _Waiting(text, self._folder / f"{time.time_ns():020}-{uuid.uuid4().hex}.json")
        one.keep()
        self._wait(one)

    def _wait(self, one: _Waiting) -> None:
        """Have an event sent when its turn has come."""
        with self._lock:
            self._waiting.append(one)
            self._make_room(len(one.text))
            if not self._sending:
                self._sending = True
                threading.Thread(target=self._send, name="backlog", daemon=True).start()

    def _send(self) -> None:
        """Send what waits until nothing does."""
        count = 0
        while (one := self._taken()) is not None:
            if self._sent(one.text):
                one.forget()
                count += 1
                continue
            with self._lock:
                self._waiting.appendleft(one)
                self._make_room(len(one.text))
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

    def _taken(self) -> _Waiting | None:
        """The oldest, which no longer waits: one that is being sent cannot be told lost as well."""
        with self._lock:
            self._sending = bool(self._waiting)
            if not self._sending:
                return None
            one = self._waiting.popleft()
            self._bytes -= len(one.text)
            return one

    def _make_room(self, more: int) -> None:
        """Count what has come to wait; where that is too much, the oldest is lost."""
        self._bytes += more
        while self._bytes > self._most_bytes:
            oldest = self._waiting.popleft()
            self._bytes -= len(oldest.text)
            oldest.forget()
            log.error("an event is lost: more wait for the broker than there is room for")


def _left(folder: Path) -> list[_Waiting]:
    """What an earlier process left, oldest first."""
    found = []
    for file in sorted(folder.glob("[0-9]*.json")):  # others are unfinished
        try:
            text = file.read_text(encoding="utf-8")
            json.loads(text)  # who reads events from the broker relies on that
            found.append(_Waiting(text, file))
        except (OSError, ValueError) as error:
            log.warning("%s, an event that waited, cannot be read: %s", file, error)
    return found
