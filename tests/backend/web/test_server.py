"""How the application is served; `tests/live` serves it."""

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from backend.settings import Settings
from backend.web.server import Server


def test_nothing_but_http_is_opened_to_be_managed_by() -> None:
    options = Server(Settings()).cfg
    assert options.control_socket_disable
    assert options.address == [("127.0.0.1", 9090)]


def test_who_stops_within_a_request_keeps_its_thread_for_seconds_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("backend.web.server.PAUSE", 1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process: Any = SimpleNamespace(sockets=[listening], alive=True)
        Server(Settings())._start(None, process)
        with socket.create_connection(listening.getsockname()[:2]) as half:
            half.sendall(b"POST")
            accepted, _ = listening.accept()
            with accepted:
                accepted.setblocking(True)
                assert accepted.recv(9) == b"POST"
                with pytest.raises(BlockingIOError):
                    accepted.recv(9)
