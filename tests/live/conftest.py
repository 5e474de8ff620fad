"""`promptbrush up` as people run it, on a free port, with the tiny checkpoint."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from redis import Redis

from backend import broker
from backend.launcher import COMMAND
from backend.queue import PredictionQueue, connect
from backend.showcase import free_port

ROOT = Path(__file__).parents[2]  # where everybody finds the code under test

LABEL_CONFIG = """
<View>
  <TextArea name="prompt" toName="image"/>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" model_score_threshold="0.01">
    <Label value="Red circle"/>
    <Label value="dog" predicted_values="a dog, puppy"/>
  </BrushLabels>
</View>
"""


def png(seed: int = 0, width: int = 64, height: int = 48) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def data_uri(seed: int = 0, width: int = 64, height: int = 48) -> str:
    return "data:image/png;base64," + base64.b64encode(png(seed, width, height)).decode()


def mark(job: Any, *_: Any) -> None:
    """A callback that leaves a trace where a job's description says; it must never run."""
    Path(job.description).touch()


def processes() -> dict[int, tuple[int, str]]:
    """Every live process: pid -> (parent, command line)."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if stat[0] != "Z":
                found[int(folder.name)] = (int(stat[1]), command)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 30.0, pause: float = 0.1) -> None:
    """Look until it holds, not too often: who is asked works on the same few cores."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(pause)


@dataclass
class Up:
    """A running `promptbrush up`."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    data_dir: Path

    def predict(self, urls: Sequence[str], **changes: Any) -> requests.Response:
        tasks = [{"id": i, "data": {"image": url}} for i, url in enumerate(urls, start=1)]
        body = {"tasks": tasks, "project": "7.1795303384", "label_config": LABEL_CONFIG, **changes}
        return requests.post(f"{self.url}/predict", json=body, timeout=100)

    def get(self, path: str) -> Any:
        return requests.get(self.url + path, timeout=10).json()

    def family(self, role: str = "") -> list[int]:
        """Pids of all descendants whose command line holds `role`."""
        everyone, ours = processes(), {self.process.pid}
        while True:
            more = {pid for pid, (parent, _) in everyone.items() if parent in ours} - ours
            if not more:
                break
            ours |= more
        return sorted(pid for pid in ours if role in everyone.get(pid, (0, ""))[1])

    def worker(self) -> int:
        (pid,) = self.family("backend.cli worker")
        return pid

    def kill(self, role: str) -> None:
        """SIGKILL for a role's processes."""
        for pid in self.family(role):
            os.kill(pid, signal.SIGKILL)

    def ready(self) -> bool:
        try:
            return bool(self.get("/health")["ready"])
        except requests.RequestException:
            return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(timeout=20)


def start(checkpoint: Path | str, data_dir: Path, cwd: object = ".", **settings: object) -> Up:
    port = free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PORT": str(port),
        "PROMPTBRUSH_DATA_DIR": str(data_dir),
        "PROMPTBRUSH_CHECKPOINT": str(checkpoint),
        **{name: str(value) for name, value in settings.items()},
    }
    log = data_dir / f"up-{port}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*COMMAND, "up"],
            cwd=str(cwd),
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Up(process, f"http://127.0.0.1:{port}", log, data_dir)


@contextmanager
def serving(checkpoint: Path | str, data_dir: Path, **settings: object) -> Iterator[Up]:
    """A server that is ready, and gone afterwards."""
    up = start(checkpoint, data_dir, **settings)
    try:
        wait_until(up.ready)
        yield up
    finally:
        up.stop()


@pytest.fixture
def launch(tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start servers of one's own; they are gone after the test."""
    started: list[Up] = []

    def launch_one(**settings: object) -> Up:
        up = start(tiny_checkpoint, tmp_path / f"data{len(started)}", **settings)
        started.append(up)
        wait_until(up.ready)
        return up

    yield launch_one
    for up in started:
        if up.process.poll() is None:
            up.stop()


@pytest.fixture(scope="module")
def up(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One server that the tests of a module share, so they leave it well."""
    data_dir = tmp_path_factory.mktemp("data")
    with serving(tiny_checkpoint, data_dir, IMAGE_HOSTS="127.0.0.1", PREDICT_DEADLINE=30) as shared:
        yield shared


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The same, of the demo checkpoint, which finds things."""
    with serving("demo", tmp_path_factory.mktemp("data")) as shared:
        yield shared


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A broker alone."""
    folder = tmp_path_factory.mktemp("broker")
    socket = folder / "s"
    command = broker.command(broker.find_server(None), socket, folder / "files")
    process = subprocess.Popen(command)
    wait_until(socket.exists)
    yield connect(f"unix://{socket}")
    process.terminate()
    process.wait(10)


@dataclass
class ImageHost:
    """An HTTP server of images whose answers a test may hold up."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    before: Callable[[str, int], None] = lambda path, count: None
    picture: Callable[[str], bytes] = lambda path: png(len(path))


@pytest.fixture
def queue(redis: Redis) -> PredictionQueue:
    redis.flushdb()
    return PredictionQueue(redis)


@pytest.fixture
def image_host() -> Iterator[ImageHost]:
    host = ImageHost()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.asked.append(self.path)
            host.before(self.path, host.asked.count(self.path))
            body = host.picture(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return  # the worker that asked was killed

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    host.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield host
    server.shutdown()
    server.server_close()
