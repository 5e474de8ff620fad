"""Prompt books on disk, a file for each version, beside the numbers that they name.

    MODEL_DIR/<project>/prompts/000012.json                 a version; the highest number counts
    MODEL_DIR/<project>/prompts/conditions/<id>.safetensors what an exemplar shows, (C,), and what
                                                            a probe knows, (D + 1,)

Every change is a new version, and no version is ever written over; going back is a new version
too. Any process on any host that shares the folder may do anything at any time: writers of a
project take turns and begin from what the one before left, readers need no lock. A version that
cannot be read, such as one edited by hand into nonsense, is told in the log, and the one before it
counts. Numbers are named by what they are or were made of, so that they never change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from backend.durable import sync, write
from backend.errors import BadPromptBook, NoSuchVersion
from backend.filelock import locked
from backend.inference import booktext, conditions
from backend.inference.conditions import Condition
from backend.inference.promptbook import Entry, Note, PromptBook, Shown
from backend.labelstudio.shapes import Mask

log = logging.getLogger(__name__)

FOLDER = "prompts"
CONDITIONS = "conditions"
NAME = re.compile(r"(?!000000)([0-9]{6}|[1-9][0-9]{6,})\.json")  # as `_path` gives them
UNFINISHED = ".new-"

Json = dict[str, Any]


class Books:
    """All projects' prompt books in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # the newest version by project, as long as its file stays the same
        self._newest: dict[int, tuple[tuple[object, ...], PromptBook]] = {}
        # and as it is asked from: the checkpoint, the version, and that with its conditions
        self._asked: dict[int, tuple[str | None, PromptBook, PromptBook]] = {}

    def book(self, project: int) -> PromptBook:
        """The newest version that can be read; an empty book where there is none."""
        numbers = self._numbers(project)
        if not numbers:
            return PromptBook(project)
        stamp = self._stamp(project, numbers[-1])
        held = self._newest.get(project)
        if held is None or held[0] != stamp:
            held = stamp, self._readable(project, numbers)
            self._newest[project] = held
        return held[1]

    def serving(self, project: int | None, base: str | None) -> PromptBook:
        """The book to ask the checkpoint of a digest with; exemplars and probes have their numbers.

        Cheap enough to be asked before every task: the newest version's file is looked at, and
        read only when it changed.
        """
        if project is None:
            return PromptBook()
        book = self.book(project)
        if not book.number:  # of whatever number a request names, nothing is kept
            return book
        held = self._asked.get(project)
        if held is None or held[0] != base or held[1] is not book:
            held = base, book, self.showing(book.fitting(base))
            self._asked[project] = held
        return held[2]

    def ever_serving(self, project: int, base: str | None) -> Iterator[PromptBook]:
        """The checkpoint's books so far, as they were asked from; the first is an empty one."""
        yield PromptBook(project)
        read: dict[str, Condition | None] = {}
        for book in self.history(project):
            yield self._showing(book.fitting(base), read)

    def showing(self, book: PromptBook) -> PromptBook:
        """A book, written down or not, with the numbers that its exemplars and probes name."""
        return self._showing(book, {})

    def _showing(self, book: PromptBook, read: dict[str, Condition | None]) -> PromptBook:
        """A book with the numbers that it names; `read` are those that were read before."""
        shown, probes = _exemplars(book), _probes(book)
        names = shown | probes
        read |= {name: self.condition(book.project, name) for name in names - read.keys()}
        found = {name: one for name in sorted(names) if (one := read[name]) is not None}
        return replace(
            book,
            conditions=conditions.alike({name: found[name] for name in found if name in shown}),
            probes={name: found[name] for name in found if name in probes},
        )

    def history(self, project: int) -> list[PromptBook]:
        """Every version that can be read, oldest first."""
        found = []
        for number in self._numbers(project):
            try:
                found.append(self.version(project, number))
            except BadPromptBook as error:
                log.error("%s", error)
        return found

    def version(self, project: int, number: int) -> PromptBook:
        """One version.

        Raises:
            NoSuchVersion: there is none of that number.
            BadPromptBook: it cannot be read.
        """
        path = self._path(project, number)
        try:
            read = booktext.read(booktext.parsed(path.read_bytes()), number)
            return read if read.project == project else _in_project(read, project)  # a copy
        except FileNotFoundError:
            raise NoSuchVersion(
                f"Project {project} has no version {number} of its prompt book: "
                f"`promptbrush prompts list --project {project}` names them."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise BadPromptBook(f"{path} cannot be read: {error}.") from error
        except BadPromptBook as error:
            raise BadPromptBook(f"{path} cannot be used: {error}.") from None

    def change(
        self,
        project: int,
        by: str | None,
        edit: Callable[[PromptBook], PromptBook],
        *,
        base: str | None = None,
        tuned: str | None = None,
    ) -> PromptBook:
        """Write what `edit` makes of the newest version as the next one.

        Nobody else writes meanwhile, so that `edit` may be called a little later, and should keep
        what it does not mean to change. Where it changes nothing, nothing is written.

        Args:
            project: The project's id.
            by: What is done, in words; None where the new book's note tells.
            edit: Gives the new book for the old one.
            base: The checkpoint that new figures were measured with; None leaves the old note.
            tuned: The project's version that they were measured with.
        """
        with self._alone(project) as folder:
            now = self.book(project)
            new = edit(now)
            if not (new.entries or now.entries):
                return now
            base, tuned = (base, tuned) if base else (new.note.base, new.note.tuned)
            if new.entries == now.entries and (base, tuned) == (now.note.base, now.note.tuned):
                return now
            number = 1 + max(self._numbers(project), default=0)
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            note = Note(at, new.note.by if by is None else by, base, tuned)
            new = replace(new, number=number, note=note)
            unfinished = folder / f"{UNFINISHED}{uuid.uuid4().hex}"
            write(unfinished, _text(booktext.written(new)))
            unfinished.replace(self._path(project, number))
            sync(folder)
            return self.book(project)

    def put(self, project: int, by: str, *entries: Entry) -> PromptBook:
        """Write a new version with these entries in place of their labels' old ones."""
        return self.change(project, by, lambda book: book.having(*entries))

    def rollback(self, project: int, number: int | None = None) -> PromptBook:
        """Make a version count again, as a new one; None is the one before that counts.

        Raises:
            NoSuchVersion: there is none.
            BadPromptBook: it cannot be read.
        """

        def back(now: PromptBook) -> PromptBook:
            if number is None:
                older = [one for one in self._numbers(project) if one < now.number]
                found = self._readable(project, older)
            else:
                found = PromptBook(project) if number == 0 else self.version(project, number)
            told = f"rolled back to version {found.number}"
            return replace(found, note=replace(found.note, by=told))

        if not self._numbers(project):
            raise NoSuchVersion(f"Project {project} has no prompt book to roll back.")
        return self.change(project, None, back)

    def exported(self, project: int, number: int | None = None) -> Json:
        """A version with the numbers that it names, to be imported elsewhere."""
        book = self.book(project) if number is None else self.version(project, number)
        names = sorted(_exemplars(book) | _probes(book))
        found = {name: self.condition(project, name) for name in names}
        told = {
            name: conditions.as_text(condition)
            for name, condition in found.items()
            if condition is not None
        }
        return {**booktext.written(book), "conditions": told}

    def imported(self, project: int, raw: object, by: str) -> PromptBook:
        """Write what `exported` gave, of any project, as this project's newest version.

        Exemplars are the project's own where its book had them as such: another Label Studio
        counts its projects from 1, too.

        Raises:
            BadPromptBook: it cannot be meant; nothing is written.
        """
        if not isinstance(raw, Mapping):
            raise BadPromptBook("a prompt book is a JSON object, and this is none")
        held = dict(raw)
        brought = conditions.from_texts(held.pop("conditions", {}))
        book = booktext.read(held)
        self._check_shown(project, book, brought)
        for name in _probes(book):
            if self._known(project, name, brought) is None:
                raise BadPromptBook(
                    f"what probe {name} knows is neither among the conditions nor known to the "
                    "project; import all that `promptbrush prompts export` wrote, or leave it out"
                )
        for name, condition in brought.items():
            self.keep(project, name, condition)
        return self.change(project, by, lambda _: _in_project(book, project, self._own(project)))

    def _own(self, project: int) -> set[str]:
        """The exemplars that a project's book ever had of the project's own tasks."""
        entries = (entry for book in self.history(project) for entry in book.entries.values())
        return {one.id for entry in entries for one in entry.exemplars if not one.project}

    def _check_shown(
        self, project: int, book: PromptBook, brought: Mapping[str, Condition]
    ) -> None:
        """Make sure that what exemplars show is known, and of one kind."""
        sizes = set()
        for entry in book.entries.values():
            for name in (one.id for one in entry.exemplars if one.used):
                shown = self._known(project, name, brought)
                if shown is None:
                    raise BadPromptBook(
                        f'label "{entry.label}": what exemplar {name} shows is neither among the '
                        "conditions nor known to the project; import all that `promptbrush "
                        'prompts export` wrote, or give it "used": false'
                    )
                sizes.add(shown.size)
        if len(sizes) > 1:
            told = " and ".join(map(str, sorted(sizes)))
            raise BadPromptBook(
                f"conditions: they have {told} numbers, and so are of different checkpoints"
            )

    def _known(self, project: int, name: str, brought: Mapping[str, Condition]) -> Condition | None:
        """Numbers that the project has, or else is brought."""
        kept = self.condition(project, name) if self.holds(project, name) else None
        return brought.get(name) if kept is None else kept

    def keep(self, project: int, name: str, condition: Condition) -> None:
        """Store what an exemplar shows, (C,), or a probe knows, unless that is there."""
        if self.holds(project, name) and self.condition(project, name) is not None:
            return
        path = self._condition(project, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
        write(unfinished, conditions.as_file(condition))
        unfinished.replace(path)

    def holds(self, project: int, name: str) -> bool:
        """Whether an exemplar's condition, or a probe, is stored."""
        return self._condition(project, name).exists()

    def condition(self, project: int, name: str) -> Condition | None:
        """What an exemplar shows, (C,), or a probe knows; None, told in the log, if it is lost."""
        return conditions.from_file(self._condition(project, name))

    def _readable(self, project: int, numbers: list[int]) -> PromptBook:
        for number in reversed(numbers):
            try:
                return self.version(project, number)
            except NoSuchVersion:
                continue
            except BadPromptBook as error:
                log.error("%s The version before it counts.", error)
        return PromptBook(project)

    def _numbers(self, project: int) -> list[int]:
        try:
            names = [path.name for path in (self._folder / str(project) / FOLDER).iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(Path(name).stem) for name in names if NAME.fullmatch(name))

    def _stamp(self, project: int, number: int) -> tuple[object, ...]:
        try:
            found = self._path(project, number).stat()
        except FileNotFoundError:
            return (number,)
        return number, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size

    def _path(self, project: int, number: int) -> Path:
        return self._folder / str(project) / FOLDER / f"{number:06}.json"

    def _condition(self, project: int, name: str) -> Path:
        return self._folder / str(project) / FOLDER / CONDITIONS / f"{name}.safetensors"

    @contextmanager
    def _alone(self, project: int) -> Iterator[Path]:
        """The project's book while no other process or thread, on any host, writes there."""
        folder = self._folder / str(project) / FOLDER
        with locked(folder / ".lock"):
            for left in folder.glob(f"{UNFINISHED}*"):  # by who was killed: nobody else is here
                left.unlink(missing_ok=True)
            yield folder


def _in_project(book: PromptBook, project: int, own: Collection[str] = ()) -> PromptBook:
    """A book of any project as one of this project: its exemplars tell whose tasks they are of.

    Those of this project are among its `own`, by name.
    """

    def told(one: Shown) -> Shown:
        of = one.project or book.project
        return replace(one, project=0 if of == project and one.id in own else of)

    entries = (
        replace(entry, exemplars=tuple(map(told, entry.exemplars)))
        for entry in book.entries.values()
    )
    return replace(book, project=project, entries={}).having(*entries)


def _exemplars(book: PromptBook) -> set[str]:
    shown = [one for entry in book.entries.values() for one in entry.exemplars]
    return {name for one in shown for name in (one.id, one.recoloured) if name}


def _probes(book: PromptBook) -> set[str]:
    return {entry.probe.id for entry in book.entries.values() if entry.probe is not None}


def probe_id(row: Condition) -> str:
    """Names a probe by its numbers, (D + 1,)."""
    return hashlib.sha256(row.astype("<f4").tobytes()).hexdigest()[:16]


def exemplar_id(base: str, image: str, mask: Mask) -> str:
    """Names an exemplar's condition: by checkpoint, image's digest and mask, (H, W)."""
    total = hashlib.sha256(f"{base} {image} {mask.shape} ".encode())
    total.update(np.packbits(mask).tobytes())
    return total.hexdigest()[:16]


def _text(content: Json) -> bytes:
    """For people: one version beside another shows what changed, and nothing else.

    Raises:
        BadPromptBook: no file can hold it, as what a terminal gives that does not speak UTF-8.
    """
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = text[: error.end].rpartition("\n")[2].strip()
        raise BadPromptBook(f"A prompt book is text in UTF-8, and {line!r} is none.") from None
