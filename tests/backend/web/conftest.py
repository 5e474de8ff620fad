"""The application on a queue that answers at once."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.settings import Settings
from backend.web import app as module
from tests.backend.web.instant import InstantQueue


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the process runs, and keeps what its settings do not send elsewhere."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> InstantQueue:
    queue = InstantQueue()
    monkeypatch.setattr(module, "PredictionQueue", lambda connection: connection)
    return queue


@pytest.fixture
def client(queue: InstantQueue) -> FlaskClient:
    return module.create_app(Settings(), queue).test_client()  # type: ignore[arg-type]
