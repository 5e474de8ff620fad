"""A worker and an asker that tests move one step at a time, on a real broker."""

import time
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq.utils import as_text

from backend.delivery import Deliveries, group_of
from backend.pusher import Pusher
from backend.queue import QUEUE, Asking, PredictionQueue
from backend.scripts import PREFIX
from tests.live.conftest import LABEL_CONFIG
from tests.live.studio import PROJECT, Studio

VERSION = "v1"
GROUP = group_of(PROJECT, VERSION)
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


def payloads(*tasks: int, project: int = PROJECT) -> list[dict[str, Any]]:
    return [
        {"task": {"id": task, "data": {}}, "label_config": LABEL_CONFIG, "project": project}
        for task in tasks
    ]


def answer(task: int) -> dict[str, Any]:
    told = {"regions": [], "score": task / 10_000, "model_version": VERSION}
    return told | ({"cluster": task} if task % 2 else {})


class Hand:
    """A worker without a model, one step at a time."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.deliveries = Deliveries(redis)
        self.worked: list[int] = []

    def take(self) -> str | None:
        self.deliveries.feed(2)
        raw = self.redis.lmove(f"rq:queue:{QUEUE}", "held")
        return as_text(raw) if raw else None

    def give(self, job: str, failing: frozenset[int] = frozenset()) -> None:
        task = int(self.redis.hget(f"rq:job:{job}", "pb_task") or 0)
        self.worked.append(task)
        told = {"error": "ImageMissing", "detail": "gone"} if task in failing else answer(task)
        with self.redis.pipeline() as pipeline:
            self.deliveries.deliver(pipeline, job, told)
            pipeline.delete(f"rq:job:{job}")
            pipeline.lrem("held", 1, job)
            pipeline.execute()

    def work(self, most: int = 10**9, failing: frozenset[int] = frozenset()) -> int:
        done = 0
        while done < most and (job := self.take()):
            self.give(job, failing)
            done += 1
        return done

    def die(self) -> None:
        """What is held goes back, as `backend.recovery` does it."""
        while self.redis.lmove("held", f"rq:queue:{QUEUE}", "RIGHT", "LEFT"):
            pass


def ask(queue: PredictionQueue, *tasks: int) -> Asking:
    urgent = len(tasks) == 1
    return queue.submit(payloads(*tasks), urgent=urgent, deadline=90, group=GROUP)


def collect(queue: PredictionQueue, asking: Asking, seconds: float = 0.0) -> list[bool]:
    """Whether there was an answer, per task."""
    answers = queue.wait(asking, time.monotonic() + seconds, NEVER)
    return [one is not None for one in answers]


def lose_leases(redis: Redis) -> None:
    """As if every asker had died some time ago."""
    for key in redis.keys(f"{PREFIX}lease:*"):
        redis.delete(key)


def pending(redis: Redis) -> int:
    return redis.hlen(f"{PREFIX}pending:{GROUP}")


def push_all(queue: PredictionQueue, studio: Studio) -> None:
    pusher = Pusher(queue.connection, studio)
    queue.deliveries.recover()
    while jobs := queue.deliveries.take(25, seconds=0) if unpushed(queue) else []:
        pusher.push(jobs)


def unpushed(queue: PredictionQueue) -> int:
    return queue.connection.llen(f"{PREFIX}outbox")
