"""What HTTP, queue and image handling cost on top of the model: one prompt, warm server.

Each image is new to the server, so that it is encoded for every request, and is timed right
before and after by a bare model call in this process on the same number of threads.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import requests
import torch
from PIL import Image
from tqdm import tqdm

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


def bare(segmenter: Segmenter, image: Image.Image) -> float:
    """Milliseconds of the model alone on an opened image."""
    start = time.perf_counter()
    segmenter.segment(segmenter.encode_image(image), segmenter.encode_text(["a red circle"]))
    return 1000 * (time.perf_counter() - start)


def measure() -> tuple[list[float], list[float]]:
    """Milliseconds per request and per bare call, paired."""
    torch.set_num_threads(max(1, os.cpu_count() or 1))
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    asked, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder), REQUESTS + WARM_UP)
        settings = {"LOCAL_FILES_DOCUMENT_ROOT": folder}
        with serving(settings) as url, requests.Session() as session:
            for number, path in enumerate(tqdm(paths, unit="request", disable=None)):
                with Image.open(path) as image:
                    image.load()
                before = bare(segmenter, image)
                body = {
                    "tasks": [
                        {"id": number, "data": {"image": f"/data/local-files/?d={path.name}"}}
                    ],
                    "label_config": CONFIG,
                }
                start = time.perf_counter()
                answer = session.post(f"{url}/predict", json=body, timeout=60)
                milliseconds = 1000 * (time.perf_counter() - start)
                if not answer.json()["results"][0]:
                    raise SystemExit(f"request {number} failed: {answer.text[:200]}")
                after = bare(segmenter, image)
                if number >= WARM_UP:
                    asked.append(milliseconds)
                    alone.append((before + after) / 2)
    return asked, alone


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table() -> str:
    """Markdown: requests, bare calls and their difference, in milliseconds."""
    asked, alone = measure()
    over = [a - b for a, b in zip(asked, alone, strict=True)]
    lines = ["| ms | median | p90 | p99 |", "|---|---:|---:|---:|"]
    for name, values in (
        ("request over HTTP", asked),
        ("bare model call", alone),
        ("overhead (difference, paired)", over),
    ):
        middle = statistics.median(values)
        nine, last = percentile(values, 0.9), percentile(values, 0.99)
        lines.append(f"| {name} | {middle:.1f} | {nine:.1f} | {last:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
