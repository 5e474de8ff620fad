"""Commands that use what annotators accepted."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.options import label_studio_options, studio_settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`export`."""
    export = commands.add_parser("export", help="a project's accepted annotations as COCO and PNG")
    label_studio_options(export)
    export.add_argument("--project", type=int, required=True, metavar="ID")
    export.add_argument("--out", type=Path, default=Path("out/export"), help="(out/export)")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.learning.commands import export

    settings = studio_settings(options)
    print(export(settings, connect.label_studio(settings), options.project, options.out))
    print(f"\nIt is in {options.out}")
    return 0
