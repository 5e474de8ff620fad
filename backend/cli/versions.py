"""`promptbrush versions`: what a project's training made, and which of it is served."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backend.cli.options import (
    backend_option,
    follow_if_known,
    label_studio_options,
    project_deeds,
    settings_of,
    studio_settings,
    whole,
)
from backend.errors import BackendError, BadRequest
from backend.learning.acceptance import WEIGHTS, Acceptance, measure
from backend.learning.card import Version, called
from backend.learning.room import spare, taken
from backend.learning.source import studio_of
from backend.learning.versions import Versions
from backend.report import printable, size, table

BASE = "base"  # the name of the base checkpoint among versions
NONE = "It has no versions."
KEPT = 10  # versions of each kind that are proposed to be kept
LATEST = 5  # versions that are compared where none is named
NAMED = "its name, or how that begins"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`versions`, with what can be done with them."""
    _, add = project_deeds(
        commands, "versions", "what a project's training made, and serves", _print
    )
    backend_option(add("list", _list, "all of them, oldest first"))
    show = add("show", _show, "all that is known of one")
    show.add_argument("version", metavar="VERSION", help=NAMED)
    activate = add("activate", _activate, "serve one from the next task on")
    activate.add_argument(
        "version", metavar="VERSION", help=f"{NAMED}, or {BASE}: the checkpoint itself"
    )
    rollback = add("rollback", _rollback, "serve again what was served before")
    for parser in (activate, rollback):
        label_studio_options(parser)
        backend_option(parser)
        parser.add_argument(
            "--reason", type=printable, default="by hand", help="kept with the decision (by hand)"
        )
    delete = add("delete", _delete, "remove some that are not active, or all but the latest")
    delete.add_argument("version", nargs="*", metavar="VERSION", help=NAMED)
    delete.add_argument(
        "--keep",
        type=whole(1),
        metavar="N",
        help="remove all but the N latest, and the N of those that were served last",
    )
    compare = add("compare", _compare, "their figures side by side")
    compare.add_argument(
        "version", nargs="*", metavar="VERSION", help="(the served and the latest)"
    )
    measure = add("measure", _measure, "hold accepted work against what was predicted")
    label_studio_options(measure)


def _print(run: Callable[..., str], options: argparse.Namespace) -> int:
    print(run(Versions(settings_of().model_dir), options))
    return 0


def _list(versions: Versions, options: argparse.Namespace) -> str:
    found = versions.versions(options.project)
    told = _served(versions, options)
    if not found:
        return f"{told} {NONE}"
    accepted, folder = _accepted(options).figures(), settings_of().model_dir
    rows = [
        [
            *(one.id, one.state, one.created[:19], one.card.parent or BASE),
            *(size(taken(folder, options.project, one.id)), _headline(one)),
            str(accepted.get(one.id[:WEIGHTS], "")),
            one.reason,
        ]
        for one in found
    ]
    head = ["version", "state", "created (UTC)", "parent", "size", "figures", "accepted", "reason"]
    room = f"All versions take {size(taken(folder, options.project))} with their reports."
    if spare(versions, options.project, KEPT):
        room += (
            f" `promptbrush versions delete --project {options.project} --keep {KEPT}` removes all "
            f"but the {KEPT} latest, and the {KEPT} that were served last."
        )
    return f"{table(head, rows, words=len(head))}\n\n{told}\n{room}"


def _show(versions: Versions, options: argparse.Namespace) -> str:
    version = versions.version(options.project, options.version)
    known = {**version.to_json(), **_acceptance(version, _accepted(options))}
    rows = [[" ".join(name).strip(), _shown(value)] for name, value in _flat(known)]
    return table(["figure", ""], rows)


def _activate(versions: Versions, options: argparse.Namespace) -> str:
    chosen = None if options.version == BASE else options.version
    versions.activate(options.project, chosen, options.reason)
    return _moved(versions, options)


def _rollback(versions: Versions, options: argparse.Namespace) -> str:
    versions.rollback(options.project, options.reason)
    return _moved(versions, options)


def _delete(versions: Versions, options: argparse.Namespace) -> str:
    project, keep = options.project, options.keep
    if bool(options.version) == bool(keep):
        raise BadRequest("Name the versions to delete, or give --keep N for all but the latest.")
    folder = settings_of().model_dir
    before = taken(folder, project)
    names = [one.id for one in spare(versions, project, keep)] if keep else options.version
    gone = [f"Version {name} is gone." for name in versions.delete(project, *names)]
    return "\n".join([*gone, f"{size(before - taken(folder, project))} were freed."])


def _compare(versions: Versions, options: argparse.Namespace) -> str:
    if options.version:
        chosen = [versions.version(options.project, name) for name in options.version]
    else:
        found, served = versions.versions(options.project), versions.active(options.project)
        older = [one for one in found[:-LATEST] if served and one.id == served.id]
        chosen = [*older, *found[-LATEST:]]
    if not chosen:
        return f"There is nothing to compare in project {options.project}. {NONE}"
    accepted = _accepted(options)
    figures = [dict(_flat({**one.card.metrics, **_acceptance(one, accepted)})) for one in chosen]
    names = list(dict.fromkeys(name for one in figures for name in one))
    rows = [[*name, *(_shown(one.get(name, "")) for one in figures)] for name in names]
    states = ["", "", *(one.state.value for one in chosen)]
    return table(["figure", "", *(one.id[:8] for one in chosen)], [states, *rows])


def _measure(versions: Versions, options: argparse.Namespace) -> str:
    settings = studio_settings(options)
    accepted = measure(studio_of(settings), options.project, settings.model_dir)
    figures = accepted.figures()
    if not figures:
        return f"No accepted annotation of project {options.project} began with a prediction."
    decided = {one.version for one in versions.decisions(options.project).history if one.version}
    names = {name[:WEIGHTS]: f"{name} (gone)" for name in decided}
    names |= {one.id[:WEIGHTS]: one.id for one in versions.versions(options.project)}
    rows = [
        [names.get(weights, f"{BASE} {weights}"), str(one.annotations), str(one)]
        for weights, one in figures.items()
    ]
    head = ["version", "annotations", "accepted"]
    return f"{table(head, rows)}\n\nTime saved: {accepted.assumption}.\n{accepted.scores()}"


def _accepted(options: argparse.Namespace) -> Acceptance:
    return Acceptance.of(settings_of().model_dir, options.project)


def _acceptance(version: Version, accepted: Acceptance) -> dict[str, Any]:
    """A version's figures of acceptance, if it has any."""
    figures = accepted.figures().get(version.id[:WEIGHTS])
    return {"accepted": figures.to_json()} if figures else {}


def _moved(versions: Versions, options: argparse.Namespace) -> str:
    served = _served(versions, options, " from the next task on")
    return f"{served}\n{follow_if_known(studio_settings(options), options)}"


def _served(versions: Versions, options: argparse.Namespace, since: str = "") -> str:
    """Which version is served, by the checkpoint that runs where that can be known."""
    project, version = options.project, versions.active(options.project)
    told = f"Project {project} is served by {called(version)}{since}"
    if version is None:
        return f"{told}."
    runs, made = _running(options), version.card.base[:8]
    if runs is None:
        return f"{told}, as long as checkpoint {made} runs, which it was made for."
    if runs == made:
        return f"{told}."
    bases = {one.card.base for one in versions.versions(project)}
    instead = versions.active(project, next((one for one in bases if one[:8] == runs), runs))
    return (
        f"Version {version.id} of project {project} was made for checkpoint {made}. Checkpoint "
        f"{runs} runs, and so {called(instead)} is served{since}."
    )


def _running(options: argparse.Namespace) -> str | None:
    """How the digest of the checkpoint that runs begins; None where that is not to be had."""
    from backend import connect
    from backend.service import Backend

    try:
        found = Backend(connect.address(settings_of(), options.backend), patience=0.0).checkpoints()
    except BackendError:
        return None
    return found[0].rpartition("-")[2] if len(found) == 1 else None


def _headline(version: Version) -> str:
    """The figures that are one number each."""
    numbers = {k: v for k, v in version.card.metrics.items() if isinstance(v, int | float)}
    return ", ".join(f"{name} {_shown(value)}" for name, value in numbers.items())


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], Any]]:
    """What is nested as lines: the first name and the others, with the value.

    Curves are left out: the version's report draws them.
    """
    for name, value in values.items():
        if isinstance(value, Mapping):
            for (inner, rest), leaf in _flat(value):
                yield (name, f"{inner} {rest}".strip()), leaf
        elif not _is_curve(value):
            yield (name, ""), value


def _is_curve(value: object) -> bool:
    return isinstance(value, Sequence) and any(isinstance(point, Mapping) for point in value)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return str(value)
