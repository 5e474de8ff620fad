"""What the commands share."""

from __future__ import annotations

import argparse
import logging

from backend.settings import DEMO, DEMO_GROUPVIT, PUBLISHED, Settings, environment


def checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """`--checkpoint`."""
    parser.add_argument(
        "--checkpoint", metavar="ID_OR_FOLDER", help=f"({DEMO}; or {DEMO_GROUPVIT}, {PUBLISHED})"
    )


def label_studio_options(parser: argparse.ArgumentParser) -> None:
    """`--label-studio` and `--api-key`."""
    parser.add_argument("--label-studio", metavar="URL", help="(LABEL_STUDIO_URL)")
    parser.add_argument("--api-key", metavar="KEY", help="(LABEL_STUDIO_API_KEY)")


def backend_option(parser: argparse.ArgumentParser) -> None:
    """`--backend`."""
    parser.add_argument(
        "--backend", metavar="URL", help="this backend as Label Studio reaches it (HOST and PORT)"
    )


def settings_of(**overrides: object) -> Settings:
    """The environment's settings with options over them, and logging as they say."""
    settings = Settings.from_environment(environment(overrides))
    logging.basicConfig(
        level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    return settings


def studio_settings(options: argparse.Namespace) -> Settings:
    """The settings, with the Label Studio that options name."""
    return settings_of(LABEL_STUDIO_URL=options.label_studio, LABEL_STUDIO_API_KEY=options.api_key)
