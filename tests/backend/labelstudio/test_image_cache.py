"""Images that were fetched are kept on disk, bounded, for every thread and process."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backend.errors import ImageUnreadable
from backend.labelstudio.images import ImageStore
from tests.backend.labelstudio.pictures import encoded, noise, pixel, saved

Server = Any  # conftest.py has it


def test_a_cached_image_is_not_asked_for_again(
    store: Callable[..., ImageStore], server: Server
) -> None:
    server.reply("/a.png", encoded())
    first = store().fetch(f"{server.url}/a.png?v=1")
    again = store().fetch(f"{server.url}/a.png?v=1")
    assert (first.digest, pixel(first.image)) == (again.digest, pixel(again.image))
    store().fetch(f"{server.url}/a.png?v=2")
    assert server.paths == ["/a.png?v=1", "/a.png?v=2"]


def test_only_images_are_kept(
    store: Callable[..., ImageStore], server: Server, tmp_path: Path
) -> None:
    server.reply("/a.png", b"<html>please log in</html>")
    with pytest.raises(ImageUnreadable, match="web page"):
        store().fetch(f"{server.url}/a.png")
    server.reply("/a.png", encoded())
    assert store().fetch(f"{server.url}/a.png").image.size == (6, 4)
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b[:40] + b"x" * 9])
def test_a_damaged_cache_file_is_fetched_again(
    store: Callable[..., ImageStore],
    server: Server,
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    server.reply("/a.png", encoded())
    store().fetch(f"{server.url}/a.png")
    [kept] = (tmp_path / "cache").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    for _ in range(2):
        assert store().fetch(f"{server.url}/a.png").image.size == (6, 4)
    assert len(server.requests) == 2


def test_the_cache_stays_bounded_and_drops_what_was_not_used(
    store: Callable[..., ImageStore], server: Server, tmp_path: Path
) -> None:
    data = saved(noise(20, 20), "BMP")
    for n in range(4):
        server.reply(f"/{n}", data)
    images = store(cache_bytes=3 * (len(data) + 100))
    now = time.time()
    for n in range(3):
        images.fetch(f"{server.url}/{n}")
        newest = max((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (now - 100 + n, now - 100 + n))
    images.fetch(f"{server.url}/0")  # used again, so 1 is the oldest now
    images.fetch(f"{server.url}/3")
    assert len(list((tmp_path / "cache").iterdir())) == 3
    server.requests.clear()
    for n in (0, 3, 2, 1):
        images.fetch(f"{server.url}/{n}")
    assert server.paths == ["/1"]


def test_an_image_larger_than_the_cache_is_served_all_the_same(
    store: Callable[..., ImageStore], server: Server, tmp_path: Path
) -> None:
    server.reply("/a.png", encoded())
    assert store(cache_bytes=10).fetch(f"{server.url}/a.png").image.size == (6, 4)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_costs_no_image(
    store: Callable[..., ImageStore], server: Server, tmp_path: Path
) -> None:
    server.reply("/a.png", encoded())
    (tmp_path / "file").write_text("in the way")
    images = store(cache_dir=tmp_path / "file" / "cache")
    assert images.fetch(f"{server.url}/a.png").image.size == (6, 4)


def test_threads_may_share_a_store(store: Callable[..., ImageStore], server: Server) -> None:
    data = saved(noise(20, 20), "BMP")
    for n in range(6):
        server.reply(f"/{n}", data)
    images = store(cache_bytes=2 * (len(data) + 100))
    urls = [f"{server.url}/{n % 6}" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        digests = {image.digest for image in pool.map(images.fetch, urls)}
    assert digests == {hashlib.sha256(data).hexdigest()}


def test_processes_may_share_a_cache(server: Server, tmp_path: Path) -> None:
    for n in range(5):
        server.reply(f"/{n}", saved(noise(20, 20 + n), "BMP"))
    script = f"""
from pathlib import Path
from backend.labelstudio.images import ImageStore
images = ImageStore(cache_dir=Path({str(tmp_path)!r}), cache_bytes=3000, label_studio_url=None,
    api_key=None, local_root=None, allowed_hosts=frozenset({{"127.0.0.1"}}), max_bytes=10**6,
    max_pixels=10**6, timeout=20)
for n in range(100):
    assert images.fetch("{server.url}/" + str(n % 5)).image.size == (20, 20 + n % 5)
"""
    runs = [subprocess.Popen([sys.executable, "-W", "error", "-c", script]) for _ in range(2)]
    assert [run.wait(60) for run in runs] == [0, 0]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
