"""Commands that use what annotators accepted."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.options import label_studio_options, studio_settings


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`export` and `train`."""
    export = commands.add_parser("export", help="a project's accepted annotations as COCO and PNG")
    label_studio_options(export)
    export.add_argument("--project", type=int, required=True, metavar="ID")
    export.add_argument("--out", type=Path, default=Path("out/export"), help="(out/export)")
    export.set_defaults(run=_export)

    train = commands.add_parser("train", help="make a better version from accepted annotations")
    label_studio_options(train)
    train.add_argument("--project", type=int, required=True, metavar="ID")
    train.add_argument(
        "--from", type=Path, metavar="DIR", dest="folder", help="an export, not Label Studio"
    )
    train.add_argument("--steps", type=int, default=400, help="at most (400)")
    train.add_argument("--seed", type=int, default=0, help="(0)")
    train.set_defaults(run=_train)


def _export(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.learning.commands import export

    settings = studio_settings(options)
    print(export(settings, connect.label_studio(settings), options.project, options.out))
    print(f"\nIt is in {options.out}")
    return 0


def _train(options: argparse.Namespace) -> int:
    settings = studio_settings(options)
    from backend import connect
    from backend.learning.commands import train_from_folder, train_from_studio
    from backend.learning.finetune import Recipe
    from backend.worker.runtime import load

    recipe = Recipe(steps=options.steps, seed=options.seed)
    studio = None if options.folder else connect.label_studio(settings)
    base, digest = load(settings.checkpoint, settings.device, settings.dtype)
    if studio is None:
        told = train_from_folder(settings, base, digest, options.folder, options.project, recipe)
    else:
        told = train_from_studio(settings, base, digest, studio, options.project, recipe)
    print(told)
    return 0
