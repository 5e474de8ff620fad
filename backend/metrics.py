"""Counters in Redis, so that the web process can show the workers' too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from redis import Redis
from redis.client import Pipeline
from rq.utils import as_text

KEY = "promptbrush:metrics"
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def count_request(connection: Redis, route: str, status: int) -> None:
    """One more HTTP answer."""
    connection.hincrby(KEY, f"request|{route}|{status}", 1)


def count_task(pipeline: Pipeline, outcome: str, seconds: float) -> None:
    """One more task, `done` or the name of its error."""
    bucket = next((str(b) for b in BUCKETS if seconds <= b), "+Inf")
    pipeline.hincrby(KEY, f"task|{outcome}", 1)
    pipeline.hincrby(KEY, f"bucket|{bucket}", 1)
    pipeline.hincrbyfloat(KEY, "seconds", seconds)


class Collector:
    """What `/metrics` shows."""

    def __init__(self, connection: Redis, gauges: Iterable[tuple[str, str, float]]) -> None:
        self._connection = connection
        self._gauges = gauges  # (name, help, value)

    def collect(self) -> Iterator[Metric]:
        """Families in the form of the Prometheus client."""
        raw = {as_text(k): float(v) for k, v in self._connection.hgetall(KEY).items()}
        requests = CounterMetricFamily(
            "promptbrush_requests", "HTTP answers.", labels=["route", "status"]
        )
        tasks = CounterMetricFamily(
            "promptbrush_tasks", "Tasks worked on, by outcome.", labels=["outcome"]
        )
        for key, value in sorted(raw.items()):
            kind, *labels = key.split("|")
            if kind == "request":
                requests.add_metric(labels, value)
            elif kind == "task":
                tasks.add_metric(labels, value)
        yield requests
        yield tasks
        total, buckets = 0.0, []
        for bound in (*map(str, BUCKETS), "+Inf"):
            total += raw.get(f"bucket|{bound}", 0.0)
            buckets.append((bound, total))
        seconds = HistogramMetricFamily(
            "promptbrush_task_seconds", "Time in the worker from start to answer, per task."
        )
        seconds.add_metric([], buckets, raw.get("seconds", 0.0))
        yield seconds
        for name, text, value in self._gauges:
            yield GaugeMetricFamily(f"promptbrush_{name}", text, value=value)
