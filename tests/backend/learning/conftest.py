import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend.learning.card import Card, Version
from backend.learning.registry import Registry
from tests.backend.learning.published import BASE, PROJECT, some_weights


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def publish(registry: Registry) -> Callable[[int], Version]:
    return lambda seed: registry.publish(PROJECT, some_weights(seed), Card(BASE))


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file gets longer than half a lesson, as where a disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
