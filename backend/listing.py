"""Jobs that wait or are held, as `/jobs` lists them: how many, and the first of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis import Redis
from rq.job import Job
from rq.utils import as_text

FIELDS = ("meta", "enqueued_at")
JOB = Job.redis_job_namespace_prefix

Row = tuple[Any, ...]  # a job's id, and its fields
Json = dict[str, Any]


def waiting(connection: Redis, lines: Sequence[str], project: int | None, most: int) -> Json:
    """Jobs in lists, of a project or of all, in the order of their turn.

    The broker looks up all of a list in one step: a call for each of 20,000 takes many times that.
    """
    fields = ["#", *(f"{JOB}*->{name}" for name in FIELDS)]
    first = most if project is None else -1  # of another project's jobs any may be the first
    rows: list[Row] = []
    for line in lines:
        rows += connection.sort(line, 0, first, "nosort", fields, groups=True)  # type: ignore[arg-type]
    shown = _shown(rows, project)
    count = sum(map(connection.llen, lines)) if project is None else len(shown)
    return {"count": count, "jobs": shown[:most]}


def held(connection: Redis, ids: Sequence[str], project: int | None, most: int) -> Json:
    """The same of jobs by id."""
    with connection.pipeline(transaction=False) as pipeline:
        for job in ids:
            pipeline.hmget(JOB + job, FIELDS)
        rows = [(job, *told) for job, told in zip(ids, pipeline.execute(), strict=True)]
    shown = _shown(rows, project)
    return {"count": len(ids if project is None else shown), "jobs": shown[:most]}


def _shown(rows: Sequence[Row], project: int | None) -> list[Json]:
    """Jobs of a project or of all; those that are gone meanwhile, or strangers', are left out."""
    return [
        {
            "id": as_text(job),
            "project": told.get("project"),
            "task": told.get("task"),
            "enqueued_at": as_text(enqueued_at) if enqueued_at else None,
        }
        for job, meta, enqueued_at in rows
        if (told := _meta(meta)) and project in {None, told.get("project")}
    ]


def _meta(raw: bytes | None) -> Mapping[str, Any]:
    """What a job of ours tells of itself; RQ's own way of writing that is not JSON."""
    try:
        told = json.loads(raw or b"")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
