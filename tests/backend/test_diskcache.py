"""A cache on disks that have their limits."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backend.diskcache import DiskCache

LARGE = 4 * 2**20  # bytes


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """As on a disk that is full, writing stops there; it holds for pytest's own files, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_nothing_is_kept_and_nothing_is_left(tmp_path: Path) -> None:
    cache, content = DiskCache(tmp_path, 10**9), bytes(2 * LARGE)
    with files_end_at(LARGE):
        cache.put("a", content)
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []
    cache.put("a", content)
    assert cache.get("a") == content
