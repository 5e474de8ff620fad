"""What HTTP and the queue cost: one prompt, warm server, every image new to it.

Right before each request the same work is done in this process, without HTTP and queue (fetch,
decode, encode, prompt, pack the mask), and right after it the bare model call on the opened image.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import requests
import torch
from PIL import Image
from tqdm import tqdm

from backend.inference.features import FeatureCache
from backend.inference.pipeline import Pipeline, Served
from backend.inference.predictor import Predictor
from backend.labelstudio.images import ImageStore
from backend.settings import Settings
from backend.showcase import serving
from demo import CHECKPOINT, scenes
from models import Segmenter

CONFIG = (
    '<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">'
    '<Label value="circle" predicted_values="a red circle"/></BrushLabels></View>'
)
REQUESTS = 300
WARM_UP = 20


def draw(folder: Path, count: int) -> list[Path]:
    """Scenes of 640x480 as JPEG files."""
    paths = []
    for seed in tqdm(range(count), desc="drawing", unit="scene", disable=None):
        path = folder / f"{seed}.jpg"
        scenes.generate(seed, (640, 480)).image.save(path, quality=90)
        paths.append(path)
    return paths


def pipeline(segmenter: Segmenter, folder: str) -> Pipeline:
    """The worker's; like the server, it meets every image once."""
    settings = replace(Settings.from_environment(), local_files_root=Path(folder))
    predictor = Predictor(segmenter, FeatureCache(10**9))
    served = Served(predictor, "clipseg", "0" * 64)
    return Pipeline(lambda _: served, ImageStore.of(settings), threshold=0.4)


def measure() -> dict[str, list[float]]:
    """Milliseconds per image: the request, the same work, and the bare model call."""
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    times: dict[str, list[float]] = {"request": [], "work": [], "model": []}
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder), REQUESTS + WARM_UP)
        here = pipeline(segmenter, folder)
        settings = {"LOCAL_FILES_DOCUMENT_ROOT": folder}
        with serving(settings) as url, requests.Session() as session:
            for number, path in enumerate(tqdm(paths, unit="request", disable=None)):
                task = {"id": number, "data": {"image": f"/data/local-files/?d={path.name}"}}
                with Image.open(path) as image:
                    image.load()
                alone = timed(lambda t=task: work(here, t))  # type: ignore[misc]
                request = timed(lambda t=task: ask(session, url, t))  # type: ignore[misc]
                model = timed(lambda i=image: bare(segmenter, i))  # type: ignore[misc]
                if number >= WARM_UP:
                    times["request"].append(request)
                    times["work"].append(alone)
                    times["model"].append(model)
    return times


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def bare(segmenter: Segmenter, image: Image.Image) -> None:
    """The model alone on an opened image."""
    segmenter.segment(segmenter.encode_image(image), segmenter.encode_text(["a red circle"]))


def work(here: Pipeline, task: dict[str, Any]) -> None:
    """What the worker does for a task."""
    ((answer, _),) = here.answer([{"task": task, "label_config": CONFIG}])
    if "error" in answer:
        raise SystemExit(f"task {task['id']} failed: {answer}")


def ask(session: requests.Session, url: str, task: dict[str, Any]) -> None:
    """The same over HTTP and the queue."""
    body = {"tasks": [task], "label_config": CONFIG}
    answer = session.post(f"{url}/predict", json=body, timeout=60)
    if not answer.json()["results"][0]:
        raise SystemExit(f"request {task['id']} failed: {answer.text[:200]}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table() -> str:
    """Markdown: what each takes, and the differences image by image, in milliseconds."""
    times = measure()
    rows = {
        "request over HTTP": times["request"],
        "the same work in one process": times["work"],
        "bare model call": times["model"],
        "HTTP and queue: request less the same work": difference(times, "work"),
        "everything around the model: request less model call": difference(times, "model"),
    }
    lines = ["| ms | median | p90 | p99 |", "|---|---:|---:|---:|"]
    for name, values in rows.items():
        middle = statistics.median(values)
        nine, last = percentile(values, 0.9), percentile(values, 0.99)
        lines.append(f"| {name} | {middle:.1f} | {nine:.1f} | {last:.1f} |")
    return "\n".join(lines)


def difference(times: dict[str, list[float]], less: str) -> list[float]:
    """Request less something else, paired."""
    return [a - b for a, b in zip(times["request"], times[less], strict=True)]


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
