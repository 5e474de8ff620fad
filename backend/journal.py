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
    """The pace of the latest answers of all workers together; None if there were too few."""
    entries = [json.loads(raw) for raw in connection.lrange(KEY, 0, -1)]
    answered = [
        datetime.fromisoformat(entry["at"]).timestamp()
        for entry in entries
        if entry["outcome"] in {"done", "failed"}
    ][: PACED + 1]
    # by time: hosts' clocks differ, and any may be set back
    gaps = [after - before for before, after in pairwise(sorted(answered))]
    worked = [gap for gap in gaps if gap < PAUSE]
    return round(sum(worked) / len(worked), 4) if worked else None
