"""Late predictions go into Label Studio through its API.

One process at a time does that, so that no two write the same prediction; another takes over when
it dies. What it takes from the outbox stays on a list of its own until Label Studio has it, and
what is on that list after a death is first looked for in Label Studio: nothing is lost, nothing
comes twice.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import LockError, LockNotOwnedError, RedisError
from redis.lock import Lock

from backend import journal
from backend.delivery import PUSHER, Deliveries
from backend.errors import (
    BackendError,
    BadLabelConfig,
    LabelStudioRefused,
    LabelStudioUnavailable,
)
from backend.holding import HOLD, holding
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.regions import prediction
from backend.labelstudio.studio import UNCERTAINTY, Predictions
from backend.outage import Outage

log = logging.getLogger(__name__)

AT_ONCE = 25  # answers taken together
MOST_BYTES = 4_000_000  # of packed answers in one request; as JSON they are four times that
LOOK = 5.0  # seconds between looks after askers that died
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
IN_DOUBT = 20.0  # seconds that a request which failed half-way has to be carried out or not
UNKNOWN, FORBIDDEN, MISSING = 401, 403, 404  # the token, to its user, at all


@dataclass(frozen=True, slots=True)
class Late:
    """An answer on its way."""

    job: str
    task: int
    answer: dict[str, Any]
    size: int

    @property
    def version(self) -> str:
        """The version that it is a prediction of."""
        return str(self.answer.get("model_version"))

    @property
    def alone(self) -> bool:
        """Whether a request may carry nothing else, since a cluster would not arrive."""
        return "cluster" in self.answer


class InDoubt(Exception):
    """A request to save predictions failed in a way that leaves open whether it was carried out."""


class Pusher:
    """Empties the outbox into Label Studio."""

    def __init__(
        self, connection: Redis, studio: Predictions, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._connection = connection
        self._studio = studio
        self._stopping = stopping
        self._deliveries = Deliveries(connection)
        self._outage = Outage(log)
        self._lock: Lock | None = None

    def run(self) -> None:
        """Push until told to stop."""
        while not self._stopping():
            lock = self._connection.lock(PUSHER, timeout=HOLD, thread_local=False)
            try:
                held = lock.acquire(blocking=False)
                self._outage.ends()
                if held:
                    self._work(lock)
                else:
                    self._rest(1.0)
            except LockError as error:
                log.warning("another pushes from now on: %s", error)
                self._rest(1.0)
            except RedisError as error:
                self._outage.goes_on(error)
                self._rest(1.0)

    def _work(self, lock: Lock) -> None:
        """Push while the lock is held."""
        self._lock = lock
        with holding(lock) as lost:
            recovered = self._deliveries.recover()
            if recovered:
                log.warning("%d predictions were on their way when their pusher died", recovered)
            look_at = 0.0
            while not (self._stopping() or lost.is_set()):
                if time.monotonic() >= look_at:
                    self._deliveries.sweep()
                    look_at = time.monotonic() + LOOK
                jobs = self._deliveries.take(AT_ONCE, seconds=1)
                self._push_until_done(jobs, lost)
                self._deliveries.feed(1)  # the background pauses while too much waits here

    def _push_until_done(self, jobs: Sequence[str], lost: threading.Event) -> None:
        """Push what was taken, again and again while Label Studio cannot."""
        pause = FIRST_PAUSE
        while jobs and not (self._stopping() or lost.is_set()):
            try:
                self.push(jobs)
                self._deliveries.tell_trouble("")
                return
            except (BackendError, InDoubt) as error:
                wait = _asked(error) or pause
                if isinstance(error, InDoubt):
                    wait = max(wait, IN_DOUBT)
                log.warning("%d predictions wait %.0f s: %s", len(jobs), wait, error)
                self._deliveries.tell_trouble(str(error))
                self._rest(wait)
                pause = min(2 * pause, LONGEST_PAUSE)

    def push(self, jobs: Sequence[str]) -> None:
        """Bring answers into Label Studio, unless they are there, and acknowledge them.

        Raises:
            LabelStudioError: it cannot be asked, or refuses the token, whatever it is asked for;
                some of the answers may have been brought.
            InDoubt: it did not say whether it saved some.
        """
        projects: dict[int, list[Late]] = {}
        addresses = self._deliveries.addresses(jobs)
        bodies = self._deliveries.bodies(jobs)
        gone = [job for job, body in zip(jobs, bodies, strict=True) if body is None]
        if gone:  # brought before, or evicted
            self._deliveries.acknowledge(gone, "dropped")
        for job, address, body in zip(jobs, addresses, bodies, strict=True):
            if address is not None and body is not None:
                project, task = address
                late = Late(job, task, json.loads(body), len(body))
                projects.setdefault(project, []).append(late)
        for project, lates in projects.items():
            try:
                self._push_to(project, lates)
            except LabelStudioRefused as error:
                if error.answered != FORBIDDEN:
                    raise
                self._studio.user()  # who may do nothing at all may not ask this either
                addresses = self._deliveries.addresses([late.job for late in lates])
                left = [late for late, one in zip(lates, addresses, strict=True) if one]
                self._drop(project, left, f"the token's user may not write to it: {error}")

    def _push_to(self, project: int, lates: Sequence[Late]) -> None:
        try:
            row = self._studio.project(project)
            if row.get("sampling") != UNCERTAINTY:  # nothing else reads clusters
                for late in lates:
                    late.answer.pop("cluster", None)
            config = parse_label_config(row["label_config"])
            left = self._existing(project, lates)
        except BadLabelConfig as error:
            self._drop(project, lates, f"the labeling configuration cannot be used: {error}")
            return
        except LabelStudioRefused as error:
            if error.answered != MISSING:
                raise
            gone = "the project was deleted"
            self._drop(project, lates, gone)
            if waiting := self._deliveries.drop(project, gone):
                log.warning("%d tasks of project %d are not predicted: %s", waiting, project, gone)
            return
        twins: list[Late] = []  # of tasks that were asked for in two groups, and answered alike
        for version in dict.fromkeys(late.version for late in left):
            mine = [late for late in left if late.version == version]
            lacking = self._lacking(project, mine)
            self._done(project, [late for late in mine if late.task not in lacking])
            first = {late.task: late for late in reversed(mine) if late.task in lacking}
            for some in _lots([late for late in mine if late is first.get(late.task)]):
                self._create(project, some, config)
            twins += [late for late in mine if first.get(late.task, late) is not late]
        if twins:
            self._push_to(project, twins)

    def _lacking(self, project: int, lates: Sequence[Late]) -> set[int]:
        """Those of the tasks that lack their prediction; all answers are of one version."""
        ids = [late.task for late in lates]
        rows = self._studio.tasks(project, ids=ids, lacking=lates[0].version, include=("id",))
        return {row["id"] for row in rows}

    def _create(self, project: int, lates: Sequence[Late], config: LabelConfig) -> None:
        """Save predictions; if some cannot be saved, each meets its own refusal."""
        try:
            first, *others = (
                {"task": late.task, **prediction(late.answer, config, late.task)} for late in lates
            )
        except (KeyError, TypeError, ValueError) as error:
            unreadable = (
                f"its answer, of another version of promptbrush, is not understood: {error!r}"
            )
            self._refuse(project, lates, config, unreadable)
            return
        # who was suspended since it looked what is lacking may have been taken for dead
        if self._lock is not None and not self._lock.owned():
            raise LockNotOwnedError("this process was silent for too long")
        try:
            if "cluster" in first:
                self._studio.create_prediction(project, first)
                created = 1
            else:
                created = self._studio.create_predictions(project, [first, *others])
        except LabelStudioRefused as error:
            if error.answered in {UNKNOWN, FORBIDDEN}:
                raise
            self._refuse(project, lates, config, str(error))
            return
        except BackendError as error:
            raise InDoubt(str(error)) from error
        if created < len(lates):
            refused = self._lacking(project, lates)
            reason = "Label Studio left it out: it does not fit the labeling configuration"
            self._drop(project, [late for late in lates if late.task in refused], reason)
            lates = [late for late in lates if late.task not in refused]
        self._done(project, lates)

    def _refuse(
        self, project: int, lates: Sequence[Late], config: LabelConfig, reason: str
    ) -> None:
        """Drop an answer that cannot be saved; of several, find out which by trying each alone."""
        left = self._existing(project, lates)
        if len(lates) == 1:
            self._drop(project, left, reason)
        elif left and len(left) < len(lates):
            self._create(project, left, config)
        else:
            for late in left:
                self._create(project, [late], config)

    def _existing(self, project: int, lates: Sequence[Late]) -> list[Late]:
        """Drop the answers of tasks that were deleted; gives the others."""
        rows = self._studio.tasks(project, ids=[late.task for late in lates], include=("id",))
        there = {row["id"] for row in rows}
        deleted = [late for late in lates if late.task not in there]
        self._drop(project, deleted, "the task was deleted")
        return [late for late in lates if late.task in there]

    def _done(self, project: int, lates: Sequence[Late]) -> None:
        self._acknowledge(project, lates, "pushed", {})

    def _drop(self, project: int, lates: Sequence[Late], reason: str) -> None:
        for late in lates:
            log.warning("project %d, task %d is dropped: %s", project, late.task, reason)
        told = {"error": "NotPushed", "detail": reason}
        self._acknowledge(project, lates, "dropped", told)

    def _acknowledge(
        self, project: int, lates: Sequence[Late], outcome: str, told: Mapping[str, str]
    ) -> None:
        if not lates:
            return
        self._deliveries.acknowledge([late.job for late in lates], outcome, told.get("detail", ""))
        for late in lates:
            journal.note(
                self._connection,
                project=project,
                task=late.task,
                outcome=outcome,
                model_version=late.version,
                **told,
            )

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._stopping():
            time.sleep(min(0.1, seconds))


def _asked(error: Exception) -> float | None:
    """The seconds that Label Studio wants to be left alone, if it said so."""
    cause = error.__cause__ if isinstance(error, InDoubt) else error
    return cause.after if isinstance(cause, LabelStudioUnavailable) else None


def _lots(lates: Sequence[Late]) -> Iterator[list[Late]]:
    """In order, as requests carry them: at most `MOST_BYTES`, or one."""
    lot: list[Late] = []
    size = 0
    for late in lates:
        if lot and (late.alone or lot[0].alone or size + late.size > MOST_BYTES):
            yield lot
            lot, size = [], 0
        lot.append(late)
        size += late.size
    if lot:
        yield lot
