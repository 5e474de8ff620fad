"""Training in a process of its own, killed or interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backend.learning.card import Version
from backend.learning.dataset import Account, Part
from backend.learning.export import write
from backend.learning.registry import Registry
from tests.backend.learning.school import XML, source

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]


def start(export: Path, models: Path, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = ["train", "--project", "7", "--from", str(export), "--steps", "75"]
    return subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *command],
        cwd=ROOT,
        env={**os.environ, "MODEL_DIR": str(models), "PROMPTBRUSH_DATA_DIR": str(models / "data")},
        stdout=stdout,
        stderr=subprocess.DEVNULL,
    )


def only(models: Path) -> Version:
    (version,) = Registry(models).versions(7)
    return version


def test_a_killed_training_leaves_no_version_and_ends_as_if_it_had_not_been(
    tmp_path: Path,
) -> None:
    export = tmp_path / "export"
    account = Account()
    write(source(tuple(Part), account), XML, 7, account, export)
    assert start(export, tmp_path / "whole").wait(timeout=300) == 0

    models = tmp_path / "killed"
    process = start(export, models)
    while not (models / "7/.training/run.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Registry(models).versions(7) == []
    assert start(export, models).wait(timeout=300) == 0
    assert only(models).digest == only(tmp_path / "whole").digest


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path) -> None:
    export = tmp_path / "export"
    write(source(tuple(Part), Account()), XML, 7, Account(), export)
    process = start(export, tmp_path / "models", stdout=subprocess.PIPE)
    run = tmp_path / "models/7/.training/run.pt"
    while not run.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"The same command goes on" in told
    assert run.exists()
