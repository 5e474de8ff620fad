"""The prediction queue, from the asking side: submit, wait, look.

RQ on Redis or Valkey. A job carries a name from `JOBS` and plain JSON; what the name means is
the worker's business (`backend.worker.jobs`), so nothing here imports torch, and nothing is ever
imported because a job says so.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from math import ceil
from typing import Any, TypeVar

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as BrokerAway
from redis.exceptions import RedisError
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text, now

from backend import broker, journal, listing
from backend.delivery import BACKGROUND, BATCH, FRONT, LINES, Answer, Deliveries
from backend.errors import BackendError, BadSetting, QueueUnavailable
from backend.scripts import ANSWER_TTL

log = logging.getLogger(__name__)

T = TypeVar("T")

QUEUE = "predictions"
PREDICT = "predict"
SUGGEST = "suggest"  # takes seconds, where a prediction takes a fraction of one
JOBS = frozenset({PREDICT, SUGGEST})

WORKERS = "promptbrush:workers"
SERVING = "promptbrush:serving"
PULSE = "promptbrush:worker:"
PULSE_TTL = 10  # seconds without a sign of life after which a worker counts as dead
LISTED = 100  # jobs shown per state
REASONS = 10_000  # failures told to who prelabels a project
AT_ONCE = 200  # jobs that are handed over in one step


def connect(url: str, patience: float = 30) -> Redis:
    """A client that fails fast: blocking calls here are cut into slices of a second.

    Args:
        url: Of the broker.
        patience: Seconds that the broker may be silent.

    Raises:
        BadSetting: the address cannot be understood.
    """
    try:
        client = Redis.from_url(
            url,
            socket_timeout=patience,
            socket_connect_timeout=2,
            # a connection that was closed is opened anew; a call that hangs would hang again
            retry=Retry(NoBackoff(), 1, supported_errors=(BrokerAway,)),
            encoding_errors="replace",  # a reason may quote half a character: no worker dies of it
        )
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # which else refuses options at first use
        return client
    except (ValueError, TypeError, RedisError) as error:
        # of a port the value is quoted, which may be half a password
        reason = str(error).partition(" as ")[0]
        raise BadSetting(
            f"REDIS_URL cannot be used: {reason}. In a password, other characters than letters "
            "and digits are written as %2F and the like."
        ) from None


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

    @classmethod
    def read(cls, raw: bytes | str) -> WorkerPulse | None:
        """What a worker told; None of one of another version, which leaves out what is needed."""
        told = json.loads(raw)
        try:
            return cls(**{one.name: told[one.name] for one in fields(cls)})
        except KeyError:
            return None


def mixed(workers: Sequence[WorkerPulse]) -> list[str]:
    """A word on workers that answer for each other, but with different checkpoints."""
    served = {f"{one.checkpoint} ({one.model}-{one.digest[:8]})" for one in workers}
    if len({one.digest for one in workers}) < 2:
        return []
    return [
        f"Workers share the broker, but not the checkpoint, so that any of these answers: "
        f"{', '.join(sorted(served))}. Stop those that are not wanted, or give each service a "
        "broker of its own, or another database number at the end of REDIS_URL."
    ]


def queue_of(connection: Redis) -> Queue:
    """The queue as both sides open it."""
    return Queue(QUEUE, connection=connection, job_class=TaskJob, serializer=JSONSerializer)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a request waits for: a job per payload, in order; "" where it comes by another way."""

    asker: str
    jobs: tuple[str, ...]


class PredictionQueue:
    """What the web process and the launcher do with the queue."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self.deliveries = Deliveries(connection)
        self._queue = queue_of(connection)

    def submit(
        self,
        payloads: Sequence[Answer],
        *,
        urgent: bool,
        deadline: float,
        group: str | None = None,
        kind: str = PREDICT,
    ) -> Asking:
        """Enqueue one job of a kind per payload, for a request that waits until the deadline.

        With a group, what is not ready then goes on and is pushed, and a task that is pending
        already is waited for; without, what did not start by then vanishes. Urgent jobs go to the
        front. `deadline` is in seconds from now.

        Raises:
            QueueUnavailable: the broker does not answer.
        """
        if not payloads:
            return Asking("", ())
        jobs: list[str] = []
        asker = ""
        try:
            for some in _chunks(payloads):
                with self.connection.pipeline() as pipeline:
                    asker = self.deliveries.ask(pipeline, asker)
                    line = FRONT if urgent else BATCH
                    jobs += self._hand_over(pipeline, some, asker, line, group, deadline, kind)
            self.deliveries.feed(1)
        except RedisError as error:
            raise _unavailable(error) from error
        return Asking(asker, tuple(jobs))

    def submit_background(self, payloads: Sequence[Answer], group: str) -> None:
        """Enqueue what nobody waits for, behind everything else; pending tasks are left alone.

        Raises:
            QueueUnavailable: the broker does not answer.
        """
        try:
            for some in _chunks(payloads):
                with self.connection.pipeline() as pipeline:
                    self._hand_over(pipeline, some, "", BACKGROUND, group, None)
            self.deliveries.feed(1)
        except RedisError as error:
            raise _unavailable(error) from error

    def _hand_over(
        self,
        pipeline: Pipeline,
        payloads: Sequence[Answer],
        asker: str,
        line: str,
        group: str | None,
        deadline: float | None,
        kind: str = PREDICT,
    ) -> list[str]:
        """Save the jobs of some payloads and put them into a line; returns what to wait for."""
        places = []
        for payload in payloads:
            task = payload["task"].get("id")
            # only a task that Label Studio knows by number can be pushed to
            belongs = group if isinstance(task, int) else None
            vanishes = ceil(deadline) if deadline and belongs is None else None
            job = self._queue.create_job(
                kind,
                args=[payload],
                ttl=vanishes,
                failure_ttl=ANSWER_TTL,
                description=kind,
                meta={"project": payload.get("project"), "task": task},
            )
            job.enqueued_at = now()
            job.save(pipeline=pipeline)
            if vanishes:
                pipeline.expire(job.key, vanishes)
            places.append(len(pipeline))
            self.deliveries.enqueue(
                pipeline, job.id, asker=asker, line=line, group=belongs or "", task=task
            )
        results = pipeline.execute()
        return [as_text(results[place]) for place in places]

    def wait(
        self, asking: Asking, deadline: float, stopping: Callable[[], bool]
    ) -> list[Answer | None]:
        """The answers, in order; None where there was none before the deadline (monotonic).

        Raises:
            QueueUnavailable: the broker does not answer.
        """
        answers: dict[str, Answer | None] = {}
        missing = set(asking.jobs) - {""}
        try:
            while missing and time.monotonic() < deadline and not stopping():
                self._collect(self.deliveries.collect(asking.asker, deadline), missing, answers)
            if asking.asker:
                last = self.deliveries.release(asking.asker)
                if last is None:
                    answers.clear()
                else:
                    self._collect(last, missing, answers)
        except RedisError as error:
            raise _unavailable(error) from error
        return [answers.get(job) for job in asking.jobs]

    def _collect(
        self, told: Sequence[str], missing: set[str], answers: dict[str, Answer | None]
    ) -> None:
        ready = [job for job in told if job in missing]
        for job, body in zip(ready, self.deliveries.bodies(ready), strict=True):
            answers[job] = json.loads(body) if body else None
        missing -= {job.removeprefix("-") for job in told}

    def finish(self, asking: Asking) -> None:
        """Say that the answers have gone out; until then they are kept for the case that not."""
        if not asking.asker:
            return
        try:
            self.deliveries.finish(asking.asker)
        except RedisError as error:
            log.warning("that answers have gone out could not be told to the broker: %s", error)

    def report(self, project: object, task: object, error: BackendError) -> None:
        """Tell at `/jobs` of a task that no worker finished, and why."""
        answer = {"error": error.name, "detail": str(error)}
        journal.write(self.connection, {"project": project, "task": task}, answer, seconds=0.0)

    def workers(self) -> list[WorkerPulse]:
        """The workers that are alive and ready."""
        names = sorted(map(as_text, self.connection.smembers(WORKERS)))
        pulses = self.connection.mget([PULSE + name for name in names]) if names else []
        return [told for raw in pulses if raw and (told := WorkerPulse.read(raw))]

    def serving(self) -> WorkerPulse | None:
        """The worker that answers, or answered last: what is served does not end with it."""
        raw = self.connection.get(SERVING)
        return WorkerPulse.read(raw) if raw else None

    def warnings(self, *joining: WorkerPulse) -> list[str]:
        """What loses or mixes up answers here, and what to do; with workers that are to come."""
        return [*broker.warnings(self.connection), *mixed([*self.workers(), *joining])]

    def depth(self) -> int:
        """Jobs that wait."""
        return self._queue.count + self.deliveries.lined_up_count()

    def running(self) -> int:
        """Jobs that a worker holds."""
        return self.connection.zcard(self._queue.started_job_registry.key)

    def jobs(self, project: int | None = None) -> dict[str, Any]:
        """What `/jobs` shows, of all projects or one: newest first what ended, in turn the rest."""
        lines = (self._queue.key, *LINES)
        running = sorted({job for job, _ in executions(self._queue)})
        pace = journal.seconds_per_task(self.connection)
        return {
            "queued": listing.waiting(self.connection, lines, project, LISTED),
            "running": listing.held(self.connection, running, project, LISTED),
            "unpushed": {
                "count": self.deliveries.unpushed(),
                "trouble": self.deliveries.trouble(),
            },
            "ended": journal.ended(self.connection, project, LISTED),
            "projects": self.deliveries.progress(project, LISTED),
            "seconds_per_task": pace,
            "eta_seconds": None if pace is None else round(pace * self.depth(), 1),
        }

    def progress(self, group: str) -> dict[str, Any]:
        """How far a group is, with at most `REASONS` failures and why pushing rests if it does."""
        progress = self.deliveries.group_progress(group, REASONS)
        return {**progress, "trouble": self.deliveries.trouble()}


def executions(queue: Queue) -> list[tuple[str, str]]:
    """(job id, execution id) of what is held, whether or not its holder lives."""
    raw: list[bytes] = queue.connection.zrange(queue.started_job_registry.key, 0, -1)  # type: ignore[assignment]
    return [(job, run) for job, _, run in (as_text(entry).partition(":") for entry in raw)]


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


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]


def _unavailable(error: RedisError) -> QueueUnavailable:
    return QueueUnavailable(f"The queue's broker does not answer: {error}")
