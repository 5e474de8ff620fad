"""The `promptbrush` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from backend import __version__
from backend.cli import alone, learning, project, prompts, serve, versions
from backend.cli.options import Described
from backend.errors import (
    CONFIG_FAULT,
    BackendError,
    BadSetting,
    BrokerUnavailable,
    CheckpointUnavailable,
)
from backend.settings import calm_threads, reach_itself

UNREAD = 141  # what shells tell of a command that ended for want of a reader (SIGPIPE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors are told in one line, and the exit status says so."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack a label's letters
    options = _parser().parse_args(argv)
    calm_threads()
    reach_itself()
    try:
        status = options.run(options) or 0
        sys.stdout.flush()  # so that a reader that is gone shows here
        return status
    except (BadSetting, CheckpointUnavailable, BrokerUnavailable) as error:
        print(f"promptbrush: {error}", file=sys.stderr)
        return CONFIG_FAULT
    except BackendError as error:
        print(f"promptbrush: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread():
            return UNREAD
        told = f"{error.filename}: {error.strerror}." if error.filename else str(error)
        print(f"promptbrush: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _unread() -> bool:
    """Whether it is what we print that nobody reads, as after `| head`, and no other pipe."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="promptbrush",
        description="Label Studio ML backend: brush masks from text prompts and exemplar images. "
        "Settings come from the environment; options win over them.",
    )
    parser.add_argument("--version", action="version", version=f"promptbrush {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", action=Described)
    for group in (serve, project, learning, versions, prompts, alone):
        group.add_to(commands)
    return parser
