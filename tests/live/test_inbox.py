"""Events on a real broker."""

import json
import logging
import random
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from backend.backlog import Backlog
from backend.inbox import STREAM, Inbox, written
from backend.labelstudio.events import Annotated, Event, Kind
from backend.labelstudio.starter import label_config
from tests.live.conftest import wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def inbox(redis: Redis) -> Inbox:
    redis.flushdb()
    return Inbox(redis, most_bytes=5000)


@pytest.fixture
def full(redis: Redis) -> Iterator[None]:
    """The broker takes nothing until its limit of memory is lifted."""
    redis.config_set("maxmemory", 1)
    yield
    redis.config_set("maxmemory", 0)


def event(number: int, size: int = 10) -> Event:
    rle = b64encode(random.Random(number).randbytes(size)).decode()[:size]  # which stays as long
    region = {"id": "r", "value": {"rle": rle}}
    saved = Annotated(number, number, {"image": "a"}, (region,), False)
    return Event(Kind.ANNOTATED, "ANNOTATION_CREATED", 1, (number,), (number,), (saved,))


def test_events_come_in_order_and_stay_until_forgotten(inbox: Inbox) -> None:
    for number in (1, 2, 3):
        inbox.add(event(number))
    (first, told), *_ = inbox.oldest(2)
    assert told == json.loads(json.dumps(asdict(event(1))))
    inbox.forget([first])
    inbox.forget([first])
    assert [told["tasks"] for _, told in inbox.oldest(9)] == [[2], [3]]


def test_the_oldest_fall_out_where_there_is_no_room(inbox: Inbox, redis: Redis) -> None:
    for number in range(20):
        inbox.add(event(number, size=400))
    counts = inbox.counts()
    assert counts["bytes"] <= 5000
    assert counts["count"] + counts["dropped"] == 20
    assert inbox.oldest(99)[-1][1]["tasks"] == [19]
    entries: Any = redis.xrange(STREAM)
    assert counts["bytes"] == sum(len(fields[b"event"]) for _, fields in entries)
    inbox.forget([name for name, _ in inbox.oldest(99)])
    assert (inbox.counts()["count"], inbox.counts()["bytes"]) == (0, 0)


def test_the_same_labeling_configuration_in_each_event_takes_little_room(redis: Redis) -> None:
    redis.flushdb()
    inbox = Inbox(redis)
    xml = label_config([f"Part number {number}" for number in range(1000)])
    for number in range(1, 3):
        inbox.add(replace(event(number, size=0), label_config=xml))
    counts = inbox.counts()
    assert (counts["count"], counts["dropped"]) == (2, 0)
    assert counts["bytes"] < len(xml) / 2
    assert [told["label_config"] for _, told in inbox.oldest(9)] == [xml, xml]


def test_what_an_earlier_version_left_there_is_read(inbox: Inbox, redis: Redis) -> None:
    redis.xadd(STREAM, {"event": written(event(1))})
    inbox.add(event(2))
    assert [told["tasks"] for _, told in inbox.oldest(9)] == [[1], [2]]


def test_an_event_larger_than_all_room_costs_the_others_nothing(inbox: Inbox) -> None:
    inbox.add(event(1))
    inbox.add(event(2, size=9000))
    assert [told["tasks"] for _, told in inbox.oldest(9)] == [[1]]
    assert inbox.counts()["dropped"] == 1


@pytest.mark.usefixtures("full")
def test_what_a_full_broker_refuses_is_sent_again(
    inbox: Inbox, redis: Redis, tmp_path: Path
) -> None:
    backlog = Backlog(inbox, tmp_path, pause=0.02)
    for number in (1, 2, 3):
        backlog.add(event(number))
    assert inbox.counts()["count"] == 0
    redis.config_set("maxmemory", 0)
    wait_until(lambda: inbox.counts()["count"] == 3)
    backlog.add(event(4))
    assert [told["tasks"] for _, told in inbox.oldest(9)] == [[1], [2], [3], [4]]
    redis.config_set("maxmemory", 1)
    backlog.add(event(5))
    redis.config_set("maxmemory", 0)
    wait_until(lambda: inbox.counts()["count"] == 5)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("sizes", "kept", "losses"),
    [
        pytest.param([1000] * 6, [4, 5], 4, id="the oldest go where there is no room for all"),
        pytest.param([0, 6000, 0], [0, 2], 1, id="one larger than all room costs others nothing"),
    ],
)
def test_what_is_too_much_for_the_outbox_is_lost_and_the_log_says_so(
    inbox: Inbox,
    redis: Redis,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sizes: list[int],
    kept: list[int],
    losses: int,
) -> None:
    backlog = Backlog(inbox, tmp_path, most_bytes=4000, pause=0.02)
    with caplog.at_level(logging.ERROR):
        for number, size in enumerate(sizes):
            backlog.add(event(number, size=size))
        wait_until(lambda: len(caplog.records) == losses)
    redis.config_set("maxmemory", 0)
    wait_until(lambda: inbox.counts()["count"] == len(kept))
    assert [told["tasks"] for _, told in inbox.oldest(9)] == [[number] for number in kept]
