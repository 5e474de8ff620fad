"""A project's versions on disk: which there are, which one is served, and why.

    MODEL_DIR/<project>/<version>/decoder.safetensors  the weights that differ from the base
    MODEL_DIR/<project>/<version>/version.json         where they come from and how good they are
    MODEL_DIR/<project>/active.json                    what is served, and every decision so far
    MODEL_DIR/<project>/reports/<version>.*            how it was judged, as `train` tells it

A version is named by its weights, which never change; how good they are may be found out again, on
other tasks. What is decided of it stands in `active.json`, so that one file's replacement changes
all states at once. Any process on any host that shares the
folder may do anything at any time: writers of a project take turns, readers need no lock. Nothing
here needs torch, so that the web process can read it; `registry` has what does.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backend import __version__
from backend.durable import as_json, rewrite, sync, write
from backend.errors import NoSuchVersion, VersionDamaged, VersionRefused
from backend.filelock import locked
from backend.learning.card import Card, Version
from backend.learning.decisions import Decisions, Deed

__all__ = ["ACTIVE", "CARD", "WEIGHTS", "Card", "Version", "Versions"]  # cards go in and out here

log = logging.getLogger(__name__)

WEIGHTS = "decoder.safetensors"
CARD = "version.json"
ACTIVE = "active.json"
REPORTS = "reports"
REPORTED = (".html", ".json")  # as a page, and in figures

DIGITS = 16  # of the weights' SHA-256, its first, name a version
NAME = re.compile(f"[0-9a-f]{{{DIGITS}}}")
UNFINISHED = ".new-"
DECIDED = {"state", "reason"}  # what a card does not hold: it stands in `active.json`


class Versions:
    """All projects' versions in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # whether weights are whole, by file, as long as the file stays the same
        self._whole: dict[Path, tuple[tuple[int, ...], bool]] = {}
        self._known: dict[Path, tuple[tuple[int, ...], Decisions]] = {}  # what was decided, too
        self._told: set[str] = set()

    def projects(self) -> list[int]:
        """The projects that have versions."""
        try:
            names = [path.name for path in self._folder.iterdir() if path.name.isdecimal()]
        except FileNotFoundError:
            return []
        return sorted(project for name in names if self._names(project := int(name)))

    def versions(self, project: int) -> list[Version]:
        """Every version that was published, oldest first; unreadable ones are told in the log."""
        found = []
        decisions = self.decisions(project)
        for name in self._names(project):
            try:
                found.append(self._read(project, name, decisions))
            except (NoSuchVersion, VersionDamaged) as error:
                log.error("%s", error)
        return sorted(found, key=lambda version: (version.created, version.id))

    def version(self, project: int, id_or_prefix: str) -> Version:
        """One version, by its id or the beginning of it.

        Raises:
            NoSuchVersion: none has such an id, or several do.
            VersionDamaged: it cannot be read.
        """
        return self._read(project, self._meant(project, id_or_prefix), self.decisions(project))

    def active(self, project: int, base: str | None = None) -> Version | None:
        """The version to serve; None is the base checkpoint.

        That is the active one, if it is whole and made for the `base` of this digest; else the
        one before it that is, and the log says so.
        """
        decisions = self.decisions(project)
        for name in reversed(decisions.line):
            if name is None:
                break
            try:
                version = self._read(project, name, decisions)
                self.check(version)
            except (NoSuchVersion, VersionDamaged) as error:
                self._tell(str(error))
                continue
            if base in {None, version.card.base}:
                return version
            self._tell(
                f"Version {name} of project {project} was made for checkpoint "
                f"{version.card.base[:8]}, and {str(base)[:8]} is served.",
            )
        return None

    def decisions(self, project: int) -> Decisions:
        """What was decided so far; nothing if that cannot be read, and the log says so."""
        try:
            return self._decided(project)
        except OSError as error:
            self._tell(f"{error.filename} cannot be read: {error.strerror}.")
            return Decisions()

    def overview(self, project: int, base: str | None) -> dict[str, Any]:
        """A project's versions and decisions, and which is served with a base, for JSON."""
        served = self.active(project, base)
        return {
            "project": project,
            "base": base,
            "served": served.id if served else None,
            "versions": [version.to_json() for version in self.versions(project)],
            **self.decisions(project).to_json(),
        }

    def check(self, version: Version) -> None:
        """Make sure that the weights are those that were published.

        Raises:
            VersionDamaged: they are not.
        """
        path = self._path(version) / WEIGHTS
        try:
            same = _state(path.stat())
            if path not in self._whole or self._whole[path][0] != same:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                self._whole[path] = same, digest == version.digest
            whole = self._whole[path][1]
        except OSError as error:
            raise VersionDamaged(f"{path} cannot be read: {error.strerror}.") from error
        if not whole:
            raise _damaged(version)

    def content(self, version: Version) -> bytes:
        """The file of the weights, checked as it is read.

        Raises:
            VersionDamaged: it is not what was published.
        """
        path = self._path(version) / WEIGHTS
        try:
            content = path.read_bytes()
        except OSError as error:
            raise VersionDamaged(f"{path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != version.digest:
            self._whole.pop(path, None)
            raise _damaged(version)
        return content

    def keep(self, project: int, content: bytes, card: Card) -> Version:
        """Publish the file of some weights as a candidate; it is there whole, or not at all.

        The same weights again are the version that they were, as it is known now.
        """
        digest = hashlib.sha256(content).hexdigest()
        version = Version(
            project=project,
            id=digest[:DIGITS],
            card=card,
            digest=digest,
            size=len(content),
            code=__version__,
            created=_now(),
        )
        with self._alone(project) as folder:
            for left in folder.glob(f"{UNFINISHED}*"):  # by who was killed: nobody else is here
                shutil.rmtree(left, ignore_errors=True)
            target = folder / version.id
            if target.exists():
                try:
                    there = self._read(project, version.id, self.decisions(project))
                    self.content(there)
                    rewrite(target / CARD, _told(replace(version, created=there.created)))
                    return self._read(project, version.id, self.decisions(project))
                except (NoSuchVersion, VersionDamaged) as error:
                    log.error("%s It is replaced.", error)
                    _remove(target)
            new = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
            new.mkdir()
            write(new / WEIGHTS, content)
            write(new / CARD, _told(version))
            sync(new)
            new.rename(target)
            sync(folder)
            return self._read(project, version.id, self.decisions(project))

    def activate(self, project: int, version: str | None, reason: str) -> Version | None:
        """Serve a version from now on; None is the base checkpoint.

        Raises:
            NoSuchVersion: there is none of that id.
            VersionDamaged: its weights are not those that were published.
        """
        with self._alone(project) as folder:
            chosen = None if version is None else self.version(project, version)
            if chosen is not None:
                self.check(chosen)
            name = None if chosen is None else chosen.id
            decisions = self._decided(project)
            if decisions.active != name:
                self._write_down(folder, decisions.then(Deed.ACTIVATE, name, reason))
            return None if name is None else self.version(project, name)

    def reject(self, project: int, version: str, reason: str) -> Version:
        """Keep a version and say why it is not to be served.

        Raises:
            NoSuchVersion: there is none of that id.
            VersionRefused: it is being served.
        """
        with self._alone(project) as folder:
            chosen = self.version(project, version)
            decisions = self._decided(project)
            if decisions.active == chosen.id:
                raise VersionRefused(
                    f"Version {chosen.id} of project {project} is active: roll back first."
                )
            self._write_down(folder, decisions.then(Deed.REJECT, chosen.id, reason))
            return self.version(project, chosen.id)

    def rollback(self, project: int, reason: str = "rolled back") -> Version | None:
        """Serve what was served before the active version; what that is, None for the base.

        Again and again this goes back to the base checkpoint.

        Raises:
            VersionRefused: nothing was active before.
            VersionDamaged: that one is gone, or its weights are not those that were published.
        """
        with self._alone(project) as folder:
            decisions = self._decided(project)
            if len(decisions.line) < 2:
                raise VersionRefused(f"Project {project} has nothing to roll back to.")
            name = decisions.line[-2]
            try:
                if name is not None:
                    self.check(self.version(project, name))
            except (NoSuchVersion, VersionDamaged) as error:
                raise VersionDamaged(
                    f"{error} To go back beyond it: `promptbrush versions delete --project "
                    f"{project} {name}`, and roll back again."
                ) from error
            self._write_down(folder, decisions.then(Deed.ROLLBACK, name, reason))
            return None if name is None else self.version(project, name)

    def delete(self, project: int, *versions: str) -> list[str]:
        """Remove versions that are not served, and their reports, or none; gives their ids.

        Raises:
            NoSuchVersion: there is none of such an id.
            VersionRefused: one is being served.
        """
        with self._alone(project) as folder:
            decisions, served = self._decided(project), self.active(project)
            # one that is damaged can be deleted too, and by its whole name one that is gone
            named = [
                one if one in decisions.line else self._meant(project, one) for one in versions
            ]
            names = list(dict.fromkeys(named))
            if decisions.active in names:
                raise VersionRefused(
                    f"Version {decisions.active} of project {project} is active: roll back first."
                )
            if served is not None and served.id in names:
                raise VersionRefused(
                    f"Version {served.id} of project {project} is served in place of "
                    f"{decisions.active}, which is damaged: roll back first."
                )
            for name in names:  # first, as on a full disk this makes room to write
                if (folder / name).exists():
                    _remove(folder / name)
                for kind in REPORTED:
                    (folder / REPORTS / f"{name}{kind}").unlink(missing_ok=True)
                decisions = decisions.then(Deed.DELETE, name, "deleted")
            if names:
                self._write_down(folder, decisions)
            return names

    def _decided(self, project: int) -> Decisions:
        """What was decided so far, for who decides more; nothing if that is damaged.

        Raises:
            OSError: it is there, and cannot be read just now.
        """
        path = self._folder / str(project) / ACTIVE
        try:
            with path.open("rb") as file:  # opened, other hosts' changes are seen at once
                same = _state(os.fstat(file.fileno()))
                if path not in self._known or self._known[path][0] != same:
                    self._known[path] = same, Decisions.read(file.read())
            return self._known[path][1]
        except FileNotFoundError:
            return Decisions()
        except (ValueError, RecursionError) as error:
            self._tell(f"{path} cannot be read: {error}.")
            return Decisions()

    def _names(self, project: int) -> list[str]:
        try:
            return [
                p.name for p in (self._folder / str(project)).iterdir() if NAME.fullmatch(p.name)
            ]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _meant(self, project: int, id_or_prefix: str) -> str:
        """The name that is meant by its beginning, whether or not that version can be read."""
        names = [name for name in self._names(project) if name.startswith(id_or_prefix)]
        if len(names) != 1 or not id_or_prefix:
            many = f"{len(names)} versions of project {project} begin with {id_or_prefix!r}"
            none = f"Project {project} has no version {id_or_prefix!r}"
            raise NoSuchVersion(
                f"{many if names else none}: `promptbrush versions list --project {project}` "
                "names them."
            )
        return names[0]

    def _path(self, version: Version) -> Path:
        return self._folder / str(version.project) / version.id

    def _read(self, project: int, name: str, decisions: Decisions) -> Version:
        path = self._folder / str(project) / name / CARD
        try:
            version = Version.read(path.read_bytes())
        except FileNotFoundError as error:
            raise NoSuchVersion(f"Project {project} has no version {name}: no {path}.") from error
        except (OSError, ValueError, RecursionError) as error:
            raise VersionDamaged(f"{path} cannot be read: {error!r}.") from error
        if (version.project, version.id) != (project, name) or version.digest[:DIGITS] != name:
            raise VersionDamaged(f"{path} is damaged: it tells of another version.")
        state, reason = decisions.state(name)
        return replace(version, state=state, reason=reason)

    @contextmanager
    def _alone(self, project: int) -> Iterator[Path]:
        """The project's folder while no other process or thread, on any host, writes there."""
        folder = self._folder / str(project)
        with locked(folder / ".lock"):
            yield folder

    def _write_down(self, folder: Path, decisions: Decisions) -> None:
        """Replace what is decided, at once; what cannot be read is kept beside it."""
        path = folder / ACTIVE
        if path.exists() and not self._decided(int(folder.name)).history:
            path.rename(folder / f"damaged-{ACTIVE}")
        rewrite(path, as_json(decisions.to_json()))

    def _tell(self, problem: str) -> None:
        """Say once what is wrong, not before each job again."""
        if problem not in self._told:
            self._told.add(problem)
            log.error("%s The version before it is served, or else the base checkpoint.", problem)


def _told(version: Version) -> bytes:
    """The content of its card."""
    return as_json({k: v for k, v in version.to_json().items() if k not in DECIDED})


def _state(found: os.stat_result) -> tuple[int, ...]:
    """What changes with a file."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size


def _damaged(version: Version) -> VersionDamaged:
    return VersionDamaged(
        f"Version {version.id} of project {version.project} is damaged: its {WEIGHTS} is not what "
        "was published."
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _remove(folder: Path) -> None:
    """Remove a version so that no half of it is ever seen."""
    gone = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
