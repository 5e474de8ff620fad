"""A queue that answers at once, for tests of the web process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from werkzeug.test import TestResponse

from backend.errors import BackendError
from backend.labelstudio.regions import brush_value
from backend.queue import WorkerPulse

RECORDED = Path(__file__).parents[2] / "recorded"
MASK = np.eye(12, dtype=bool)
PULSE = WorkerPulse("w", "h", 1, "clipseg", "demo", "d" * 64, "cpu")


class InstantQueue:
    """Every job is answered with one region for the first label that can have one."""

    def __init__(self) -> None:
        self.submitted: list[tuple[list[dict[str, Any]], bool]] = []
        self.groups: list[str | None] = []
        self.finished = 0
        self.reported: list[BackendError] = []
        self.answer: dict[str, Any] | None = {
            "regions": [
                {
                    "control": "brush",
                    "label": "cat",
                    "width": 12,
                    "height": 12,
                    "score": 0.8,
                    "value": brush_value(MASK),
                }
            ],
            "score": 0.8,
            "model_version": "clipseg-1-2",
            "remark": "cat: found, score 0.80",
        }
        self.connection = self
        self.held: dict[str, str] = {}

    def submit(
        self, payloads: list[dict[str, Any]], *, urgent: bool, group: str | None = None, **_: Any
    ) -> list[Any]:
        self.submitted.append((payloads, urgent))
        self.groups.append(group)
        return payloads

    def submit_background(self, payloads: list[dict[str, Any]], group: str) -> None:
        self.submit(payloads, urgent=False, group=group)

    def progress(self, group: str) -> dict[str, Any]:
        return {"group": group}

    def wait(self, jobs: list[Any], *_: Any) -> list[Any]:
        return [self.answer for _ in jobs]

    def finish(self, jobs: list[Any]) -> None:
        self.finished += 1

    def report(self, project: object, task: object, error: BackendError) -> None:
        self.reported.append(error)

    def workers(self) -> list[WorkerPulse]:
        return [PULSE]

    def warnings(self) -> list[str]:
        return []

    def serving(self) -> WorkerPulse:
        return PULSE

    def hincrby(self, *_: Any) -> None:
        """The counter of requests."""

    def get(self, key: str) -> str | None:
        return self.held.get(key)

    def set(self, key: str, value: str, *, ex: int) -> None:
        assert ex > 0
        self.held[key] = value


def body(response: TestResponse) -> dict[str, Any]:
    answer = response.get_json()
    assert isinstance(answer, dict)
    return answer


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text())["json"]
