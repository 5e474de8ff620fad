"""What dead workers held goes back into the queue."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer
from rq.utils import as_text

from backend import journal
from backend.delivery import Deliveries
from backend.errors import WorkerLost
from backend.queue import PULSE, WORKERS, TaskJob, executions, queue_of

MAX_ATTEMPTS = 2  # a task that took down its worker this often is not tried again


class Recovery:
    """Looks after dead workers; the launcher does, and each worker does for its peers."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection
        self._queue = queue_of(connection)
        self._deliveries = Deliveries(connection)

    def hand_back(self, dead: Callable[[str], bool]) -> int:
        """Requeue at the front what dead workers held; returns how many jobs.

        `dead` tells of a worker's name whether it is gone. A job that lost its worker
        `MAX_ATTEMPTS` times is answered with WorkerLost instead.
        """
        # the launcher and idle workers look at the same time; each job must come back once
        with self._connection.lock("promptbrush:hand-back", timeout=10, blocking_timeout=5):
            self._forget_the_dead()
            return self._hand_back_held(dead) + self._hand_back_unstarted()

    def _forget_the_dead(self) -> None:
        for name in map(as_text, self._connection.smembers(WORKERS)):
            if not self._connection.exists(PULSE + name):
                self._connection.srem(WORKERS, name)

    def _hand_back_held(self, dead: Callable[[str], bool]) -> int:
        handed = 0
        for job_id, execution_id in executions(self._queue):
            try:
                execution = Execution.fetch(execution_id, job_id, self._connection)
                job = TaskJob.fetch(job_id, connection=self._connection, serializer=JSONSerializer)
            except (ValueError, NoSuchJobError):
                entry = f"{job_id}:{execution_id}"
                self._connection.zrem(self._queue.started_job_registry.key, entry)
                continue
            if dead(execution.worker_name):
                self._return(job, execution)
                handed += 1
        return handed

    def _return(self, job: Job, execution: Execution) -> None:
        attempts = int(job.meta.get("attempts", 0)) + 1
        job.meta["attempts"] = attempts
        with self._connection.pipeline() as pipeline:
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
                self._deliveries.deliver(pipeline, job.id, answer)
                journal.write(pipeline, job.meta, answer, seconds=0.0)
                pipeline.delete(job.key)
            pipeline.execute()

    def _hand_back_unstarted(self) -> int:
        """Requeue ids that a worker took off the queue but died before it began.

        Live workers pass ids through here within milliseconds, so only ids that are still here
        after a moment are stranded.
        """
        key = self._queue.intermediate_queue_key
        seen = set(map(as_text, self._connection.lrange(key, 0, -1)))
        if not seen:
            return 0
        time.sleep(0.2)
        held = {job_id for job_id, _ in executions(self._queue)}
        still_there = set(map(as_text, self._connection.lrange(key, 0, -1)))
        handed = 0
        for job_id in (seen & still_there) - held:
            # RQ leaves the id here where a worker finds that the job's deadline has passed
            there = self._connection.exists(TaskJob.key_for(job_id))
            with self._connection.pipeline() as pipeline:
                pipeline.lrem(key, 1, job_id)
                if there:
                    self._queue.push_job_id(job_id, pipeline=pipeline, at_front=True)
                pipeline.execute()
            handed += there
        return handed
