"""A cache on disks that have their limits."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.diskcache import DiskCache


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """As on a disk that is full, writing stops there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_nothing_is_kept_and_nothing_is_left(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10**6)
    with files_end_at(1000):
        cache.put("a", bytes(5000))
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []
    cache.put("a", bytes(5000))
    assert cache.get("a") == bytes(5000)
