"""The training lane: which projects are to be trained, which are, and how far that is.

A request names a project, and is due at once or later. Requests that wait for the same project are
one. A trainer takes what is due and holds it by a lease that it renews; where the lease has run out
the trainer is dead, and the next one takes the run up again. A run that has to pause is held by
nobody until the pause is over. What is asked for while a project is trained waits until that ends.

Each step is one script in the broker (`backend.trainscripts` has them, and the keys), so that a
process may die before or after it, but not within.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq.utils import as_text

from backend import trainscripts
from backend.scripts import PREFIX
from backend.trainscripts import LEASE, Word

STOPPED = (
    "stopped by hand; encoded images are kept, and the next run on the same annotations goes on "
    "from the last look at the validation tasks, if this one came to one"
)
LEFT = "its trainer died; the next one takes it up again"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A training that a trainer holds."""

    project: int
    number: int  # of the project's runs, from 1
    deaths: int  # of trainers that held it before

    @property
    def name(self) -> str:
        """What it is called where people ask for it."""
        return run_name(self.project, self.number)


def run_name(project: int, number: int) -> str:
    """The name of a project's run."""
    return f"train-{project}-{number}"


class TrainingLane:
    """The lane on an open connection."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    # who asks

    def request(self, project: int) -> str:
        """Ask for a project's training, at once; gives the name of the run that will be it."""
        return run_name(project, int(self._eval(trainscripts.REQUEST, project)))

    def stop(self, project: int) -> bool:
        """Stop a project's run and forget what waits; gives whether there was any."""
        return bool(self._eval(trainscripts.STOP, project, ended("stopped", reason=STOPPED)))

    def news(
        self,
        pipeline: Pipeline,
        project: int,
        before: int,
        total: int,
        after: int,
        quiet: float,
    ) -> None:
        """Count annotations that came, changed or went; from `after` on a training is due.

        That is `quiet` seconds after the latest of them, or at once after twice as many. Where
        `after` is 0 they are counted only. What the lane has not heard of is counted, so that
        nothing is lost with who should have told it: up to a `total` of all that ever happened in
        the project, and where it has heard of nothing, from what had happened `before`. A run that
        is held and has not told where it is learns of them itself: they make no other one due. The
        pipeline's result is how many there are.
        """
        pipeline.eval(trainscripts.NEWS, 0, *map(str, (project, before, total, after, quiet)))

    # who trains

    def take(self, trainer: str) -> Run | None:
        """Hold the next run that is due or was left; None if there is none."""
        taken = self._eval(trainscripts.TAKE, trainer)
        return None if taken is None else Run(*map(int, taken))

    def renew(self, run: Run, trainer: str) -> Word:
        """Go on holding a run, unless it is lost; says whether to go on."""
        return Word(as_text(self._eval(trainscripts.RENEW, run.project, trainer)))

    def tell(self, run: Run, **progress: Any) -> None:
        """Say where a run is."""
        self._connection.hset(f"{PREFIX}training:now", str(run.project), json.dumps(progress))

    def pause(self, run: Run, trainer: str, seconds: int, reason: str) -> None:
        """Let go of a run, which any trainer takes up again after some seconds."""
        told = json.dumps({"reason": reason})
        self._eval(trainscripts.PAUSE, run.project, trainer, seconds, told)

    def end(self, run: Run, trainer: str, state: str, *, promoted: str = "", **told: Any) -> None:
        """Say how a run ended; the version that it promoted is to be followed up."""
        self._eval(trainscripts.END, run.project, trainer, ended(state, **told), promoted)

    def give_back(self, trainer: str) -> int:
        """Let others take up what a dead trainer held at once; gives how many runs."""
        return int(self._eval(trainscripts.GIVE_BACK, trainer))

    def pulse(self, trainer: str) -> None:
        """Say that a trainer lives."""
        now = self._now()
        with self._connection.pipeline() as pipeline:
            pipeline.zadd(f"{PREFIX}training:trainers", {trainer: now})
            pipeline.zremrangebyscore(f"{PREFIX}training:trainers", "-inf", now - LEASE)
            pipeline.execute()

    def end_pulse(self, trainer: str) -> None:
        """Say that a trainer has ended."""
        self._connection.zrem(f"{PREFIX}training:trainers", trainer)

    # what follows

    def follow(self, project: int, version: str) -> None:
        """Say that a project is served otherwise since, by a version or by prompts."""
        self._connection.hset(f"{PREFIX}training:follow", str(project), version)

    def to_follow(self) -> list[tuple[int, str]]:
        """(project, what is served since) that has not reached Label Studio."""
        found = self._connection.hgetall(f"{PREFIX}training:follow")
        return sorted((int(project), as_text(version)) for project, version in found.items())

    def followed(self, project: int, version: str) -> None:
        """Say that a promotion has reached Label Studio."""
        self._eval(trainscripts.FOLLOWED, project, version)

    # how far it is

    def overview(self, project: int | None = None) -> Json:
        """The trainers that live, and each project's state, for JSON; of one project or of all."""
        time = self._now()
        with self._connection.pipeline() as pipeline:
            pipeline.zrange(f"{PREFIX}training:waiting", 0, -1, withscores=True)
            for name in ("running", "runs", "news", "now", "last", "follow"):
                pipeline.hgetall(f"{PREFIX}training:{name}")
            pipeline.zcount(f"{PREFIX}training:trainers", time - LEASE, "+inf")
            waiting, *hashes, trainers = pipeline.execute()
        running, runs, news, now, last, follow = map(_by_project, hashes)
        due = {int(one): max(0.0, at - time) for one, at in waiting}  # in how many seconds
        known = sorted({*due, *running, *news, *last})
        return {
            "trainers": trainers,
            "projects": [
                {
                    "project": one,
                    **self._state(one, due, running, runs, now, last),
                    "news": int(news.get(one, 0)),
                    "to_follow": follow.get(one),
                }
                for one in known
                if project in {None, one}
            ],
        }

    def _state(
        self,
        project: int,
        due: Mapping[int, float],
        running: Mapping[int, str],
        runs: Mapping[int, str],
        now: Mapping[int, str],
        last: Mapping[int, str],
    ) -> Json:
        number = int(runs.get(project, 0))
        ended_last = None
        if project in last:
            job = run_name(project, number - (project in running))
            ended_last = {"job": job, **json.loads(last[project])}
        asked = None
        if project in due:
            asked = {"job": run_name(project, number + 1), "in_seconds": round(due[project], 1)}
        if project in running:
            told = json.loads(now.get(project, "{}"))
            if not running[project]:
                told = {"state": "waiting", **told}
            elif self._connection.exists(f"{PREFIX}training:lease:{project}"):
                told = {"state": "starting", **told}  # who loads the model has told nothing yet
            else:
                told = {"state": "waiting", "reason": LEFT}
            job = run_name(project, number)
            return {"job": job, **told, "next": asked, "last": ended_last}
        if asked is not None:
            return {"job": asked["job"], "state": "waiting", "next": asked, "last": ended_last}
        if ended_last is not None:
            return {**ended_last, "next": None, "last": ended_last}
        return {"job": None, "state": "none", "next": None, "last": None}

    def _now(self) -> float:
        """The broker's time, which all hosts share."""
        seconds, microseconds = self._connection.time()
        return float(seconds) + float(microseconds) / 1e6

    def _eval(self, script: str, *arguments: object) -> Any:
        return self._connection.eval(script, 0, *map(str, arguments))


def ended(state: str, **told: Any) -> str:
    """How a run ended, as JSON."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"state": state, "at": at, **told})


def _by_project(found: Mapping[bytes, bytes]) -> dict[int, str]:
    return {int(project): as_text(told) for project, told in found.items()}
