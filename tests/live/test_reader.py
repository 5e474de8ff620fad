"""What a reader makes of events on a real broker, whatever is wrong with one of them."""

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError

from backend import holding, reader, trainscripts
from backend.inbox import Inbox
from backend.labelstudio.events import Annotated, Event, Kind
from backend.learning.collected import Collected
from backend.learning.gauge import Gauge
from backend.reader import Reader
from backend.settings import Settings
from backend.training import TrainingLane
from tests.live.conftest import wait_until

pytestmark = pytest.mark.live


@dataclass
class Desk:
    """A reader with what it reads and where it keeps it."""

    folder: Path
    redis: Redis
    noticed: list[int] = field(default_factory=list)  # projects whose news a gauge measured

    def __post_init__(self) -> None:
        self.inbox = Inbox(self.redis)
        self.collected = Collected(self.folder)
        self.lane = TrainingLane(self.redis)
        self.gauge = Gauge(self.noticed.append, "what is tested", quiet=0.0)
        self.reader = self.another()

    def another(self) -> Reader:
        """A reader, as a trainer that starts has it."""
        settings = Settings.from_environment({"MODEL_DIR": str(self.folder), "TRAIN_AFTER": "3"})
        return Reader(self.redis, self.collected, self.lane, [self.gauge], settings)

    def accepted(self, number: int, project: int) -> None:
        """An annotation that was submitted."""
        one = Annotated(number, number, {"image": "a.png"}, (), False, updated_at="2026-11-21")
        self.inbox.add(Event(Kind.ANNOTATED, "ANNOTATION_CREATED", project, saved=(one,)))

    def shut(self, project: int) -> Path:
        """Where nothing of a project can be kept as long as this is there."""
        place = self.folder / str(project) / "collected"
        place.parent.mkdir(parents=True)
        place.touch()
        return place

    def kept(self, project: int) -> int:
        return self.collected.counts(project).accepted

    def news(self, project: int) -> Any:
        told = self.lane.overview(project)["projects"]
        return told[0]["news"] if told else 0

    def waiting(self) -> int:
        return self.inbox.counts()["count"]


@pytest.fixture
def desk(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    redis.flushdb()
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.1)
    return Desk(tmp_path, redis)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


def endless() -> Event:
    """Of an annotation whose name no file can have, as they were once let in."""
    return Event(Kind.UNANNOTATED, "ANNOTATIONS_DELETED", 7, annotations=(int("9" * 250),))


def foreign() -> Event:
    """As another version of ours might have kept it."""
    saved: Any = {"annotation": 1}
    return Event(Kind.ANNOTATED, "ANNOTATION_CREATED", 7, saved=(saved,))


@pytest.mark.parametrize("bad", [endless(), foreign()])
def test_an_event_that_can_never_be_read_is_set_aside_and_the_others_are_taken(
    desk: Desk, caplog: pytest.LogCaptureFixture, bad: Event
) -> None:
    desk.accepted(1, project=8)
    desk.inbox.add(bad)
    desk.accepted(2, project=8)
    desk.accepted(3, project=7)
    assert not desk.reader.read()
    assert (desk.kept(7), desk.kept(8), desk.waiting()) == (1, 2, 0)
    (aside,) = (desk.folder / "set-aside").iterdir()
    assert json.loads(aside.read_text())["action"] == bad.action
    (told,) = errors(caplog)
    assert all(part in told for part in (bad.action, "project 7", str(aside)))


def test_what_cannot_be_kept_now_waits_alone_and_is_told_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    shut = desk.shut(7)
    for number in range(1, reader.EVENTS + 2):
        desk.accepted(number, project=7)
    desk.accepted(1, project=8)
    while desk.reader.read():
        pass
    assert desk.kept(8) == 1
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        desk.reader.read()
    assert desk.waiting() == reader.EVENTS + 1
    (told,) = errors(caplog)
    assert "project 7" in told
    assert "cannot be kept" in told
    shut.unlink()
    wait_until(lambda: not desk.reader.read() and desk.waiting() == 0)
    assert desk.kept(7) == desk.news(7) == reader.EVENTS + 1


def test_what_waits_is_tried_more_and_more_rarely(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.shut(7)
    desk.accepted(1, project=7)
    tried: list[float] = []

    def take(event: object) -> None:
        tried.append(time.monotonic())
        raise OSError("the disk is full")

    monkeypatch.setattr(desk.collected, "take", take)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        desk.reader.read()
    assert 3 <= len(tried) <= 4  # at once, and after 0.1, 0.2 and 0.4 seconds


def test_what_waits_longer_than_the_pause_to_fail_holds_up_nothing_behind_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=lambda: now[0]))
    shut = desk.shut(7)
    take = desk.collected.take

    def slowly(event: dict[str, Any]) -> Any:
        now[0] += 100.0 if event["project"] == 7 else 0.0  # a volume that does not answer
        return take(event)

    monkeypatch.setattr(desk.collected, "take", slowly)
    for number in range(1, 2 * reader.EVENTS + 2):
        desk.accepted(number, 7)
    desk.accepted(1, 8)
    passes = [desk.reader.read() for _ in range(3)]
    assert passes == [True, True, False]
    assert (desk.kept(7), desk.kept(8)) == (0, 1)
    shut.unlink()
    now[0] += reader.LONGEST_PAUSE
    while desk.reader.read():
        pass
    assert (desk.kept(7), desk.waiting()) == (2 * reader.EVENTS + 1, 0)


def test_an_event_that_takes_longer_than_a_dead_reader_is_waited_for_is_read_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert holding.HOLD <= trainscripts.LEASE  # who dies meanwhile keeps nobody waiting beyond that
    monkeypatch.setattr("backend.reader.HOLD", 1)
    take = desk.collected.take

    def slowly(event: Any) -> Any:
        assert desk.redis.pttl(reader.LOCK) <= 1000
        if event["saved"][0]["annotation"] == 3:
            time.sleep(1.5)
            assert not desk.another().read()
        return take(event)

    monkeypatch.setattr(desk.collected, "take", slowly)
    for number in range(1, 5):
        desk.accepted(number, 7)
    assert not desk.reader.read()
    assert (desk.waiting(), desk.kept(7), desk.news(7)) == (0, 4, 4)


def test_a_burst_waits_for_the_disk_once_for_each_annotation(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script may submit fifty a second, and a disk take five milliseconds each time."""
    for number in range(1, reader.EVENTS + 1):
        desk.accepted(number, project=7 + number % 2)
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    while desk.reader.read():
        pass
    assert len(waits) <= reader.EVENTS + 4  # for two projects' own files, and their folders
    assert (desk.kept(7), desk.kept(8)) == (reader.EVENTS // 2, reader.EVENTS // 2)
    assert (desk.news(7), desk.news(8)) == (reader.EVENTS // 2, reader.EVENTS // 2)


def test_one_that_can_never_be_read_takes_none_of_a_burst_with_it(desk: Desk) -> None:
    desk.accepted(1, project=7)
    desk.inbox.add(foreign())
    desk.accepted(2, project=7)
    desk.reader.read()
    assert (desk.kept(7), desk.news(7), desk.waiting()) == (2, 2, 0)
    assert len(list((desk.folder / "set-aside").iterdir())) == 1


def test_one_that_cannot_be_kept_holds_up_no_other_of_its_project(desk: Desk) -> None:
    desk.accepted(1, project=7)
    desk.reader.read()
    there = desk.folder / "7" / "collected" / "2-2.json"
    there.mkdir()  # so that no file can be put there
    for number in (2, 3, 4):
        desk.accepted(number, project=7)
    desk.reader.read()
    assert desk.waiting() == 1
    assert {task["id"] for task in desk.collected.tasks(7)} == {1, 3, 4}
    there.rmdir()
    wait_until(lambda: not desk.reader.read() and desk.waiting() == 0)
    assert {task["id"] for task in desk.collected.tasks(7)} == {1, 2, 3, 4}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_kept_when_the_broker_went_away_is_news_once_it_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    desk.accepted(1, project=7)
    desk.reader.read()
    desk.accepted(2, project=7)
    desk.accepted(3, project=7)

    def away(*_: object) -> None:
        raise RedisError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Pipeline, "execute", away)
        with pytest.raises(RedisError):
            desk.reader.read()
    assert (desk.kept(7), desk.news(7)) == (3, 1)
    desk.noticed.clear()
    (desk.another() if restarted else desk.reader).read()
    assert (desk.kept(7), desk.news(7), desk.waiting()) == (3, 3, 0)
    assert desk.lane.overview(7)["projects"][0]["state"] == "waiting"  # for TRAIN_AFTER = 3
    desk.gauge.catch_up()
    assert desk.noticed == [7]


def test_what_is_tried_often_is_counted_once(desk: Desk) -> None:
    desk.accepted(1, project=7)
    desk.reader.read()
    place = desk.folder / "7" / "collected" / ".new-2-2.json"
    place.mkdir()  # the file is written there first
    rows = [Annotated(number, number, {}, (), False) for number in (2, 3)]
    desk.inbox.add(Event(Kind.ANNOTATED, "ANNOTATIONS_CREATED", 7, saved=tuple(rows)))
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        desk.reader.read()
    assert (desk.kept(7), desk.waiting()) == (1, 1)
    place.rmdir()
    wait_until(lambda: not desk.reader.read() and desk.waiting() == 0)
    assert desk.kept(7) == desk.news(7) == 3
