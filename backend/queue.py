"""The prediction queue, from the asking side: submit, wait, look, hand back.

RQ on Redis or Valkey. A job carries a name from `JOBS` and plain JSON; what the name means is
the worker's business (`backend.worker.jobs`), so nothing here imports torch, and nothing is ever
imported because a job says so.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from backend.errors import BackendError, BadSetting, QueueUnavailable, WorkerLost

log = logging.getLogger(__name__)

QUEUE = "predictions"
PREDICT = "predict"
JOBS = frozenset({PREDICT})

ANSWER = "promptbrush:answer:"
ANSWER_TTL = 600  # seconds an answer, or a failed job, is kept for who asked
MAX_ATTEMPTS = 2  # a task that took down its worker this often is not tried again
JOURNAL = "promptbrush:journal"
JOURNAL_LENGTH = 500
WORKERS = "promptbrush:workers"
SERVING = "promptbrush:serving"
PULSE = "promptbrush:worker:"
PULSE_TTL = 10  # seconds without a sign of life after which a worker counts as dead
LISTED = 100  # jobs shown per state

Answer = dict[str, Any]


def connect(url: str) -> Redis:
    """A client that fails fast: blocking calls here are cut into slices of a second."""
    try:
        return Redis.from_url(
            url, socket_timeout=30, socket_connect_timeout=2, retry=Retry(NoBackoff(), 1)
        )
    except ValueError as error:
        raise BadSetting(f"REDIS_URL cannot be used: {error}") from None


class TaskJob(Job):
    """A job that can do nothing but answer: names, callbacks and webhooks are never followed."""

    @property
    def allowed(self) -> bool:
        """Whether the job's name is one of ours; unreadable ones are not."""
        try:
            return self.func_name in JOBS and len(self.args) == 1
        except Exception:
            # whatever deserialising a stranger's payload raises, it is not one of ours
            return False

    def perform(self) -> None:
        """Refuse: what may be done, the worker does without RQ's way of calling functions."""
        raise PermissionError("This job's name is not on the list of jobs.")

    def execute_success_callback(self, *_: Any, **__: Any) -> None:
        """A stored callback is a name to import: refused."""

    def execute_failure_callback(self, *_: Any, **__: Any) -> None:
        """A stored callback is a name to import: refused."""

    def send_webhooks(self, *_: Any, **__: Any) -> None:
        """A stored webhook is an address to call: refused."""


@dataclass(frozen=True, slots=True)
class WorkerPulse:
    """What a worker says of itself while it lives."""

    name: str
    host: str
    pid: int
    model: str
    checkpoint: str
    digest: str
    device: str


def queue_of(connection: Redis) -> Queue:
    """The queue as both sides open it."""
    return Queue(QUEUE, connection=connection, job_class=TaskJob, serializer=JSONSerializer)


class PredictionQueue:
    """What the web process and the launcher do with the queue."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self._queue = queue_of(connection)

    def submit(
        self, payloads: Sequence[Answer], *, interactive: bool, deadline: float
    ) -> list[Job]:
        """Enqueue one job per payload; one that cannot start before the deadline vanishes.

        Interactive jobs go to the front. `deadline` is in seconds from now.

        Raises:
            QueueUnavailable: the broker does not answer.
        """
        if not payloads:
            return []
        prepared = [
            Queue.prepare_data(
                PREDICT,
                args=[payload],
                ttl=max(1, ceil(deadline)),
                failure_ttl=ANSWER_TTL,
                description=PREDICT,
                meta={"project": payload.get("project"), "task": payload["task"].get("id")},
                at_front=interactive,
            )
            for payload in payloads
        ]
        try:
            return self._queue.enqueue_many(prepared)
        except RedisError as error:
            raise QueueUnavailable(f"The queue's broker does not answer: {error}") from error

    def wait(
        self, jobs: Sequence[Job], deadline: float, stopping: Callable[[], bool]
    ) -> list[Answer | None]:
        """The answers, in order; None where there was none before the deadline (monotonic).

        Raises:
            QueueUnavailable: the broker does not answer.
        """
        try:
            return [self._wait_for(job, deadline, stopping) for job in jobs]
        except RedisError as error:
            raise QueueUnavailable(f"The queue's broker does not answer: {error}") from error

    def _wait_for(self, job: Job, deadline: float, stopping: Callable[[], bool]) -> Answer | None:
        delivered = self.connection.blpop([ANSWER + job.id], timeout=1)
        while delivered is None and time.monotonic() < deadline and not stopping():
            delivered = self.connection.blpop([ANSWER + job.id], timeout=1)
        if delivered is None:
            return None
        answer: Answer = json.loads(delivered[1])
        return answer

    def report(self, project: object, task: object, error: BackendError) -> None:
        """Tell at `/jobs` of a task that no worker finished, and why."""
        answer = {"error": error.name, "detail": str(error)}
        write_journal(self.connection, {"project": project, "task": task}, answer, seconds=0.0)

    def workers(self) -> list[WorkerPulse]:
        """The workers that are alive and ready."""
        names = sorted(map(as_text, self.connection.smembers(WORKERS)))
        pulses = self.connection.mget([PULSE + name for name in names]) if names else []
        return [WorkerPulse(**json.loads(raw)) for raw in pulses if raw]

    def serving(self) -> WorkerPulse | None:
        """The worker that answers, or answered last: what is served does not end with it."""
        raw = self.connection.get(SERVING)
        return WorkerPulse(**json.loads(raw)) if raw else None

    def depth(self) -> int:
        """Jobs that wait."""
        return self._queue.count

    def running(self) -> int:
        """Jobs that a worker holds."""
        return self.connection.zcard(self._queue.started_job_registry.key)

    def jobs(self) -> dict[str, Any]:
        """What `/jobs` shows: waiting, running, and the latest that ended, newest first."""
        started = {k for k, _ in self._executions()}
        waiting = self._queue.get_job_ids(0, LISTED)
        ended = self.connection.lrange(JOURNAL, 0, LISTED - 1)
        return {
            "queued": {"count": self.depth(), "jobs": self._described(waiting)},
            "running": {"count": len(started), "jobs": self._described(sorted(started))},
            "ended": [json.loads(raw) for raw in ended],
        }

    def _described(self, ids: Sequence[str]) -> list[Answer]:
        found = TaskJob.fetch_many(list(ids), connection=self.connection, serializer=JSONSerializer)
        return [
            {
                "id": job.id,
                "project": job.meta.get("project"),
                "task": job.meta.get("task"),
                "enqueued_at": job.enqueued_at.isoformat() if job.enqueued_at else None,
            }
            for job in found
            if job is not None
        ]

    def _executions(self) -> list[tuple[str, str]]:
        """(job id, execution id) of what is held, whether or not its holder lives."""
        raw: list[bytes] = self.connection.zrange(self._queue.started_job_registry.key, 0, -1)  # type: ignore[assignment]
        return [(job, run) for job, _, run in (as_text(entry).partition(":") for entry in raw)]

    def hand_back(self, dead: Callable[[str], bool]) -> int:
        """Requeue at the front what dead workers held; returns how many jobs.

        `dead` tells of a worker's name whether it is gone. A job that lost its worker
        `MAX_ATTEMPTS` times is answered with WorkerLost instead.
        """
        # the launcher and idle workers look at the same time; each job must come back once
        with self.connection.lock("promptbrush:hand-back", timeout=10, blocking_timeout=5):
            self._forget_the_dead()
            return self._hand_back_held(dead) + self._hand_back_unstarted()

    def _forget_the_dead(self) -> None:
        for name in map(as_text, self.connection.smembers(WORKERS)):
            if not self.connection.exists(PULSE + name):
                self.connection.srem(WORKERS, name)

    def _hand_back_held(self, dead: Callable[[str], bool]) -> int:
        handed = 0
        for job_id, execution_id in self._executions():
            try:
                execution = Execution.fetch(execution_id, job_id, self.connection)
                job = TaskJob.fetch(job_id, connection=self.connection, serializer=JSONSerializer)
            except (ValueError, NoSuchJobError):
                entry = f"{job_id}:{execution_id}"
                self.connection.zrem(self._queue.started_job_registry.key, entry)
                continue
            if dead(execution.worker_name):
                self._return(job, execution)
                handed += 1
        return handed

    def _return(self, job: Job, execution: Execution) -> None:
        attempts = int(job.meta.get("attempts", 0)) + 1
        job.meta["attempts"] = attempts
        with self.connection.pipeline() as pipeline:
            execution.delete(job, pipeline)
            pipeline.lrem(self._queue.intermediate_queue_key, 1, job.id)
            job.save(pipeline=pipeline, include_result=False)
            if attempts < MAX_ATTEMPTS:
                job.set_status(JobStatus.QUEUED, pipeline=pipeline)
                self._queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
            else:
                lost = WorkerLost(
                    f"The worker died {attempts} times while it held this task; "
                    "its image may need more memory than there is."
                )
                answer = {"error": lost.name, "detail": str(lost)}
                deliver(pipeline, job.id, answer)
                write_journal(pipeline, job.meta, answer, seconds=0.0)
                pipeline.delete(job.key)
            pipeline.execute()

    def _hand_back_unstarted(self) -> int:
        """Requeue ids that a worker took off the queue but died before it began.

        Live workers pass ids through here within milliseconds, so only ids that are still here
        after a moment are stranded.
        """
        key = self._queue.intermediate_queue_key
        seen = set(map(as_text, self.connection.lrange(key, 0, -1)))
        if not seen:
            return 0
        time.sleep(0.2)
        held = {job_id for job_id, _ in self._executions()}
        still_there = set(map(as_text, self.connection.lrange(key, 0, -1)))
        stranded = (seen & still_there) - held
        for job_id in stranded:
            with self.connection.pipeline() as pipeline:
                pipeline.lrem(key, 1, job_id)
                self._queue.push_job_id(job_id, pipeline=pipeline, at_front=True)
                pipeline.execute()
        return len(stranded)


def deliver(pipeline: Pipeline, job_id: str, answer: Answer) -> None:
    """Give an answer to who waits for it; it goes by a list of its own, not as an RQ result."""
    pipeline.rpush(ANSWER + job_id, json.dumps(answer))
    pipeline.expire(ANSWER + job_id, ANSWER_TTL)


def pulse(connection: Redis, worker: WorkerPulse) -> None:
    """Say that a worker is alive and what it serves."""
    told = json.dumps(asdict(worker))
    with connection.pipeline() as pipeline:
        pipeline.set(PULSE + worker.name, told, ex=PULSE_TTL)
        pipeline.sadd(WORKERS, worker.name)
        pipeline.set(SERVING, told)
        pipeline.execute()


def end_pulse(connection: Redis, name: str) -> None:
    """Say that a worker is gone."""
    connection.delete(PULSE + name)
    connection.srem(WORKERS, name)


def write_journal(
    connection: Redis | Pipeline, job: Mapping[str, Any], answer: Answer, seconds: float
) -> None:
    """Remember how a job ended, for `/jobs`; `job` tells its project and task."""
    entry: Answer = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "project": job.get("project"),
        "task": job.get("task"),
        "outcome": "failed" if "error" in answer else "done",
        "ms": round(1000 * seconds),
        **{key: answer[key] for key in ("error", "detail", "model_version") if key in answer},
    }
    connection.lpush(JOURNAL, json.dumps(entry))
    connection.ltrim(JOURNAL, 0, JOURNAL_LENGTH - 1)
