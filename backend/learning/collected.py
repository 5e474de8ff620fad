"""Accepted work as webhooks told it: what there is to learn from without an API key.

    MODEL_DIR/<project>/collected/<task>-<annotation>.json  as saved last, and its task's data
    MODEL_DIR/<project>/collected/gone/annotation-<id>      deleted, as tasks are: an empty file
    MODEL_DIR/<project>/collected/project.json              labeling configuration, and counts
    MODEL_DIR/set-aside/<event>.json                        of no use to us, and for people to see
    MODEL_DIR/set-aside/<project>-<created>/                collected of a project that there was

Events may come twice, late and in any order: an older state never replaces a newer one, and what
was deleted stays so, however late its creation is heard of. Writers of a project take turns;
readers need no lock. That holds one file per annotation, so as much as Label Studio itself holds.

A Label Studio that is set up anew counts from 1 again: its tasks and annotations have the numbers
of others. That a project was created later than the one of its number tells so.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from backend import durable
from backend.durable import as_json, rewrite, sync
from backend.filelock import locked
from backend.labelstudio.events import Kind, moment

log = logging.getLogger(__name__)

FOLDER = "collected"
GONE = "gone"
PROJECT = "project.json"
ASIDE = "set-aside"  # in MODEL_DIR
NAME = re.compile(r"(\d+)-(\d+)\.json")

# What is relied on in the files of annotations, and in a project's.
FORM: Mapping[str, Any] = {
    "data": dict,
    "annotation": {"id": int, "was_cancelled": bool, "updated_at": str, "result": list},
}
FORM_OF_PROJECT: Mapping[str, Any] = {
    "label_config": str | None,
    "updated_at": str,
    "counts": {"accepted": int, "changed": int, "removed": int},
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened in a project so far; a difference of two tells what is new since."""

    accepted: int = 0  # annotations finished, skips not among them
    changed: int = 0  # finished ones that were saved again
    removed: int = 0  # finished ones that were deleted, or became a skip

    @property
    def total(self) -> int:
        """All of it."""
        return self.accepted + self.changed + self.removed

    def __sub__(self, other: Counts) -> Counts:
        """What has happened beside that."""
        return Counts(
            self.accepted - other.accepted,
            self.changed - other.changed,
            self.removed - other.removed,
        )


@dataclass(frozen=True, slots=True)
class _Project:
    """The content of `project.json`."""

    label_config: str | None = None
    created_at: str = ""
    updated_at: str = ""
    counts: Counts = Counts()


class Collected:
    """What webhooks brought of all projects, in the folder of their versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, event: Mapping[str, Any]) -> tuple[Counts, Counts]:
        """Learn from an event, a dict of `labelstudio.events.Event`; once it returns, that lasts.

        Gives what had happened before it, and after it. What tells nothing of accepted work, or
        nothing new, changes nothing.

        Raises:
            OSError: what it tells cannot be kept, or what it is about cannot be read.
        """
        project = event.get("project")
        if not isinstance(project, int):
            return Counts(), Counts()
        folder = self._of(project)
        with locked(folder / ".lock"):
            (folder / GONE).mkdir(exist_ok=True)
            held = _project(_held(folder / PROJECT))
            created = moment(event.get("project_created_at") or held.created_at)
            if created < moment(held.created_at):
                log.warning(
                    "an event is of the project %d that was created at %s, and is left out: there "
                    "is a newer one of that number.",
                    project,
                    created,
                )
                return held.counts, held.counts
            anew = bool(held.created_at) and created > moment(held.created_at)
            before = self._anew(project, held) if anew else held
            match event.get("kind"):
                case Kind.ANNOTATED:
                    saved, gone = _news(folder, event.get("saved") or ()), set()
                case Kind.UNANNOTATED:
                    saved, gone = {}, {f"annotation-{one}" for one in event["annotations"]}
                case Kind.TASKS_REMOVED:
                    saved, gone = {}, {f"task-{one}" for one in event["tasks"]}
                case _:
                    saved, gone = {}, set()
            lost = [path for path in _files(folder) if _marks(path) & gone] if gone else []
            after = replace(
                _configured(before, event),
                counts=_counted(before.counts, saved, lost),
            )
            # counted first: who is killed in between counts something twice rather than never
            if after != held:
                durable.replace(folder / PROJECT, json.dumps(asdict(after)).encode())
            try:
                for path, content in saved.items():
                    durable.replace(path, json.dumps(content).encode())
                if saved or after != held:
                    sync(folder)
                for mark in gone:
                    (folder / GONE / mark).touch()
                if gone:
                    sync(folder / GONE)  # of an empty file there is nothing but its name
                for path in lost:
                    path.unlink()
            except OSError:
                # it is counted when it is kept, however often that is tried until then
                left = {path: content for path, content in saved.items() if _read(path) != content}
                still = [path for path in lost if path.exists()]
                counts = after.counts - _counted(Counts(), left, still)
                rewrite(
                    folder / PROJECT, json.dumps(asdict(replace(after, counts=counts))).encode()
                )
                raise
            return before.counts, after.counts

    def _anew(self, project: int, former: _Project) -> _Project:
        """Set aside what is of a former project of that number; gives the new one.

        Who is killed before the new one is written down does it again.
        """
        folder = self._of(project)
        aside = self._folder / ASIDE / f"{project}-{moment(former.created_at):%Y-%m-%dT%H-%M-%S}"
        log.warning(
            "project %d was made anew in Label Studio: what was collected of the one before it is "
            "in %s, and is not learnt from any more.",
            project,
            aside,
        )
        aside.mkdir(parents=True, exist_ok=True)
        rewrite(aside / PROJECT, json.dumps(asdict(former)).encode())
        for path in _files(folder):
            path.replace(aside / path.name)
        for mark in (folder / GONE).iterdir():
            mark.unlink()
        return _Project(counts=former.counts)

    def set_aside(self, name: str, event: Mapping[str, Any]) -> Path:
        """Keep an event from which nothing can be learnt, and give the file it is in.

        Raises:
            OSError: it cannot be kept.
        """
        path = self._folder / ASIDE / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        rewrite(path, as_json(event))
        return path

    def tasks(self, project: int) -> Iterator[Json]:
        """Tasks with `id`, `data` and `annotations` as Label Studio's API has them, by id.

        Masks are base64 here, where the API has lists.
        """
        paths = sorted(_files(self._of(project)), key=_numbers)
        for task, group in groupby(paths, key=lambda path: _numbers(path)[0]):
            held = [content for path in group if (content := _read(path)) is not None]
            newest = sorted(held, key=lambda one: moment(one["annotation"]["updated_at"]))
            data: Json = next((one["data"] for one in reversed(newest) if one["data"]), {})
            if held:
                yield {
                    "id": task,
                    "data": data,
                    "annotations": [one["annotation"] for one in held],
                }

    def label_config(self, project: int) -> str | None:
        """The project's labeling configuration; None if no event told it."""
        return _project(_read(self._of(project) / PROJECT)).label_config

    def counts(self, project: int) -> Counts:
        """What has happened so far."""
        return _project(_read(self._of(project) / PROJECT)).counts

    def _of(self, project: int) -> Path:
        return self._folder / str(project) / FOLDER


def _news(folder: Path, saved: Iterable[Mapping[str, Any]]) -> dict[Path, Json]:
    """What is to be kept of saved annotations, by file: what is newer than what is there."""
    news: dict[Path, Json] = {}
    for one in saved:
        path = folder / f"{one['task']}-{one['annotation']}.json"
        held = news.get(path) or _held(path)
        when = one.get("updated_at") or ""
        if any((folder / GONE / mark).exists() for mark in _marks(path)):
            continue
        if held and when and moment(when) <= moment(held["annotation"]["updated_at"]):
            continue
        annotation = {
            "id": one["annotation"],
            "was_cancelled": one["cancelled"],
            "updated_at": when,
            "result": list(one["result"]),
        }
        annotation |= {
            name: one.get(name)
            for name in ("ground_truth", "completed_by", "lead_time", "parent_prediction")
        }
        data = one["data"] or (held["data"] if held else {})
        news[path] = {"data": data, "annotation": annotation}
    return news


def _configured(before: _Project, event: Mapping[str, Any]) -> _Project:
    """The project with an event's labeling configuration, unless that is an older one."""
    before = replace(before, created_at=event.get("project_created_at") or before.created_at)
    xml, when = event.get("label_config"), event.get("project_updated_at") or ""
    if not xml or (when and moment(when) < moment(before.updated_at)):
        return before
    return replace(before, label_config=xml, updated_at=when)


def _counted(counts: Counts, saved: Mapping[Path, Json], lost: Iterable[Path]) -> Counts:
    accepted, changed, removed = counts.accepted, counts.changed, counts.removed
    for path, content in saved.items():
        was, now = _finished(_held(path)), _finished(content)
        accepted += now and not was
        changed += now and was
        removed += was and not now
    removed += sum(_finished(_held(path)) for path in lost)
    return Counts(accepted, changed, removed)


def _finished(content: Json | None) -> bool:
    return content is not None and not content["annotation"]["was_cancelled"]


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []


def _numbers(path: Path) -> tuple[int, int]:
    """The task and the annotation that a file is about."""
    task, _, annotation = path.stem.partition("-")
    return int(task), int(annotation)


def _marks(path: Path) -> set[str]:
    """The marks of which one says that what the file is about was deleted."""
    task, annotation = _numbers(path)
    return {f"task-{task}", f"annotation-{annotation}"}


def _read(path: Path) -> Json | None:
    """A file's content; None if there is none, or none that can be read, and the log says so."""
    try:
        return _held(path)
    except OSError as error:
        log.error("%s is left out, as it cannot be read: %s.", path, error)
        return None


def _held(path: Path) -> Json | None:
    """A file's content; None if there is none or it is damaged, and the log says so.

    Raises:
        OSError: it cannot be read, and may be whole.
    """
    try:
        content: Json = json.loads(path.read_bytes())
        _check(content, FORM_OF_PROJECT if path.name == PROJECT else FORM)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        log.error("%s is left out, as it cannot be read: %s.", path, error)
        return None
    return content


def _check(content: object, form: Mapping[str, Any]) -> None:
    """Make sure that content is an object with these names, each of its kind.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    for name, kind in form.items():
        if isinstance(kind, Mapping):
            _check(content.get(name), kind)
        elif name not in content or not isinstance(content[name], kind):
            raise ValueError(f'its "{name}" is missing, or is something else')


def _project(held: Json | None) -> _Project:
    if held is None:
        return _Project()
    return _Project(
        held["label_config"],
        str(held.get("created_at", "")),
        held["updated_at"],
        Counts(**held["counts"]),
    )
