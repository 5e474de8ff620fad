"""A worker that keeps its model warm and takes several waiting jobs as one batch.

RQ's own workers take one job at a time, and by default in a forked process, which hangs once
torch has used its threads. This one works in its own process (`SimpleWorker`). What it uses of
RQ's less public parts is in this file only, and `tests/live` fails when they move.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from redis import Redis
from redis.exceptions import LockError, RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

from backend import journal, metrics
from backend.delivery import Answer, Deliveries
from backend.queue import (
    PULSE,
    PULSE_TTL,
    TaskJob,
    WorkerPulse,
    end_pulse,
    pulse,
    queue_of,
)
from backend.recovery import Recovery

log = logging.getLogger(__name__)

# payloads in, one answer each with its seconds
Answerer = Callable[[Sequence[Answer]], list[tuple[Answer, float]]]

BEAT = 3.0  # seconds between signs of life
WORKER_TTL = 20  # seconds after which RQ forgets a silent worker; it looks up 15 s before that
STUCK = 70  # exit status when a job took longer than allowed


class BatchWorker(SimpleWorker):
    """Answers jobs, up to `batch_size` waiting ones at a time, by what answers their kind."""

    job_class = TaskJob

    def __init__(
        self,
        connection: Redis,
        identity: WorkerPulse,
        answerers: Mapping[str, Answerer],
        *,
        batch_size: int,
        job_timeout: float,
    ) -> None:
        super().__init__(
            [queue_of(connection)],
            name=identity.name,
            connection=connection,
            worker_ttl=WORKER_TTL,
            job_class=TaskJob,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self._identity = identity
        self._answerers = answerers
        self._batch_size = batch_size
        self._job_timeout = job_timeout
        self._deliveries = Deliveries(connection)
        self._recovery = Recovery(connection)
        self._busy_since: float | None = None
        self._ended = threading.Event()

    def serve(self) -> None:
        """Work until told to stop."""
        heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        heart.start()
        try:
            self.work(logging_level="WARNING")
        finally:
            self._ended.set()
            heart.join()

    def get_heartbeat_ttl(self, job: Job) -> int:
        """Seconds for which a job is held: longer than it may take, since nothing renews it."""
        return ceil(self._job_timeout) + 60

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Answer a job together with what waits behind it."""
        self._busy_since = time.monotonic()
        self._feed()
        batch = [job, *self._claim(job, queue)]
        held: dict[str, Execution] = {one.id: self.prepare_execution(one) for one in batch}
        ours = [one for one in batch if isinstance(one, TaskJob) and one.allowed]
        for kind, answer in self._answerers.items():  # what takes long comes last
            some = [one for one in ours if one.func_name == kind]
            if some:
                self._deliver(some, answer([one.args[0] for one in some]), held, queue)
        for stranger in batch:
            if stranger not in ours:
                self.execution = held[stranger.id]
                self.perform_job(stranger, queue)  # which refuses it
        self._busy_since = None
        self.set_state("idle")

    def _deliver(
        self,
        jobs: Sequence[Job],
        answers: Sequence[tuple[Answer, float]],
        held: Mapping[str, Execution],
        queue: Queue,
    ) -> None:
        for one, (answer, seconds) in zip(jobs, answers, strict=True):
            # one round trip: the answer, and everything that RQ holds of the job
            with self.connection.pipeline() as pipeline:
                self._deliveries.deliver(pipeline, one.id, answer)
                held[one.id].delete(one, pipeline)
                pipeline.lrem(queue.intermediate_queue_key, 1, one.id)
                pipeline.delete(one.key)
                metrics.count_task(pipeline, answer.get("error", "done"), seconds)
                journal.write(pipeline, one.meta, answer, seconds)
                pipeline.execute()

    def _feed(self) -> None:
        """Let enough into the queue for this batch, and for the next worker to wake up for."""
        self._deliveries.feed(2 * self._batch_size)

    def _claim(self, first: Job, queue: Queue) -> list[Job]:
        """Take more waiting jobs, without waiting for any.

        A job that already lost a worker is answered alone, so that it takes no other with it.
        """
        claimed: list[Job] = []
        if first.meta.get("attempts"):
            return claimed
        while len(claimed) + 1 < self._batch_size:
            raw = self.connection.lmove(queue.key, queue.intermediate_queue_key)
            if raw is None:
                break
            job_id = as_text(raw)
            try:
                job = TaskJob.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
            except NoSuchJobError:  # its deadline passed while it waited
                self.connection.lrem(queue.intermediate_queue_key, 1, job_id)
                continue
            if job.meta.get("attempts"):
                with self.connection.pipeline() as pipeline:
                    pipeline.lrem(queue.intermediate_queue_key, 1, job_id)
                    queue.push_job_id(job_id, pipeline=pipeline, at_front=True)
                    pipeline.execute()
                break
            claimed.append(job)
        return claimed

    def _hand_back(self) -> None:
        """Hand back what workers held that no launcher watched over."""
        try:
            self._recovery.hand_back(self._is_gone)
        except LockError:
            log.debug("another process hands back already")

    def _is_gone(self, worker: str) -> bool:
        return not self.connection.exists(PULSE + worker)

    def _beat(self) -> None:
        """Say that we live, look after dead peers, end the process if a job is stuck.

        All of it beside the jobs, so that none waits for it.
        """
        look_at = 0.0
        while True:
            busy_since = self._busy_since
            if busy_since and time.monotonic() - busy_since > self._job_timeout:
                log.error("a job took longer than %.0f s: this worker ends", self._job_timeout)
                os._exit(STUCK)
            try:
                pulse(self.connection, self._identity)
                if time.monotonic() >= look_at:
                    self._hand_back()
                    self._deliveries.sweep()
                    self._feed()
                    look_at = time.monotonic() + PULSE_TTL
            except RedisError as error:
                log.warning("the broker does not answer the heartbeat: %s", error)
            if self._ended.wait(BEAT):
                break
        try:
            end_pulse(self.connection, self.name)
        except RedisError:
            log.warning("the broker is gone already")
