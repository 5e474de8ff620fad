"""Versions come and go while real workers answer: nothing is lost, and each answer says whose."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from torch import Tensor

from backend.learning.card import Card, Version
from backend.learning.registry import Registry
from models import Segmenter, checkpoint
from tests.live.conftest import LABEL_CONFIG, Up, data_uri
from tests.models.test_tuned import decoder

pytestmark = pytest.mark.live

PROJECT = 7  # of `Up.predict`


@pytest.fixture
def two_workers(launch: Callable[..., Up]) -> Up:
    return launch(WORKERS=2, VERSIONS_IN_MEMORY=1)


@pytest.fixture
def registry(two_workers: Up) -> Registry:
    return Registry(two_workers.data_dir / "models")


@pytest.fixture
def publish(
    registry: Registry, segmenter: Segmenter, tiny_checkpoint: Path
) -> Callable[[float], Version]:
    def scaled(factor: float) -> Version:
        weights: dict[str, Tensor] = {
            name: factor * tensor for name, tensor in decoder(segmenter).items() if "film" in name
        }
        return registry.publish(PROJECT, weights, Card(checkpoint.digest(tiny_checkpoint)))

    return scaled


def setup_version(up: Up) -> str:
    body = {"project": f"{PROJECT}.1795303384", "schema": LABEL_CONFIG}
    return str(requests.post(f"{up.url}/setup", json=body, timeout=10).json()["model_version"])


def drawn(up: Up, count: int = 8) -> list[Any]:
    """Results of one request, without the random ids of regions."""
    results = up.predict([data_uri(seed) for seed in range(count)]).json()["results"]
    for entry in results:
        for region in entry["result"]:
            del region["id"]
    return list(results)


def test_masks_after_a_rollback_are_those_of_before_bit_for_bit(
    two_workers: Up, registry: Registry, publish: Callable[[float], Version]
) -> None:
    up = two_workers
    base, named = drawn(up), setup_version(up)
    assert {entry["model_version"] for entry in base} == {named}
    one, two = publish(-5), publish(7)
    seen = [base]
    for version in (one, two):
        registry.activate(PROJECT, version.id, "")
        now = drawn(up)
        assert {entry["model_version"] for entry in now} == {setup_version(up)}
        assert f"-{version.id[:8]}-" in setup_version(up)
        assert all(now != before for before in seen)
        seen.append(now)
    registry.rollback(PROJECT)
    assert drawn(up) == seen[1]
    registry.rollback(PROJECT)
    assert drawn(up) == seen[0]
    assert setup_version(up) == named


def test_switching_under_load_loses_no_request_and_mixes_no_masks(
    two_workers: Up, registry: Registry, publish: Callable[[float], Version]
) -> None:
    up = two_workers
    versions = [publish(-5), publish(7)]
    expected: dict[str, list[Any]] = {}
    for version in versions:
        registry.activate(PROJECT, version.id, "")
        expected[setup_version(up)] = drawn(up, 3)
    pids = up.family("backend.cli worker")
    stop, answers = threading.Event(), list[list[Any]]()

    def load() -> None:
        while not stop.is_set():
            answers.append(drawn(up, 3))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        registry.activate(PROJECT, versions[turn % 2].id, str(turn))
        stop.wait(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(answers) > 10
    for results in answers:
        for seed, entry in enumerate(results):
            assert entry == expected[entry["model_version"]][seed]
    assert {entry["model_version"] for results in answers for entry in results} == set(expected)
    assert up.family("backend.cli worker") == pids


def test_the_command_switches_a_running_server_and_versions_tell_of_it(
    two_workers: Up, publish: Callable[[float], Version]
) -> None:
    up, version = two_workers, publish(3)
    before = up.get("/versions")
    command = [sys.executable, "-m", "backend.cli", "versions", "activate", "--project", "7"]
    environment = {"PATH": "/usr/bin:/bin", "MODEL_DIR": str(up.data_dir / "models")}
    subprocess.run([*command, version.id], check=True, env=environment, cwd=Path.cwd())
    told = up.get(f"/versions?project={PROJECT}")
    assert told["served"] == told["active"] == version.id
    assert [one["state"] for one in told["versions"]] == ["active"]
    assert up.get("/versions") == before
    assert {entry["model_version"] for entry in drawn(up, 3)} == {setup_version(up)}
    assert version.id[:8] in setup_version(up)


def test_a_version_that_is_damaged_on_disk_is_not_served_and_nobody_waits_for_it(
    two_workers: Up, registry: Registry, publish: Callable[[float], Version]
) -> None:
    up, base = two_workers, drawn(two_workers, 3)
    version = publish(3)
    path = up.data_dir / "models" / str(PROJECT) / version.id / "decoder.safetensors"
    registry.activate(PROJECT, version.id, "")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert drawn(up, 3) == base
    assert {entry["model_version"] for entry in base} == {setup_version(up)}
    assert f"Version {version.id} of project 7 is damaged" in up.log.read_text()
