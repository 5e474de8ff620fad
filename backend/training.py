"""The training lane: which projects are to be trained, which are, and how far that is.

A request names a project, and is due at once or later. Requests that wait for the same project are
one. A trainer takes what is due and holds it by a lease that it renews; where the lease has run out
the trainer is dead, and the next one takes the run up again. A run that has to pause is held by
nobody until the pause is over. What is asked for while a project is trained waits until that ends.

Each step is one script in the broker, so that a process may die before or after it, but not within.
Keys, after the prefix:

    waiting           project by when it is due, in the broker's time
    running           project -> trainer, "" in a pause
    lease:{project}   there while the trainer lives, or the pause lasts
    stop:{project}    there if the run is to be stopped
    runs              project -> how many runs were begun
    deaths            project -> how many trainers died in this run
    news              project -> annotations since the last run was begun
    told              project -> annotations that were ever counted as news
    now, last         project -> where the run is, how the last one ended, as JSON
    follow            project -> what is served since, and has not reached Label Studio
    trainers          trainer by its last sign of life
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.client import Pipeline
from rq.utils import as_text

from backend.scripts import PREFIX

STOPPED = (
    "stopped by hand; encoded images are kept, and the next run on the same annotations goes on "
    "from the last look at the validation tasks, if this one came to one"
)
LEFT = "its trainer died; the next one takes it up again"
LEASE = 10  # seconds without a sign of life after which a trainer counts as dead
STOP = 24 * 3600  # seconds that the word to stop a run holds

Json = dict[str, Any]


class Word(StrEnum):
    """What a trainer is told when it renews its lease."""

    GO_ON = "go on"
    STOP = "stop"
    LOST = "lost"  # another has the run


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


_HEAD = f"""
local P = '{PREFIX}training:'
local function call(...) return redis.call(...) end
local function now() local t = call('TIME') return t[1] + t[2] / 1000000 end
local function lease(project) return P .. 'lease:' .. project end
local function alive(project) return call('EXISTS', lease(project)) == 1 end
local function hold(project, name, seconds)
  call('HSET', P .. 'running', project, name)
  call('SET', lease(project), name, 'EX', seconds)
end
local function let_go(project, last)
  call('HDEL', P .. 'running', project)
  call('HDEL', P .. 'now', project)
  call('HDEL', P .. 'deaths', project)
  call('DEL', lease(project), P .. 'stop:' .. project)
  call('HSET', P .. 'last', project, last)
end
"""

# Gives the number of the run that will answer the request: one in a pause goes on now.
_REQUEST = (
    _HEAD
    + """
local project = ARGV[1]
local runs = tonumber(call('HGET', P .. 'runs', project) or 0)
if call('HGET', P .. 'running', project) == '' then
  call('DEL', lease(project))
  return runs
end
call('ZADD', P .. 'waiting', 'LT', now(), project)
return runs + 1
"""
)

# What is due later is put off while there are more news, but not for ever. Totals that have shrunk
# were lost, and began anew. A run that has not told where it is yet will learn of what there is.
_NEWS = (
    _HEAD
    + """
local project, before, total = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local after, quiet = tonumber(ARGV[4]), tonumber(ARGV[5])
local told = tonumber(call('HGET', P .. 'told', project) or before)
if told > total then told = before end
call('HSET', P .. 'told', project, total)
local count = total - told
if count == 0 then return 0 end
if call('HEXISTS', P .. 'running', project) > call('HEXISTS', P .. 'now', project) then
  return count
end
local news = call('HINCRBY', P .. 'news', project, count)
if after == 0 or news < after then return count end
local due, old = now(), tonumber(call('ZSCORE', P .. 'waiting', project) or math.huge)
if old <= due then return count end
if news < 2 * after then due = due + quiet end
call('ZADD', P .. 'waiting', due, project)
return count
"""
)

# What was told of a run before it was left or paused is no longer so: it reads all anew.
_TAKE = (
    _HEAD
    + f"""
local name = ARGV[1]
local function begin(project)
  call('HDEL', P .. 'news', project)
  call('HDEL', P .. 'now', project)
  hold(project, name, {LEASE})
end
for _, project in ipairs(call('HKEYS', P .. 'running')) do
  if not alive(project) then
    local deaths = call('HGET', P .. 'deaths', project) or 0
    if call('HGET', P .. 'running', project) ~= '' then
      deaths = call('HINCRBY', P .. 'deaths', project, 1)
    end
    begin(project)
    return {{project, call('HGET', P .. 'runs', project), deaths}}
  end
end
for _, project in ipairs(call('ZRANGEBYSCORE', P .. 'waiting', '-inf', now())) do
  if call('HEXISTS', P .. 'running', project) == 0 then
    call('ZREM', P .. 'waiting', project)
    begin(project)
    return {{project, call('HINCRBY', P .. 'runs', project, 1), 0}}
  end
end
"""
)

_RENEW = (
    _HEAD
    + f"""
local project, name = ARGV[1], ARGV[2]
if call('HGET', P .. 'running', project) ~= name then return '{Word.LOST}' end
hold(project, name, {LEASE})
if call('EXISTS', P .. 'stop:' .. project) == 1 then return '{Word.STOP}' end
return '{Word.GO_ON}'
"""
)

_END = (
    _HEAD
    + """
local project, name, last, version = unpack(ARGV)
if call('HGET', P .. 'running', project) ~= name then return end
let_go(project, last)
if version ~= '' then call('HSET', P .. 'follow', project, version) end
"""
)

_PAUSE = (
    _HEAD
    + """
local project, name, seconds, told = unpack(ARGV)
if call('HGET', P .. 'running', project) ~= name then return end
hold(project, '', math.max(1, seconds))
if seconds == '0' then call('DEL', lease(project)) end
call('HSET', P .. 'now', project, told)
"""
)

# Whom a trainer works on ends by that trainer's hand, so that nothing is written afterwards.
_STOP = (
    _HEAD
    + f"""
local project, last = ARGV[1], ARGV[2]
local waited = call('ZREM', P .. 'waiting', project)
local holder = call('HGET', P .. 'running', project)
if not holder then return waited end
if holder ~= '' and alive(project) then
  call('SET', P .. 'stop:' .. project, '1', 'EX', {STOP})
else
  let_go(project, last)
end
return 1
"""
)

_GIVE_BACK = (
    _HEAD
    + """
local given = 0
for _, project in ipairs(call('HKEYS', P .. 'running')) do
  if call('HGET', P .. 'running', project) == ARGV[1] then
    given = given + call('DEL', lease(project))
  end
end
return given
"""
)

_FOLLOWED = (
    _HEAD
    + """
if call('HGET', P .. 'follow', ARGV[1]) == ARGV[2] then call('HDEL', P .. 'follow', ARGV[1]) end
"""
)


class TrainingLane:
    """The lane on an open connection."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    # who asks

    def request(self, project: int) -> str:
        """Ask for a project's training, at once; gives the name of the run that will be it."""
        return run_name(project, int(self._eval(_REQUEST, project)))

    def stop(self, project: int) -> bool:
        """Stop a project's run and forget what waits; gives whether there was any."""
        return bool(self._eval(_STOP, project, ended("stopped", reason=STOPPED)))

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
        pipeline.eval(_NEWS, 0, *map(str, (project, before, total, after, quiet)))

    # who trains

    def take(self, trainer: str) -> Run | None:
        """Hold the next run that is due or was left; None if there is none."""
        taken = self._eval(_TAKE, trainer)
        return None if taken is None else Run(*map(int, taken))

    def renew(self, run: Run, trainer: str) -> Word:
        """Go on holding a run, unless it is lost; says whether to go on."""
        return Word(as_text(self._eval(_RENEW, run.project, trainer)))

    def tell(self, run: Run, **progress: Any) -> None:
        """Say where a run is."""
        self._connection.hset(f"{PREFIX}training:now", str(run.project), json.dumps(progress))

    def pause(self, run: Run, trainer: str, seconds: int, reason: str) -> None:
        """Let go of a run, which any trainer takes up again after some seconds."""
        told = json.dumps({"reason": reason})
        self._eval(_PAUSE, run.project, trainer, seconds, told)

    def end(self, run: Run, trainer: str, state: str, *, promoted: str = "", **told: Any) -> None:
        """Say how a run ended; the version that it promoted is to be followed up."""
        self._eval(_END, run.project, trainer, ended(state, **told), promoted)

    def give_back(self, trainer: str) -> int:
        """Let others take up what a dead trainer held at once; gives how many runs."""
        return int(self._eval(_GIVE_BACK, trainer))

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
        self._eval(_FOLLOWED, project, version)

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
