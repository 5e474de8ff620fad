"""Places among those who wait for a prediction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import QueueUnavailable

SPARE = 4  # threads that never wait for a prediction, so that health and webhooks are answered


class Seats:
    """As many as there are threads, but for some that are left to answer what never waits."""

    def __init__(self, threads: int) -> None:
        self._number = max(1, threads - SPARE)
        self._free = threading.BoundedSemaphore(self._number)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place, or QueueUnavailable where all are taken."""
        if not self._free.acquire(blocking=False):
            raise QueueUnavailable(
                f"{self._number} requests wait already, all that THREADS allows: try again in a "
                "moment."
            )
        try:
            yield
        finally:
            self._free.release()
