"""A real Label Studio: installed once into a folder of its own, started on a free port."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from backend.connect import LABEL_STUDIO_NEEDS
from backend.showcase import free_port

OUT = Path(__file__).parents[2] / "out/e2e"
REQUIREMENT = "label-studio==1.23.*"
DATA = "data"  # in the folder of one that runs
EMAIL, PASSWORD = "annotator@example.com", "a-password-for-tests"
LEGACY_TOKEN = "0e2e" * 10

# What promptbrush tells people to start it with, so that it talks to private addresses.
OPEN = dict(setting.split("=") for setting in LABEL_STUDIO_NEEDS)
QUIET = {
    "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "LABEL_STUDIO_SENTRY_DSN": "",
    "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
}


@dataclass(frozen=True)
class Server:
    """A running Label Studio with one user, who has a token of each kind."""

    url: str
    log: Path
    tokens: dict[str, str]

    def ask(self, method: str, path: str, **rest: Any) -> Any:
        """The JSON of a request with the legacy token; it must succeed."""
        headers = {"Authorization": f"Token {LEGACY_TOKEN}"}
        answer = requests.request(method, self.url + path, headers=headers, timeout=120, **rest)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    @contextmanager
    def without_legacy_tokens(self) -> Iterator[None]:
        """As a fresh Label Studio is: the organization takes personal tokens only."""
        both = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
        self.ask("POST", "/api/jwt/settings", json={**both, "legacy_api_tokens_enabled": False})
        try:
            yield
        finally:
            answer = requests.post(
                f"{self.url}/api/jwt/settings",
                json=both,
                headers={"Authorization": f"Bearer {self.access()}"},
                timeout=60,
            )
            assert answer.ok, answer.text

    def access(self) -> str:
        """What the personal token buys."""
        refresh = {"refresh": self.tokens["personal"]}
        answer = requests.post(f"{self.url}/api/token/refresh/", json=refresh, timeout=60)
        return str(answer.json()["access"])


def installed() -> Path:
    """The `label-studio` command; the first call installs it, which takes minutes."""
    folder = OUT / "label-studio-venv"
    command, stamp = folder / "bin/label-studio", folder / "installed"
    if not stamp.is_file() or stamp.read_text() != REQUIREMENT:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pip = [str(folder / "bin/pip"), "install", "--quiet", REQUIREMENT]
        subprocess.run(pip, check=True)
        stamp.write_text(REQUIREMENT)
    return command


def prepared() -> Path:
    """Its data folder as a first start leaves it, when it has made a database, most of a minute."""
    folder = OUT / "label-studio-data"
    stamp = folder / "prepared"
    if not stamp.is_file() or stamp.read_text() != REQUIREMENT:
        shutil.rmtree(folder, ignore_errors=True)
        with _started(folder, OPEN):
            pass
        stamp.write_text(REQUIREMENT)
    return folder / DATA


@contextmanager
def running(folder: Path, settings: dict[str, str]) -> Iterator[Server]:
    """A Label Studio of its own in an empty folder, where its data and its log are.

    `settings` are variables of its environment; what this process has of the kind does not
    reach it.
    """
    shutil.copytree(prepared(), folder / DATA)
    with _started(folder, settings) as (url, log):
        yield Server(url, log, {"legacy": LEGACY_TOKEN, "personal": _personal_token(url)})


@contextmanager
def _started(folder: Path, settings: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """The address and the log of one that runs on a folder."""
    command, port = installed(), free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "label-studio.log"
    folder.mkdir(parents=True, exist_ok=True)
    inherited = {k: v for k, v in os.environ.items() if not re.match("LABEL_STUDIO_|HEARTEX_", k)}
    arguments = ["--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    arguments += ["--data-dir", str(folder / DATA), "--username", EMAIL, "--password", PASSWORD]
    arguments += ["--user-token", LEGACY_TOKEN, "--enable-legacy-api-token"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(command), "start", *arguments],
            env={**inherited, **QUIET, **settings},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
    try:
        _await(url, process, log)
        yield url, log
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _personal_token(url: str) -> str:
    """The user's first; it is shown in full only when it is made."""
    session = requests.Session()
    session.headers["Authorization"] = f"Token {LEGACY_TOKEN}"
    enable = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    session.post(f"{url}/api/jwt/settings", json=enable, timeout=60).raise_for_status()
    answer = session.post(f"{url}/api/token/", json={}, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["token"])


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/health", timeout=2).ok:
                return
        time.sleep(0.5)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise AssertionError(f"Label Studio did not start, status {process.poll()}:\n{tail}")
