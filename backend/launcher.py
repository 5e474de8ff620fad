"""`promptbrush up`: start broker, workers, trainer, pusher and web, watch over them, stop them.

Children live in sessions of their own, so that Ctrl-C reaches the launcher alone and it decides
the order: the web process ends first, while workers can still answer what it waits for.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis.exceptions import RedisError

from backend import broker
from backend.connect import address
from backend.errors import CONFIG_FAULT, BackendError, BadSetting, BrokerUnavailable
from backend.filelock import locked
from backend.queue import connect
from backend.recovery import Recovery
from backend.settings import Settings
from backend.training import TrainingLane

log = logging.getLogger(__name__)

STABLE = 60.0  # seconds after which a child's earlier deaths are forgotten
LONGEST_PAUSE = 30.0
TICK = 0.1
WEB_STOP, WORKER_STOP, BROKER_STOP = 3.2, 0.8, 0.7  # seconds each has to end
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# -P, or packages called "models" and the like, where it is started, would be taken for ours
COMMAND = (sys.executable, "-P", "-m", "backend.cli")


@dataclass(slots=True)
class Child:
    """A process that is kept alive."""

    role: str
    command: Callable[[str], list[str]]  # from the incarnation's name
    environment: Mapping[str, str]
    orphan_signal: signal.Signals
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started: float = 0.0
    restart_at: float = field(default=0.0)

    def start(self) -> None:
        """Start the next incarnation, which dies with the launcher."""
        self.name = f"{self.role}-{uuid.uuid4().hex[:8]}"
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            self.command(self.name),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid(), self.orphan_signal),
        )

    def died(self) -> int | None:
        """Exit status if the process has ended, and when it may start again."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is None:
            return None
        self.process = None
        self.deaths = 0 if time.monotonic() - self.started > STABLE else self.deaths + 1
        pause = 0.0 if self.deaths <= 1 else min(LONGEST_PAUSE, 0.5 * 2 ** (self.deaths - 2))
        self.restart_at = time.monotonic() + pause
        return status

    def stop(self, patience: float) -> None:
        """SIGTERM, then SIGKILL for the whole session after `patience` seconds."""
        if self.process is None:
            return
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None


def _die_with(launcher: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    """On Linux, what a child does first so that it cannot outlive a launcher that is killed."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != launcher:  # it died before the line above
            os._exit(1)

    return tie


class Launcher:
    """Everything on one machine."""

    def __init__(self, settings: Settings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = dict(environment)
        self._children: list[Child] = []
        self._stop = False

    def run(self, when_ready: Callable[[], None], is_ready: Callable[[], bool]) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status.

        `is_ready` is asked until it says so, then `when_ready` is called, once.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with _locked(self._settings.data_dir), _socket_folder() as run_dir:
            try:
                self._start(run_dir)
                return self._watch(when_ready, is_ready)
            finally:
                self._stop_all()

    def _on_signal(self, *_: object) -> None:
        self._stop = True

    def _start(self, run_dir: Path) -> None:
        settings = self._settings
        _check_port(settings.host, settings.port)
        _check_models(settings.model_dir)
        url = settings.redis_url
        if url is None:
            path = run_dir / "broker.sock"
            url = f"unix://{path}"
            server = broker.find_server(settings.broker)
            command = broker.command(server, path, settings.data_dir / "broker")
            self._add("broker", lambda _: command, self._environment, signal.SIGTERM)
            self._await_broker(url)
        else:
            _check_broker(url)
        self._environment["REDIS_URL"] = url
        connection = connect(url)
        self._recovery, self._lane = Recovery(connection), TrainingLane(connection)
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
        compute = {"OMP_NUM_THREADS": str(threads), **self._environment}
        self._add("web", lambda _: [*COMMAND, "web"], self._environment, signal.SIGTERM)
        if settings.pushes:
            self._add("pusher", lambda _: [*COMMAND, "pusher"], self._environment, signal.SIGKILL)
        # wherever it listens, its own machine reaches it
        here = {"PROMPTBRUSH_URL": address(settings).url, **self._environment}
        self._add(
            "trainer", lambda name: [*COMMAND, "trainer", "--name", name], here, signal.SIGKILL
        )
        for _ in range(settings.workers):
            self._add(
                "worker", lambda name: [*COMMAND, "worker", "--name", name], compute, signal.SIGKILL
            )

    def _add(
        self,
        role: str,
        command: Callable[[str], list[str]],
        environment: Mapping[str, str],
        orphan_signal: signal.Signals,
    ) -> None:
        child = Child(role, command, environment, orphan_signal)
        self._children.append(child)
        child.start()

    def _await_broker(self, url: str) -> None:
        child = self._children[0]
        end = time.monotonic() + 10
        while time.monotonic() < end and child.died() is None:
            with contextlib.suppress(RedisError):
                broker.check(connect(url))
                return
            time.sleep(0.02)
        folder = self._settings.data_dir / "broker"
        raise BrokerUnavailable(
            f"The embedded broker did not start: {folder / broker.LOG} says why. "
            f"If its files are damaged, move {folder} away."
        )

    def _watch(self, when_ready: Callable[[], None], is_ready: Callable[[], bool]) -> int:
        told = False
        ask_at = 0.0
        while not self._stop:
            for child in self._children:
                status = child.died()
                if status is not None:
                    if status == CONFIG_FAULT:
                        return CONFIG_FAULT
                    log.warning("%s ended with status %d; starting it again", child.name, status)
                    self._hand_back(child)
                if child.process is None and time.monotonic() >= child.restart_at:
                    child.start()
            if not told and time.monotonic() >= ask_at:
                if is_ready():
                    when_ready()
                    told = True
                ask_at = time.monotonic() + 0.25
            time.sleep(TICK)
        return 0

    def _hand_back(self, child: Child) -> None:
        """Give what a dead worker or trainer held to the next one at once."""
        gone = child.name
        if child.role == "trainer":
            with contextlib.suppress(RedisError):  # else when its lease has run out
                self._lane.give_back(gone)
        if child.role != "worker":
            return
        try:
            handed = self._recovery.hand_back(lambda name: name.startswith(f"{gone}-"))
        except (RedisError, BackendError) as error:
            log.warning("tasks of %s stay with it until the broker answers: %s", gone, error)
            return
        if handed:
            log.warning("%d tasks of %s are back at the front of the queue", handed, gone)

    def _stop_all(self) -> None:
        stages = (
            ({"web", "trainer"}, WEB_STOP),
            ({"worker", "pusher"}, WORKER_STOP),
            ({"broker"}, BROKER_STOP),
        )
        for roles, seconds in stages:
            children = [child for child in self._children if child.role in roles]
            for child in children:
                if child.process is not None:
                    child.process.terminate()
            end = time.monotonic() + seconds
            for child in children:
                child.stop(max(0.01, end - time.monotonic()))


def _check_port(host: str, port: int) -> None:
    """Raise BadSetting if the web process could not listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, UnicodeError) as error:  # a name may have a part that no host's can have
        reason = getattr(error, "strerror", None) or "it is no name of a host"
        raise BadSetting(
            f"Cannot listen on {host} port {port} ({reason}): give another --host or --port."
        ) from None


def _check_broker(url: str) -> None:
    """Raise BrokerUnavailable if nobody answers at REDIS_URL, or what cannot be used."""
    try:
        broker.check(connect(url))
    except RedisError as error:
        raise BrokerUnavailable(
            f"The broker at REDIS_URL does not answer ({error}): start it, or unset REDIS_URL to "
            "use the embedded one."
        ) from None


def _check_models(folder: Path) -> None:
    """Say now that nothing can be kept, not when somebody has labeled something."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BadSetting(f"MODEL_DIR={folder} cannot be written: {error.strerror}.") from None


@contextlib.contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the data folder; two brokers on the same files would damage them."""
    busy = BrokerUnavailable(
        f"promptbrush is already up with {data_dir}: stop it, or give another --data-dir."
    )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(data_dir / "up.lock", otherwise=busy))
        except OSError as error:
            raise BadSetting(
                f"The data folder {data_dir} cannot be written: {error.strerror}."
            ) from None
        yield


@contextlib.contextmanager
def _socket_folder() -> Iterator[Path]:
    """A private folder with a short path, as sockets need."""
    folder = Path(tempfile.mkdtemp(prefix="promptbrush-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
