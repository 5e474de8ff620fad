"""Events that wait for the broker."""

import logging
import threading
from typing import cast

import pytest
from redis.exceptions import ConnectionError

from backend.backlog import Backlog
from backend.inbox import Inbox
from backend.labelstudio.events import Event, Kind

LIMIT = 10.0  # seconds for what other threads do


class SlowInbox:
    """Refuses the first event; takes the others when it is let go."""

    def __init__(self) -> None:
        self.refused = False
        self.busy = threading.Event()
        self.let_go = threading.Event()
        self.taken: list[str] = []

    def put(self, text: str) -> None:
        if not self.refused:
            self.refused = True
            raise ConnectionError("the broker is away")
        self.busy.set()
        assert self.let_go.wait(LIMIT)
        self.taken.append(text)


def test_an_event_is_either_sent_or_told_lost_never_both(
    caplog: pytest.LogCaptureFixture,
) -> None:
    inbox = SlowInbox()
    backlog = Backlog(cast(Inbox, inbox), most_bytes=1000, pause=0.0)
    with caplog.at_level(logging.ERROR):
        backlog.add(_event(0))
        assert inbox.busy.wait(LIMIT)
        for number in range(1, 20):
            backlog.add(_event(number))
        inbox.let_go.set()
        for thread in threading.enumerate():
            if thread.name == "backlog":
                thread.join(LIMIT)
    assert len(inbox.taken) + len(caplog.records) == 20
    assert caplog.records, "there was room for all"


def _event(number: int) -> Event:
    return Event(Kind.UNANNOTATED, "ANNOTATIONS_DELETED", 1, (number,), (number,), ())
