"""`promptbrush demo`: the demo images on the real road, and pictures of what comes back.

Starts `promptbrush up` as anyone would, sends each image to `/predict` over HTTP, draws the masks
that the answer holds, and stops everything.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
from PIL import Image
from tqdm import tqdm

from backend.durable import rewrite
from backend.errors import BackendError, DeadlineExceeded
from backend.labelstudio import brush
from backend.labelstudio.images import open_image
from backend.launcher import COMMAND
from backend.local import importable
from backend.overlay import Drawn, contact_sheet, draw
from backend.report import table
from backend.settings import DEMO, environment
from demo import IMAGES, LABEL_CONFIG

START_LIMIT = 120.0  # seconds
MAX_PIXELS = 50_000_000

# The demo shows the demo, whatever the environment is set up for; blank means not set.
OWN = {
    "HOST": "127.0.0.1",
    "PROMPTBRUSH_CHECKPOINT": DEMO,
    "MODEL_SCORE_THRESHOLD": "",
    "REDIS_URL": "",
    "MODEL_DIR": "",  # where project 1 may have prompts and weights of its own
    "BASIC_AUTH_USER": "",
    "BASIC_AUTH_PASS": "",
    "ML_SERVER_BASIC_AUTH_USER": "",
    "ML_SERVER_BASIC_AUTH_PASS": "",
    "LABEL_STUDIO_API_KEY": "",
    "LABEL_STUDIO_ACCESS_TOKEN": "",
}


@contextlib.contextmanager
def serving(settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """`promptbrush up` with the demo checkpoint on a free port; gives its address once ready.

    The data folder is an empty one that is gone afterwards; `settings` are added to the
    environment.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="promptbrush-demo-") as data_dir:
        process = subprocess.Popen(
            [*COMMAND, "up", "--quiet"],
            env=environment({**OWN, "PORT": port, "PROMPTBRUSH_DATA_DIR": data_dir, **settings}),
            start_new_session=True,
        )
        try:
            yield _await_ready(f"http://127.0.0.1:{port}", process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=10)


def free_port() -> int:
    """A port of this machine that nobody listens on and that no connection uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + START_LIMIT
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BackendError(f"The server ended with status {process.returncode}.")
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=2).json().get("ready"):
                return url
        time.sleep(0.1)
    raise DeadlineExceeded(f"The server was not ready within {START_LIMIT:.0f} seconds.")


def demo(out: Path) -> str:
    """Write overlays, a contact sheet and `predictions.json` to `out`; returns a table."""
    out.mkdir(parents=True, exist_ok=True)
    label_config = LABEL_CONFIG.read_text(encoding="utf-8")
    paths = sorted(path for path in IMAGES.iterdir() if path.suffix in {".png", ".jpg"})
    pictures, tasks, rows = [], [], []
    with serving() as url:
        for number, path in enumerate(tqdm(paths, unit="image", disable=None), start=1):
            content = path.read_bytes()
            task = importable(path.name, content, [])
            start = time.perf_counter()
            answer = _ask(url, {"id": number, "data": task["data"]}, label_config)
            milliseconds = 1000 * (time.perf_counter() - start)
            image = open_image(content, path.name, MAX_PIXELS)
            drawn = [_drawn(region, image) for region in answer["result"]]
            pictures.append(draw(image, drawn))
            pictures[-1].save(out / f"{path.stem}.png")
            tasks.append({**task, "predictions": [answer]})
            for one, region in zip(drawn, answer["result"], strict=True):
                rows.append(
                    [
                        path.name,
                        region["value"]["brushlabels"][0],
                        f"{region['score']:.2f}",
                        f"{100 * one.mask.mean():.1f} %",
                        f"{milliseconds:.0f}",
                    ]
                )
    contact_sheet(pictures).save(out / "contact-sheet.png")
    rewrite(out / "predictions.json", json.dumps(tasks).encode())
    return table(["image", "prompt", "score", "area", "ms"], rows)


def _ask(url: str, task: dict[str, Any], label_config: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "tasks": [task],
        "project": "1.0",
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": None},
    }
    response = requests.post(f"{url}/predict", json=body, timeout=100)
    response.raise_for_status()
    entry = response.json()["results"][0]
    if not isinstance(entry, dict):
        jobs = requests.get(f"{url}/jobs", timeout=10).json()
        raise BackendError(f"Task {task['id']} failed: {jobs['ended'][:1]}")
    return entry


def _drawn(region: dict[str, Any], image: Image.Image) -> Drawn:
    mask = brush.decode(region["value"]["rle"], image.height, image.width) >= 128
    return Drawn(f"{region['value']['brushlabels'][0]} {region['score']:.2f}", mask)
