"""What `/jobs` shows: what waits, runs, is pushed and ended, per project, with reasons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from redis import Redis
from redis.client import Pipeline

KEY = "promptbrush:journal"
LENGTH = 500
PACED = 100  # latest tasks that the pace is measured on
PAUSE = 30.0  # seconds without an answer that count as rest, not as work


def write(
    connection: Redis | Pipeline, job: Mapping[str, Any], answer: Mapping[str, Any], seconds: float
) -> None:
    """Remember how a job ended; `job` tells its project and task."""
    note(
        connection,
        project=job.get("project"),
        task=job.get("task"),
        outcome="failed" if "error" in answer else "done",
        ms=round(1000 * seconds),
        **{key: answer[key] for key in ("error", "detail", "model_version") if key in answer},
    )


def note(connection: Redis | Pipeline, **entry: Any) -> None:
    """Remember something that happened to a task."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    connection.lpush(KEY, json.dumps({"at": at, **entry}))
    connection.ltrim(KEY, 0, LENGTH - 1)


def ended(connection: Redis, project: int | None, most: int) -> list[dict[str, Any]]:
    """The latest entries, newest first, of a project or of all."""
    entries = [json.loads(raw) for raw in connection.lrange(KEY, 0, -1)]
    return [entry for entry in entries if project in {None, entry["project"]}][:most]


def seconds_per_task(connection: Redis) -> float | None:
    """The pace of the latest answers of all workers together; None if there were too few.

    Answers that came seldom were asked for seldom: the pace is no slower than one worker's.
    """
    entries = [json.loads(raw) for raw in connection.lrange(KEY, 0, -1)]
    answered = [one for one in entries if one["outcome"] in {"done", "failed"}][: PACED + 1]
    # by time: hosts' clocks differ, and any may be set back
    times = sorted(datetime.fromisoformat(one["at"]).timestamp() for one in answered)
    worked = [gap for gap in (b - a for a, b in pairwise(times)) if gap < PAUSE]
    if not worked:
        return None
    took: float = sum(one["ms"] for one in answered) / 1000 / len(answered)
    return round(min(took, sum(worked) / len(worked)), 4)
