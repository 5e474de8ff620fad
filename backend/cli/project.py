"""Commands for a Label Studio project."""

from __future__ import annotations

import argparse
from pathlib import Path

from backend.cli.options import (
    backend_option,
    label_studio_options,
    project_option,
    studio_settings,
    whole,
)
from backend.errors import BadRequest
from backend.sampling import ENOUGH, SAMPLING


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`connect`, `doctor` and `prelabel`."""
    connect = commands.add_parser("connect", help="make a Label Studio project use this backend")
    label_studio_options(connect)
    backend_option(connect)
    project = connect.add_mutually_exclusive_group(required=True)
    project.add_argument("--project", type=whole(1), metavar="ID", help="a project that is there")
    project.add_argument("--create", metavar="TITLE", help="one that is made unless it is there")
    connect.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="LABEL",
        help="of a project that --create makes (the demo's)",
    )
    connect.add_argument(
        "--images",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="IMAGE",
        help="uploaded if the project has no task yet",
    )
    connect.add_argument(
        "--sampling",
        choices=sorted(SAMPLING),
        help="which task is served next (as it is); uncertainty: the least certain, once "
        f"{ENOUGH} tasks are annotated",
    )
    connect.set_defaults(run=_connect)

    doctor = commands.add_parser("doctor", help="look for what keeps masks from the editor")
    label_studio_options(doctor)
    backend_option(doctor)
    doctor.add_argument("--project", type=whole(1), metavar="ID", help="look at its connection too")
    doctor.set_defaults(run=_doctor)

    prelabel = commands.add_parser("prelabel", help="predictions for a whole project")
    label_studio_options(prelabel)
    backend_option(prelabel)
    project_option(prelabel)
    prelabel.add_argument(
        "--wait",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="watch until it is done; the work goes on without, too",
    )
    prelabel.set_defaults(run=_prelabel)


def _connect(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.labelstudio.starter import label_config
    from demo import LABEL_CONFIG

    if options.labels and options.create is None:
        raise BadRequest(
            f"--labels goes with --create. Project {options.project} has labels of its own: change "
            "them in Label Studio, under Settings > Labeling Interface."
        )
    settings = studio_settings(options)
    studio = connect.label_studio(settings)
    studio.version()  # what is none has no project either, and could tell of that alone
    project = options.project
    if options.create is not None:
        labels = options.labels
        xml = label_config(labels) if labels else LABEL_CONFIG.read_text(encoding="utf-8")
        project, told = connect.find_or_create(studio, options.create, xml)
        print(told)
    if options.images:
        print(connect.upload(studio, project, options.images))
    address = connect.address(settings, options.backend)
    print("\n".join(connect.connect(studio, project, address, options.sampling)))
    print(f"\nOpen {studio.url}/projects/{project}/data")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.doctor import Doctor
    from backend.findings import Grade
    from backend.labelstudio.images import ImageStore

    settings = studio_settings(options)
    address = connect.address(settings, options.backend)
    broken = False
    for finding in Doctor(settings, address, ImageStore.of(settings)).examine(options.project):
        print(finding, flush=True)
        broken = broken or finding.grade is Grade.PROBLEM
    return 1 if broken else 0


def _prelabel(options: argparse.Namespace) -> int:
    from backend import connect
    from backend.prelabel import prelabel
    from backend.service import Backend

    settings = studio_settings(options)
    backend = Backend(connect.address(settings, options.backend))
    studio = connect.label_studio(settings)
    try:
        report = prelabel(studio, backend, options.project, wait=options.wait)
    except KeyboardInterrupt:
        print("\nWhat was handed over goes on without this command; run it again to watch.")
        raise
    print(report)
    return 1 if report.failures or report.lost else 0
