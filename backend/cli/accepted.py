"""What commands that use accepted work begin with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from backend.settings import Settings

if TYPE_CHECKING:
    from backend.learning.commands import Accepted, Learner


def folder_option(parser: argparse.ArgumentParser) -> None:
    """`--from`."""
    parser.add_argument(
        "--from", type=Path, metavar="DIR", dest="folder", help="read an export, not Label Studio"
    )


def accepted(settings: Settings, options: argparse.Namespace) -> Accepted:
    """A project's accepted work, from where the options say."""
    from backend.learning import commands
    from backend.learning.source import studio_of

    if options.folder:
        return commands.accepted_in_folder(settings, options.folder, options.project)
    return commands.accepted_in_studio(settings, studio_of(settings), options.project)


def learner(settings: Settings, options: argparse.Namespace) -> Learner:
    """What learns from it, with the model."""
    from backend.worker.runtime import learner_of

    return learner_of(settings, options.project, accepted(settings, options))
