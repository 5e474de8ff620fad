"""Where an answer goes: to the request that waits for it, or else into the outbox.

A request that waits is an asker: it renews a lease while it waits, and collects what is ready. A
task whose answer can be pushed into Label Studio belongs to a group, a project and a model version;
such a task is never dropped and never worked on twice at a time: it is pending from when it is
asked for until its answer has gone out. Everything else is dropped once nobody waits for it.

Each step is one script in the broker (`backend.scripts`), so that a process may die before or after
it, but not within.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.client import Pipeline
from redis.commands.core import Script
from rq.utils import as_text

from backend import scripts
from backend.scripts import PREFIX

Answer = dict[str, Any]

PUSHER = f"{PREFIX}pusher"  # the lock of who empties the outbox
FRONT, BATCH, BACKGROUND = "front", "batch", "background"
LINES = (PREFIX + BATCH, PREFIX + BACKGROUND)  # behind the queue, in the order of their turn
LEASE = 10  # seconds without a sign of life after which an asker counts as gone
TOLD = 600  # seconds that a word of trouble holds


def group_of(project: int, version: str | None) -> str:
    """The name of the group of a project's tasks that are predicted by a version."""
    return f"{project}:{version or ''}"


class Deliveries:
    """The steps that jobs and answers take, on an open connection."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection
        self._enqueue = Script(connection, scripts.ENQUEUE)
        self._feed = Script(connection, scripts.FEED)
        self._deliver = Script(connection, scripts.DELIVER)
        self._release = Script(connection, scripts.RELEASE)
        self._finish = Script(connection, scripts.FINISH)
        self._sweep = Script(connection, scripts.SWEEP)
        self._drop = Script(connection, scripts.DROP)
        self._acknowledge = Script(connection, scripts.ACKNOWLEDGE)

    # who asks

    def ask(self, pipeline: Pipeline, asker: str = "") -> str:
        """Someone who waits from now on, or goes on waiting."""
        asker = asker or uuid.uuid4().hex
        pipeline.set(f"{PREFIX}lease:{asker}", "1", ex=LEASE)
        pipeline.sadd(f"{PREFIX}askers", asker)
        return asker

    def enqueue(
        self, pipeline: Pipeline, job: str, *, asker: str, line: str, group: str, task: object
    ) -> None:
        """Put a saved job into a line; the pipeline's result is the job to wait for, b"" if none.

        `asker` and `group` may be empty.
        """
        self._enqueue(args=[job, asker, line, group, str(task)], client=pipeline)

    def feed(self, room: int) -> None:
        """Let jobs from the lines into the queue until `room` wait there."""
        self._feed(args=[room])

    def lined_up_count(self) -> int:
        """How many jobs wait behind the queue."""
        return sum(self._connection.llen(line) for line in LINES)

    def collect(self, asker: str, until: float) -> list[str]:
        """Jobs of which something is known, waiting for a second at most; renews the lease.

        A job with a "-" before it is another's now.
        """
        self._connection.expire(f"{PREFIX}lease:{asker}", LEASE)
        wait = max(0.01, min(1.0, until - time.monotonic()))
        ready = f"{PREFIX}ready:{asker}"
        first = self._connection.blpop([ready], timeout=wait)
        if first is None:
            return []
        more = self._connection.lpop(ready, 1000) or []
        return [as_text(one) for one in (first[1], *more)]

    def release(self, asker: str) -> list[str] | None:
        """Wait no longer: what became ready meanwhile; None if all goes elsewhere already."""
        told = self._release(args=[asker])
        return [as_text(one) for one in told[1:]] if told else None

    def finish(self, asker: str) -> None:
        """What the asker collected has gone out."""
        self._finish(args=[asker])

    def sweep(self) -> None:
        """Send on what askers that are gone did not take; forget groups that are empty."""
        self._sweep()

    # what is answered

    def deliver(self, pipeline: Pipeline, job: str, answer: Answer) -> None:
        """Give the answer of a job, which still exists, to who waits for it or to the outbox."""
        reason = [f"{answer['error']}: {answer['detail']}"] if "error" in answer else []
        self._deliver(args=[job, json.dumps(answer), *reason], client=pipeline)

    def bodies(self, jobs: Sequence[str]) -> list[bytes | None]:
        """The answers of jobs as JSON, where there are any."""
        with self._connection.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.hget(f"{PREFIX}answer:{job}", "body")
            return pipeline.execute()

    # how far it is

    def progress(self, project: int | None, reasons: int) -> list[dict[str, Any]]:
        """Counts per project and version, and the first `reasons` failures with their reasons."""
        groups = sorted(map(as_text, self._connection.smembers(f"{PREFIX}groups")))
        return [
            self.group_progress(group, reasons)
            for group in groups
            if project is None or group.startswith(f"{project}:")
        ]

    def group_progress(self, group: str, reasons: int) -> dict[str, Any]:
        """Counts of a group; answered and pushed count predictions, the others tasks."""
        number, _, version = group.partition(":")
        failed = self._connection.hgetall(f"{PREFIX}failed:{group}")
        counts = {
            as_text(k): int(v)
            for k, v in self._connection.hgetall(f"{PREFIX}counts:{group}").items()
        }
        told = sorted((int(task), as_text(reason)) for task, reason in failed.items())
        return {
            "project": int(number),
            "model_version": version or None,
            "pending": self._connection.hlen(f"{PREFIX}pending:{group}"),
            "answered": counts.get("answered", 0),
            "pushed": counts.get("pushed", 0),
            "failed": len(failed),
            "reasons": dict(told[:reasons]),
        }

    def unpushed(self) -> int:
        """Answers that wait to be pushed, or are on the way."""
        return self._connection.llen(f"{PREFIX}outbox") + self._connection.llen(f"{PREFIX}pushing")

    def trouble(self) -> str | None:
        """Why pushing does not go on, if it does not."""
        told = self._connection.get(f"{PREFIX}trouble")
        if told:
            return as_text(told)
        if self.unpushed() and not self._connection.exists(PUSHER):
            return "No pusher runs, which sends them: `promptbrush pusher` starts one."
        return None

    # what is pushed

    def recover(self) -> int:
        """Put back what a pusher that is gone had taken; returns how many answers."""
        count = 0
        while self._connection.lmove(f"{PREFIX}pushing", f"{PREFIX}outbox", "RIGHT", "LEFT"):
            count += 1
        return count

    def take(self, most: int, seconds: int) -> list[str]:
        """Up to `most` jobs whose answers are to be pushed; waits for a first one."""
        first = self._connection.blmove(f"{PREFIX}outbox", f"{PREFIX}pushing", seconds)
        taken = [as_text(first)] if first else []
        while taken and len(taken) < most:
            more = self._connection.lmove(f"{PREFIX}outbox", f"{PREFIX}pushing")
            if not more:
                break
            taken.append(as_text(more))
        return taken

    def addresses(self, jobs: Sequence[str]) -> list[tuple[int, int] | None]:
        """(project, task) of answers that are to be pushed."""
        with self._connection.pipeline(transaction=False) as pipeline:
            for job in jobs:
                pipeline.hmget(f"{PREFIX}answer:{job}", "group", "task")
            found = pipeline.execute()
        return [
            (int(as_text(group).partition(":")[0]), int(task)) if group else None
            for group, task in found
        ]

    def acknowledge(self, jobs: Sequence[str], outcome: str, reason: str = "") -> None:
        """What was taken has gone out, or with a reason cannot go out."""
        self._acknowledge(args=[outcome, *(part for job in jobs for part in (job, reason))])

    def drop(self, project: int, reason: str) -> int:
        """Predict nothing more for a project in the background; returns how many tasks waited."""
        return int(self._drop(args=[project, reason]))

    def tell_trouble(self, why: str) -> None:
        """Say why pushing does not go on; nothing if it does."""
        if why:
            self._connection.set(f"{PREFIX}trouble", why, ex=TOLD)
        else:
            self._connection.delete(f"{PREFIX}trouble")
