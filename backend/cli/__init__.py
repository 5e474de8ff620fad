"""The `promptbrush` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from backend import __version__
from backend.errors import (
    CONFIG_FAULT,
    BackendError,
    BadSetting,
    BrokerUnavailable,
    CheckpointUnavailable,
)
from backend.settings import calm_threads, reach_itself

USAGE = 2  # what argparse ends with where a command is not given as it has to be
UNREAD = 141  # what shells tell of a command that ended for want of a reader (SIGPIPE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; errors are told in one line, and the exit status says so."""
    try:
        _open_streams()
        if isinstance(sys.stdout, TextIOWrapper):  # a terminal may lack a label's letters
            sys.stdout.reconfigure(errors="backslashreplace")
        parser = _parser()
        if not (sys.argv[1:] if argv is None else argv):
            parser.print_help(sys.stderr)
            return USAGE
        options = parser.parse_args(argv)
        calm_threads()
        reach_itself()
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
        told = f"{error.strerror}." if error.strerror else str(error)
        if error.filename:
            told = f"{error.filename}: {told}"
        print(f"promptbrush: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _open_streams() -> None:
    """Put nothing where a stream was closed, as by `>&-`: else the next file would get its number.

    What C libraries say would go into that file then.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(nothing, True)
            setattr(sys, name, os.fdopen(nothing, "w" if number else "r"))


def _unread() -> bool:
    """Whether it is what we print that nobody reads, as after `| head`, and no other pipe."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    # here, since what they import takes a second, in which Ctrl-C is no error either
    from backend.cli import alone, learning, project, prompts, serve, versions
    from backend.cli.options import Described

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
