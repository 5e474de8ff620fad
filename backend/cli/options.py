"""What the commands share."""

from __future__ import annotations

import argparse
import logging

from backend.settings import DEMO, PUBLISHED, Settings, environment


def checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """`--checkpoint`."""
    parser.add_argument("--checkpoint", metavar="ID_OR_FOLDER", help=f"({DEMO}, or {PUBLISHED})")


def settings_of(**overrides: object) -> Settings:
    """The environment's settings with options over them, and logging as they say."""
    settings = Settings.from_environment(environment(overrides))
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return settings
