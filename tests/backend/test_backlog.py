"""Events that wait for the broker."""

import errno
import json
import logging
import os
import threading
from pathlib import Path
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
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = SlowInbox()
    backlog = Backlog(cast(Inbox, inbox), tmp_path, most_bytes=1000, pause=0.0)
    with caplog.at_level(logging.ERROR):
        backlog.add(_event(0))
        assert inbox.busy.wait(LIMIT)
        for number in range(1, 20):
            backlog.add(_event(number))
        inbox.let_go.set()
        _all_sent()
    assert len(inbox.taken) + len(caplog.records) == 20
    assert caplog.records, "there was room for all"
    assert not list(tmp_path.iterdir())


class Away:
    """Refuses every event; who asks again once the process has ended asks no more."""

    def __init__(self) -> None:
        self.process_ended = False

    def put(self, text: str) -> None:
        if self.process_ended:
            raise SystemExit
        raise ConnectionError("the broker is away")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_next_process_sends_what_waited_when_one_ended(tmp_path: Path) -> None:
    away = Away()
    before = Backlog(cast(Inbox, away), tmp_path, pause=0.01)
    for number in range(3):
        before.add(_event(number))
    away.process_ended = True
    _all_sent()
    (tmp_path / "0-damaged.json").write_text("{", encoding="utf-8")
    inbox = SlowInbox()
    inbox.let_go.set()
    Backlog(cast(Inbox, inbox), tmp_path, pause=0.0)
    _all_sent()
    assert [json.loads(text)["tasks"] for text in inbox.taken] == [[0], [1], [2]]
    assert [file.name for file in tmp_path.iterdir()] == ["0-damaged.json"]


def test_where_no_file_can_be_written_what_waits_is_sent_nevertheless(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    inbox = SlowInbox()
    inbox.let_go.set()
    backlog = Backlog(cast(Inbox, inbox), tmp_path / "file", pause=0.0)
    backlog.add(_event(0))
    _all_sent()
    assert len(inbox.taken) == 1


def test_on_a_full_disk_what_waits_leaves_no_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    inbox = SlowInbox()
    inbox.let_go.set()
    Backlog(cast(Inbox, inbox), tmp_path, pause=0.0).add(_event(0))
    _all_sent()
    assert len(inbox.taken) == 1
    assert not list(tmp_path.iterdir())


def _all_sent() -> None:
    for thread in threading.enumerate():
        if thread.name == "backlog":
            thread.join(LIMIT)


def _event(number: int) -> Event:
    return Event(Kind.UNANNOTATED, "ANNOTATIONS_DELETED", 1, (number,), (number,), ())
