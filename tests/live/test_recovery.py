"""What dead workers held, on a real broker."""

import time
from collections.abc import Callable

import pytest
from redis import Redis
from rq.executions import Execution
from rq.job import Job
from rq.utils import as_text

from backend.queue import PULSE, WORKERS, PredictionQueue, queue_of
from backend.recovery import Recovery
from tests.live.hand import NEVER, ask, payloads

pytestmark = pytest.mark.live

DEAD, ALIVE = "worker-dead", "worker-alive"


@pytest.fixture
def waiting(queue: PredictionQueue) -> Callable[[], list[int]]:
    """The tasks that wait in the queue, in turn."""
    queue.connection.sadd(WORKERS, DEAD, ALIVE)
    queue.connection.set(PULSE + ALIVE, "{}")
    return lambda: [job["task"] for job in queue.jobs()["queued"]["jobs"]]


def took(redis: Redis) -> Job:
    """The next job, off the queue as RQ's workers take it, but not begun."""
    name = redis.lmove(queue_of(redis).key, queue_of(redis).intermediate_queue_key)
    assert name is not None
    job = queue_of(redis).fetch_job(as_text(name))
    assert job is not None
    return job


def began(redis: Redis, worker: str) -> Job:
    job = took(redis)
    with redis.pipeline() as pipeline:
        Execution.create(job, 60, pipeline, worker_name=worker)
        pipeline.execute()
    return job


def hand_back(redis: Redis) -> int:
    return Recovery(redis).hand_back(lambda worker: worker == DEAD)


def test_what_a_dead_worker_held_is_next_and_what_another_holds_stays_with_it(
    queue: PredictionQueue, redis: Redis, waiting: Callable[[], list[int]]
) -> None:
    queue.submit(payloads(1, 2, 3), urgent=False, deadline=90)
    queue.deliveries.feed(3)
    began(redis, DEAD)
    began(redis, ALIVE)
    assert hand_back(redis) == 1
    assert waiting() == [1, 3]
    assert [job["task"] for job in queue.jobs()["running"]["jobs"]] == [2]
    assert hand_back(redis) == 0
    assert waiting() == [1, 3]


def test_a_task_that_costs_a_second_worker_is_answered_with_that(
    queue: PredictionQueue, redis: Redis, waiting: Callable[[], list[int]]
) -> None:
    asking = ask(queue, 1)
    for left in ([1], []):
        began(redis, DEAD)
        assert hand_back(redis) == 1
        assert waiting() == left
    (answer,) = queue.wait(asking, time.monotonic() + 1, NEVER)
    assert answer is not None
    assert answer["error"] == "WorkerLost"
    assert "died 2 times" in answer["detail"]
    assert queue.running() == 0
    assert [job["task"] for job in queue.jobs()["ended"]] == [1]
    assert redis.keys("rq:job:*") == []


def test_what_a_worker_took_and_never_began_is_next(
    queue: PredictionQueue, redis: Redis, waiting: Callable[[], list[int]]
) -> None:
    queue.submit(payloads(1, 2, 3), urgent=False, deadline=90)
    queue.deliveries.feed(3)
    began(redis, ALIVE)
    took(redis)
    assert hand_back(redis) == 1
    assert waiting() == [2, 3]
    assert hand_back(redis) == 0


def test_what_a_worker_is_just_about_to_begin_is_left_to_it(
    queue: PredictionQueue,
    redis: Redis,
    waiting: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue.submit(payloads(1, 2), urgent=False, deadline=90)
    queue.deliveries.feed(2)
    job = took(redis)
    between = queue_of(redis).intermediate_queue_key
    monkeypatch.setattr(time, "sleep", lambda _: redis.lrem(between, 1, job.id))
    assert hand_back(redis) == 0
    assert waiting() == [2]


def test_what_nobody_waits_for_any_more_does_not_come_back(
    queue: PredictionQueue, redis: Redis, waiting: Callable[[], list[int]]
) -> None:
    queue.submit(payloads(1, 2, 3), urgent=False, deadline=90)
    queue.deliveries.feed(3)
    redis.delete(began(redis, DEAD).key, took(redis).key)
    assert hand_back(redis) == 0
    assert waiting() == [3]
    assert (queue.running(), queue.depth()) == (0, 1)


def test_a_dead_worker_is_asked_after_no_more(
    redis: Redis, waiting: Callable[[], list[int]]
) -> None:
    hand_back(redis)
    assert redis.smembers(WORKERS) == {ALIVE.encode()}
