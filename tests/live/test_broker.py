"""What a real broker tells of itself."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from backend import broker
from backend.queue import PredictionQueue, pulse
from tests.backend.web.instant import PULSE

pytestmark = pytest.mark.live


@pytest.fixture
def evicting(queue: PredictionQueue) -> Iterator[PredictionQueue]:
    queue.connection.config_set("maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    yield queue
    queue.connection.config_set("maxmemory", 0, "maxmemory-policy", "noeviction")


def test_the_embedded_broker_is_one_that_keeps_everything(queue: PredictionQueue) -> None:
    broker.check(queue.connection)
    assert queue.warnings() == []


def test_a_broker_that_evicts_is_told(evicting: PredictionQueue) -> None:
    (told,) = evicting.warnings()
    assert "allkeys-lru" in told


def test_a_worker_that_joins_others_with_another_checkpoint_is_told(queue: PredictionQueue) -> None:
    pulse(queue.connection, PULSE)
    assert queue.warnings(replace(PULSE, name="second")) == []
    (told,) = queue.warnings(replace(PULSE, name="second", digest="f" * 64))
    assert "clipseg-ffffffff" in told
