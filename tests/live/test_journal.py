"""The pace that the time left is reckoned from."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis

from backend import journal

pytestmark = pytest.mark.live


@pytest.fixture
def broker(redis: Redis) -> Redis:
    redis.delete(journal.KEY)
    return redis


def answered(broker: Redis, *seconds: float, took: float = 60.0) -> None:
    """Tasks that were answered then, as the clocks of those who answered said."""
    for second in seconds:
        at = datetime(2026, 11, 29, tzinfo=UTC) + timedelta(seconds=second)
        entry = {"at": at.isoformat(timespec="milliseconds"), "outcome": "done", "project": 7}
        broker.lpush(journal.KEY, json.dumps({**entry, "ms": round(1000 * took)}))


def test_a_rest_is_no_pace(broker: Redis) -> None:
    assert journal.seconds_per_task(broker) is None
    answered(broker, 0, 2, 4, 3600, 3602)
    assert journal.seconds_per_task(broker) == 2


def test_an_annotator_who_asks_now_and_then_is_no_pace(broker: Redis) -> None:
    answered(broker, 0, 28, 50, 75, took=0.5)
    assert journal.seconds_per_task(broker) == 0.5


def test_the_pace_is_never_below_nothing_whatever_clocks_say(broker: Redis) -> None:
    answered(broker, 0, 2, 4, -3600, -3598, -3596)  # it was set back by an hour
    assert journal.seconds_per_task(broker) == 2
    broker.delete(journal.KEY)
    for second in range(0, 20, 2):  # two hosts in turn; the other one's clock is a minute behind
        answered(broker, second, second + 1 - 60)
    assert journal.seconds_per_task(broker) == 2
