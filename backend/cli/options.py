"""What the commands share."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from backend.labelstudio.tasks import LAST_ID
from backend.report import printable
from backend.settings import (
    DEMO,
    DEMO_GROUPVIT,
    PUBLISHED,
    Settings,
    environment,
    probability,
    url,
)

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

T = TypeVar("T")


class Described(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Commands whose own `--help` begins with what the list of them says."""

    def add_parser(self, name: str, **options: Any) -> Any:
        """A command; `help` is what the list says."""
        told = options["help"]
        return super().add_parser(name, description=f"{told[0].upper()}{told[1:]}.", **options)


class Legible(logging.Formatter):
    """Records that begin a line each, and move no terminal, whoever they quote."""

    def format(self, record: logging.LogRecord) -> str:
        """The record; what goes on in further lines stands in from the left."""
        return "\n\t".join(map(printable, super().format(record).splitlines()))


def checkpoint_option(parser: argparse.ArgumentParser) -> None:
    """`--checkpoint`."""
    parser.add_argument(
        "--checkpoint", metavar="ID_OR_FOLDER", help=f"({DEMO}; or {DEMO_GROUPVIT}, {PUBLISHED})"
    )


def threshold_option(parser: argparse.ArgumentParser) -> None:
    """`--threshold`."""
    parser.add_argument(
        "--threshold",
        type=_read_as(probability),
        metavar="P",
        help="probability from which a pixel counts (MODEL_SCORE_THRESHOLD, 0.4)",
    )


def label_studio_options(parser: argparse.ArgumentParser) -> None:
    """`--label-studio` and `--api-key`."""
    parser.add_argument("--label-studio", metavar="URL", help="(LABEL_STUDIO_URL)")
    parser.add_argument("--api-key", metavar="KEY", help="(LABEL_STUDIO_API_KEY)")


def whole(least: int) -> Callable[[str], int]:
    """What reads an option that is a whole number from `least`, and no longer than an id is."""

    def read(text: str) -> int:
        digits = text.strip().lstrip("+-")
        short = digits.isdecimal() and len(digits) <= len(str(LAST_ID))  # int refuses long texts
        number = int(text) if short else least - 1
        if not least <= number <= LAST_ID:
            raise argparse.ArgumentTypeError(
                f"give a whole number from {least} to {LAST_ID}, not {text[:40]!r}"
            )
        return number

    return read


def project_option(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`--project`."""
    parser.add_argument(
        "--project",
        type=whole(1),
        required=required,
        metavar="ID",
        help="its number in Label Studio",
    )


def _read_as(setting: Callable[[str], T]) -> Callable[[str], T]:
    """What reads an option as a setting is read, and tells of the option what is wrong."""

    def read(text: str) -> T:
        try:
            return setting(text.strip())
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def backend_option(parser: argparse.ArgumentParser) -> None:
    """`--backend`."""
    parser.add_argument(
        "--backend",
        type=_read_as(url),
        metavar="URL",
        help="this backend as Label Studio reaches it (HOST and PORT)",
    )


def project_deeds(
    commands: Commands,
    name: str,
    told: str,
    run: Callable[[Callable[..., str], argparse.Namespace], int],
) -> tuple[Commands, Callable[[str, Callable[..., str], str], argparse.ArgumentParser]]:
    """A command with what can be done under it, and what adds a deed of one project to it.

    A deed tells what it did in words; `run` calls it and prints them.
    """
    deeds = commands.add_parser(name, help=told).add_subparsers(
        required=True, metavar="DEED", action=Described
    )

    def add(deed: str, does: Callable[..., str], said: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = deeds.add_parser(deed, help=said)
        project_option(parser)
        parser.set_defaults(run=lambda options: run(does, options))
        return parser

    return deeds, add


def settings_of(**overrides: object) -> Settings:
    """The environment's settings with options over them, and logging as they say."""
    settings = Settings.from_environment(environment(overrides))
    handler = logging.StreamHandler()
    handler.setFormatter(Legible("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    return settings


def studio_settings(options: argparse.Namespace) -> Settings:
    """The settings, with the Label Studio that options name."""
    return settings_of(LABEL_STUDIO_URL=options.label_studio, LABEL_STUDIO_API_KEY=options.api_key)


def follow_if_known(settings: Settings, options: argparse.Namespace) -> str:
    """Bring Label Studio to the version of a project that is served now; tells what was done.

    Where that cannot be, it tells what will do it.
    """
    from backend import connect
    from backend.errors import BackendError
    from backend.follow import follow
    from backend.service import Backend

    project = options.project
    if not settings.pushes:
        return later(project)
    backend = Backend(connect.address(settings, options.backend), patience=5.0)
    try:
        return follow(connect.label_studio(settings), backend, project)
    except BackendError as error:
        return f"Label Studio does not show it yet: {error}\n{later(project)}"


def later(project: int) -> str:
    """What brings Label Studio to the version of a project that is served."""
    return (
        f"`promptbrush connect --project {project}` brings Label Studio to it, and "
        f"`promptbrush prelabel --project {project}` predicts the tasks anew."
    )
