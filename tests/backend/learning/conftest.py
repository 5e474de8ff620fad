import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from backend.inference.books import Books
from backend.learning.card import Card, Version
from backend.learning.lessons import Lesson, Lessons
from backend.learning.registry import Registry
from demo import CHECKPOINT
from models import Segmenter
from tests.backend.learning.published import BASE, PROJECT, some_weights
from tests.backend.learning.school import TASKS, sample


@pytest.fixture(scope="module")
def demo() -> Segmenter:
    return Segmenter.from_pretrained(CHECKPOINT, device="cpu")


@pytest.fixture(scope="module")
def lessons(tmp_path_factory: pytest.TempPathFactory, segmenter: Segmenter) -> list[Lesson]:
    """Those of the school's tasks."""
    maker = Lessons(tmp_path_factory.mktemp("lessons"), "base", segmenter)
    return [maker.make(sample(task)) for task in TASKS]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def publish(registry: Registry) -> Callable[[int], Version]:
    return lambda seed: registry.publish(PROJECT, some_weights(seed), Card(BASE))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reaches the disk; a limit of the process's files would hold for pytest's own too."""

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
