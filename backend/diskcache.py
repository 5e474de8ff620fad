"""Bytes kept on disk between processes and restarts, bounded in size."""

import hashlib
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_DIGEST_BYTES = hashlib.sha256().digest_size
_SLACK = 1 / 32  # of the limit may be written by each process before it looks at the folder again


class DiskCache:
    """Files named by the SHA-256 of their key, the least recently used dropped first.

    Each begins with the SHA-256 of the rest, so a damaged one counts as absent. Any process may
    write or drop any file at any time. A cache that cannot be written costs speed, never an answer.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._unseen = float("inf")  # bytes that may have been added since the last look

    def get(self, key: str) -> bytes | None:
        """What was kept under a key, if it is still there and whole."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            log.warning("dropping a damaged file from a cache: %s", path)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep bytes under a key; what is larger than the cache is not kept."""
        if len(content) + _DIGEST_BYTES > self._limit:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                try:
                    file.write(hashlib.sha256(content).digest() + content)
                    file.flush()
                    Path(file.name).replace(self._path(key))
                except OSError:  # on a full disk nothing of it stays
                    Path(file.name).unlink()
                    raise
            self._unseen += len(content) + _DIGEST_BYTES
            if self._unseen > _SLACK * self._limit:
                self._evict()
        except OSError as error:
            log.warning("the cache in %s cannot be written: %s", self._folder, error)

    def _path(self, key: str) -> Path:
        return self._folder / hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()

    def _evict(self) -> None:
        """Drop the oldest files, leftovers of killed processes included, until the rest fits."""
        self._unseen = 0
        files = []
        for path in self._folder.iterdir():
            with suppress(OSError):  # another process dropped it
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - self._limit
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
            excess -= size
