"""A queue whose worker finds every phrase but one, for tests of the page."""

from typing import Any

import numpy as np
from redis.exceptions import ConnectionError as BrokerDown

from backend.labelstudio.config import parse_label_config
from backend.labelstudio.regions import brush_value, shape
from backend.queue import WorkerPulse

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
EVIL = "<script>alert('x')</script>"
MISSING = "what is not there"
WIDTH, HEIGHT = 300, 200


class PlaygroundQueue:
    """Finds every phrase in the upper half of the image, but for MISSING."""

    def __init__(self) -> None:
        self.connection = self
        self.pulses = [WorkerPulse(EVIL, "h", 1, "clipseg", "demo", "d" * 64, "cpu")]
        self.answer: Any = self.find
        self.down = False
        self.refused = 0  # calls while it was down
        self.submitted: list[tuple[dict[str, Any], bool]] = []
        self.ended: list[dict[str, Any]] = []
        self.projects: list[dict[str, Any]] = []
        self.waiting = 0
        self.warned: list[str] = []
        self.trouble: str | None = None
        self.trainers = 1
        self.training: list[dict[str, Any]] = []

    def find(self, payload: dict[str, Any]) -> dict[str, Any]:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[: HEIGHT // 2] = True
        (control,) = parse_label_config(payload["label_config"]).outputs
        return {
            "regions": [
                shape(control, label.value, brush_value(mask), mask.shape, 0.75)
                for label in control.labels
                if label.value != MISSING
            ],
            "score": 0.75,
            "model_version": "clipseg-1-2",
            "seconds": {"fetch": 0.001, "encode": 0.0, "draw": 0.002},
        }

    def _answer(self) -> None:
        if self.down:
            self.refused += 1
            raise BrokerDown("refused")

    def submit(self, payloads: list[dict[str, Any]], *, urgent: bool, **_: Any) -> list[Any]:
        self.submitted += [(payload, urgent) for payload in payloads]
        return payloads

    def wait(self, jobs: list[Any], *_: Any) -> list[Any]:
        return [self.answer(job) for job in jobs]

    def finish(self, jobs: list[Any]) -> None:
        """Nothing is kept."""

    def workers(self) -> list[WorkerPulse]:
        self._answer()
        return self.pulses

    def warnings(self) -> list[str]:
        return self.warned

    def serving(self) -> WorkerPulse:
        return self.workers()[0]

    def jobs(self) -> dict[str, Any]:
        self._answer()
        return {
            "queued": {"count": self.waiting, "jobs": []},
            "running": {"count": 0, "jobs": []},
            "unpushed": {"count": 0, "trouble": self.trouble},
            "ended": self.ended,
            "projects": self.projects,
            "seconds_per_task": 2.0,
            "eta_seconds": 2.0 * self.waiting,
        }

    def overview(self) -> dict[str, Any]:
        self._answer()
        return {"trainers": self.trainers, "projects": self.training}

    def hincrby(self, *_: Any) -> None:
        """The counter of requests."""
