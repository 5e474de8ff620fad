"""A lock in the broker that is renewed by who holds it, and so outlives nobody for long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import LockError, RedisError
from redis.lock import Lock

log = logging.getLogger(__name__)

HOLD = 10  # seconds after which another may take over from a holder that died
_BEATS = 5  # renewals within that time


@contextmanager
def holding(lock: Lock) -> Iterator[threading.Event]:
    """Renew a lock that was acquired, however long it takes, and release it in the end.

    What it gives is set as soon as another may have the lock.
    """
    lost, ended = threading.Event(), threading.Event()
    heart = threading.Thread(target=_renew, args=(lock, lost, ended), daemon=True)
    heart.start()
    try:
        yield lost
    finally:
        ended.set()
        heart.join()
        if not lost.is_set():
            try:
                lock.release()
            except LockError as error:
                log.debug("%s was lost before it was released: %s", lock.name, error)


def _renew(lock: Lock, lost: threading.Event, ended: threading.Event) -> None:
    while not ended.wait(float(lock.timeout or HOLD) / _BEATS):
        try:
            lock.reacquire()
        except (LockError, RedisError) as error:
            log.warning("%s may be another's from now on: %s", lock.name, error)
            lost.set()
            return
