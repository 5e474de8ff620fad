"""Locks on files: they hold between processes, and on a shared volume between hosts."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, otherwise: Exception | None = None) -> Iterator[None]:
    """Hold a file's lock, which ends with its process however that ends.

    If another holds it, `otherwise` is raised; without that, this waits.

    Raises:
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        if otherwise is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise otherwise from None
        yield
