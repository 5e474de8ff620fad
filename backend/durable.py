"""Files that are on the disk, whole, once they are said to be."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def as_json(content: Mapping[str, Any]) -> bytes:
    """A JSON file's content, for people too."""
    return (json.dumps(content, indent=2) + "\n").encode()


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is on the disk when this returns.

    Raises:
        OSError: it cannot be; which file, a full disk alone does not tell.
    """
    try:
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def rewrite(path: Path, content: bytes) -> None:
    """Put a file where one may be; whoever reads there sees one of them whole.

    Nobody else may write it meanwhile.
    """
    replace(path, content)
    sync(path.parent)


def replace(path: Path, content: bytes) -> None:
    """As `rewrite`, but for its name, which is on the disk once its folder is synced.

    So that who puts many files into a folder waits for that once.
    """
    new = path.with_name(f".new-{path.name}")
    try:
        write(new, content)
    except OSError:  # on a full disk nothing of it stays
        with suppress(OSError):
            new.unlink()
        raise
    new.replace(path)


def sync(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
