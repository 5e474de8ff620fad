"""How soon health, setup, webhooks and an opened task are answered while the worker is busy."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
from tqdm import tqdm

from backend.showcase import serving
from benchmarks.bench_overhead import CONFIG, draw, percentile
from demo import LABEL_CONFIG

TIMES = 200
BATCH = 40
MEGABYTE = 10**6


def batches(url: str, images: list[Path], ended: threading.Event) -> None:
    """One batch after the other; each image is asked with a prompt of its own each time."""
    numbers = itertools.count()
    with requests.Session() as session:
        while not ended.is_set():
            config = CONFIG.replace("a red circle", f"a red circle {next(numbers)}")
            body = {"tasks": [task(image) for image in images], "label_config": config}
            session.post(f"{url}/predict", json=body, timeout=300)


def task(image: Path) -> dict[str, Any]:
    """An image as Label Studio would send it."""
    return {"id": 1, "data": {"image": f"/data/local-files/?d={image.name}"}}


@contextlib.contextmanager
def busy(url: str, images: list[Path]) -> Iterator[None]:
    """Batches all the while."""
    ended = threading.Event()
    thread = threading.Thread(target=batches, args=(url, images, ended))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def calls(image: Path) -> dict[str, tuple[str, str, bytes | None]]:
    """Method, path and body by name."""
    setup = {"project": "1.1", "schema": LABEL_CONFIG.read_text(encoding="utf-8")}
    opened = {"tasks": [task(image)], "label_config": CONFIG}
    return {
        "GET /health": ("GET", "/health", None),
        "POST /setup": ("POST", "/setup", json.dumps(setup).encode()),
        "POST /webhook, START_TRAINING": ("POST", "/webhook", event("START_TRAINING", 0)),
        "POST /webhook, an annotation of 0.1 MB": ("POST", "/webhook", annotation(MEGABYTE // 10)),
        "POST /webhook, an annotation of 1 MB": ("POST", "/webhook", annotation(MEGABYTE)),
        "POST /predict, one task that is opened": ("POST", "/predict", json.dumps(opened).encode()),
    }


def annotation(size: int) -> bytes:
    """An event with a mask of about that many characters."""
    rle = [(7 * number) % 256 for number in range(size * 10 // 46)]
    region = {"id": "a", "type": "brushlabels", "value": {"format": "rle", "rle": rle}}
    saved = {"id": 1, "task": 1, "was_cancelled": False, "result": [region]}
    return event("ANNOTATION_CREATED", 1, annotation=saved, task={"id": 1, "data": {"image": "a"}})


def event(action: str, project: int, **rest: Any) -> bytes:
    """A webhook's body."""
    return json.dumps({"action": action, "project": {"id": project}, **rest}).encode()


def measure() -> dict[tuple[str, str], list[float]]:
    """Milliseconds by state of the worker and call."""
    times: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        *images, opened = draw(Path(folder), BATCH + 1)
        settings = {
            "LOCAL_FILES_DOCUMENT_ROOT": folder,
            "FEATURE_CACHE_MB": "0",
            "FEATURE_CACHE_DISK_MB": "0",
        }
        with serving(settings) as url:
            for state in ("idle", "busy"):
                work = busy(url, images) if state == "busy" else contextlib.nullcontext()
                with work, requests.Session() as session:
                    time.sleep(1)
                    asked = calls(opened)
                    for _ in tqdm(range(TIMES), desc=state, disable=None):
                        for name, (method, path, body) in asked.items():
                            start = time.perf_counter()
                            answer = session.request(method, url + path, data=body, timeout=60)
                            took = 1000 * (time.perf_counter() - start)
                            answer.raise_for_status()
                            times.setdefault((state, name), []).append(took)
    return times


def table() -> str:
    """Markdown: milliseconds, with an idle worker and a busy one."""
    lines = ["| ms | worker | median | p99 | worst |", "|---|---|---:|---:|---:|"]
    for (state, name), values in sorted(measure().items(), key=lambda row: row[0][1]):
        middle, last = statistics.median(values), percentile(values, 0.99)
        lines.append(f"| {name} | {state} | {middle:.1f} | {last:.1f} | {max(values):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
