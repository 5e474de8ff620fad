"""`promptbrush prompts`: what a project's labels are asked with, and its proof."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from backend.cli.accepted import folder_option, learner
from backend.cli.booktable import head, of_label, overview
from backend.cli.options import (
    backend_option,
    follow_if_known,
    label_studio_options,
    later,
    project_deeds,
    project_option,
    settings_of,
    studio_settings,
)
from backend.errors import (
    BackendError,
    BadPrompt,
    BadPromptBook,
    BadRequest,
    LabelStudioRefused,
)
from backend.inference import booktext
from backend.inference.books import Books
from backend.inference.promptbook import FIELDS, Entry, Origin, Phrase, PromptBook
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.labels import LONGEST_PROMPT, as_read, once_each
from backend.labelstudio.negation import understood
from backend.report import table

GIVEN_BACK = (
    "What is given back says nothing until it is measured again: by itself as more is accepted, or "
    "now with `promptbrush prompts measure --project {}`."
)

ELSEWHERE = (
    "Those of another project count, for each label, until one of its masks is accepted in this "
    "one; exemplars stay beside this project's own. What is accepted here already comes in when "
    "prompts are measured: by itself as more is accepted, or now with `promptbrush prompts measure "
    "--project {}`."
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """`prompts`, with what can be done with them."""
    deeds, add = project_deeds(
        commands, "prompts", "what a project's labels are asked with", _print
    )
    add("list", _list, "all versions of the book, oldest first")
    show = add("show", _show, "what the book says, and its proof")
    show.add_argument("--version", type=int, metavar="N", help="(the newest)")
    show.add_argument("--label", metavar="LABEL", help="only that, with its curves")
    chosen = add("set", _set, "set what a label is asked with; it beats what is measured")
    chosen.add_argument("--label", required=True, metavar="LABEL", help="whose prompts")
    chosen.add_argument(
        "--text", action="append", metavar="TEXT", help="a phrase; may be given again"
    )
    chosen.add_argument(
        "--not", action="append", metavar="TEXT", dest="negative", help="what it is not; likewise"
    )
    chosen.add_argument(
        "--threshold", type=float, metavar="P", help="probability from which a pixel counts"
    )
    chosen.add_argument(
        "--confidence", type=float, metavar="P", help="show no part that is less sure"
    )
    chosen.add_argument(
        "--no-probe", action="store_true", help="show parts however they look inside"
    )
    chosen.add_argument("--weight", type=float, metavar="W", help="the exemplars' share, 0 to 1")
    chosen.add_argument(
        "--without",
        action="append",
        metavar="EXEMPLAR",
        help="leave one out for good; may be given again",
    )
    chosen.add_argument(
        "--reset",
        action="append",
        choices=[*FIELDS, "all"],
        help="give it back to measuring and to the labeling configuration",
    )
    rollback = add("rollback", _rollback, "make an older version count again")
    rollback.add_argument(
        "--to", type=int, metavar="N", help="(the one before: done twice, it undoes itself)"
    )
    export = add("export", _export, "the book with its exemplars, as JSON")
    export.add_argument("--version", type=int, metavar="N", help="(the newest)")
    export.add_argument("--out", type=Path, metavar="FILE", help="(the terminal)")
    measure = deeds.add_parser("measure", help="find out on accepted annotations what is best")
    label_studio_options(measure)
    backend_option(measure)
    project_option(measure)
    folder_option(measure)
    measure.set_defaults(run=_measure)
    imported = add("import", _import, "make an export, or an edited one, the newest version")
    imported.add_argument("file", type=Path, metavar="FILE", help="- is what is piped in")


def _print(run: Callable[..., str], options: argparse.Namespace) -> int:
    print(run(Books(settings_of().model_dir), options))
    return 0


def _list(books: Books, options: argparse.Namespace) -> str:
    history = books.history(options.project)
    if not history:
        return head(PromptBook(options.project))
    rows = [
        [str(book.number), book.note.by, book.note.at[:19], str(len(book.entries))]
        for book in history
    ]
    return table(["version", "by", "at (UTC)", "labels"], rows)


def _show(books: Books, options: argparse.Namespace) -> str:
    project, number = options.project, options.version
    book = books.book(project) if number is None else books.version(project, number)
    if options.label is not None:
        if options.label not in book.entries:
            raise BadRequest(f'The prompt book says nothing of "{options.label}".')
        return of_label(book.entry(options.label))
    return f"{head(book)}\n\n{overview(book)}" if book.entries else head(book)


def _set(books: Books, options: argparse.Namespace) -> str:
    changes: dict[str, object] = {}
    for name in options.reset or ():
        changes |= dict.fromkeys(FIELDS if name == "all" else (name,))
    for name, said in (("texts", options.text), ("negatives", options.negative)):
        if said:
            texts = once_each(map(_said, said), as_read)
            changes[name] = tuple(Phrase(text, Origin.HAND) for text in texts)
    for text in options.negative or ():
        if unwanted := understood(text)[1]:  # text encoders know no "not"
            raise BadPrompt(f'--not "{text}" has a "not" in it: give --not "{unwanted[0]}".')
    if options.threshold is not None:
        changes["threshold"] = _within(options.threshold, "--threshold", 0.001, 0.999)
    if options.confidence is not None:
        changes["confidence"] = _within(options.confidence, "--confidence", 0.001, 0.999)
    if options.weight is not None:
        changes["weight"] = _within(options.weight, "--weight", 0, 1)
    if not options.label.strip():
        raise BadRequest("--label has to name a label.")
    _check_read([*(options.text or ()), *(options.negative or ())])
    if not changes and not options.without and not options.no_probe:
        raise BadRequest(
            "There is nothing to set: give --text, --not, --threshold, --confidence, --no-probe, "
            "--weight, --without or --reset."
        )

    def edit(book: PromptBook) -> PromptBook:
        entry = book.entry(options.label).setting(**changes)
        entry = entry.without(_known(entry, options.without or ()))
        return book.having(entry.without_probe() if options.no_probe else entry)

    book = books.change(options.project, _done(options, changes), edit)
    given_back = f"\n{GIVEN_BACK.format(options.project)}" if options.reset else ""
    return f"{_moved(book)}{given_back}\n\n{of_label(book.entry(options.label))}"


def _done(options: argparse.Namespace, changes: Mapping[str, object]) -> str:
    """What was set and what was given back, for the book's history."""
    by_hand = [name for name, value in changes.items() if value is not None]
    by_hand += ["exemplars"] * bool(options.without) + ["probe"] * options.no_probe
    given_back = [name for name in changes if name not in by_hand]
    return "; ".join(
        f'{", ".join(names)} of "{options.label}" {how}'
        for names, how in ((by_hand, "set by hand"), (given_back, "given back"))
        if names
    )


def _known(entry: Entry, names: Sequence[str]) -> Sequence[str]:
    known = {one.id for one in entry.exemplars}
    strangers = [name for name in names if name not in known]
    if strangers:
        raise BadRequest(f'"{entry.label}" has no exemplar {", ".join(strangers)}.')
    return names


def _measure(options: argparse.Namespace) -> int:
    from backend.learning.commands import progress_bar

    settings = studio_settings(options)
    learns = learner(settings, options)
    with progress_bar() as bar:
        measured = learns.measure(bar)
    if not measured.account.parts:  # nothing to measure on, and so nothing new
        print(measured.account)
        return 0
    print(f"{measured.account}\n\n{overview(measured.book)}\n\n{_counts(measured.book)}")
    print(follow_if_known(settings, options))
    return 0


def _rollback(books: Books, options: argparse.Namespace) -> str:
    book = books.rollback(options.project, options.to)
    return f"{_moved(book)}\n\n{head(book)}"


def _export(books: Books, options: argparse.Namespace) -> str:
    exported = books.exported(options.project, options.version)
    text = json.dumps(exported, indent=2, sort_keys=True, ensure_ascii=False)
    if options.out is None:
        return text
    try:
        options.out.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:  # a full disk alone does not tell which file
        raise BadRequest(f"{options.out} cannot be written: {error.strerror}.") from None
    return f"It is in {options.out}"


def _import(books: Books, options: argparse.Namespace) -> str:
    piped = str(options.file) == "-"
    name = "what is piped in" if piped else options.file.name
    try:
        raw = booktext.parsed(sys.stdin.buffer.read() if piped else options.file.read_bytes())
    except OSError as error:
        raise BadRequest(f"{options.file} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is not JSON: {error}.") from error
    try:
        book = books.imported(options.project, raw, f"imported from {name}")
        if not book.number:  # there was none, and there is nothing in the file
            return head(book)
        measured = f" {ELSEWHERE.format(options.project)}" if book.note.base else ""
        return f"{_moved(book)}\n\n{head(book)}{measured}"
    except BadPromptBook as error:
        raise BadPromptBook(f"{name} is not imported: {error}.") from error


def _moved(book: PromptBook) -> str:
    follows = f"\n{later(book.project)}{_strangers(book)}" if book.number else ""
    return f"{_counts(book)}{follows}"


def _strangers(book: PromptBook) -> str:
    """A warning of a project that is not there, or of labels that it lacks, if these are known."""
    from backend.learning.source import studio_of

    try:
        xml = studio_of(settings_of()).project(book.project)["label_config"]
        known = {
            label.value for control in parse_label_config(xml).outputs for label in control.labels
        }
    except LabelStudioRefused as refusal:
        return f"\n{refusal}."
    except BackendError:  # it may be set before Label Studio runs, and before events come
        return ""
    strange = ", ".join(f'"{label}"' for label in sorted(book.entries.keys() - known))
    if not strange:
        return ""
    return (
        f"\nWhat it says of {strange} counts for nothing: the labeling configuration has "
        f"{', '.join(sorted(known))}."
    )


def _counts(book: PromptBook) -> str:
    if not book.number:
        return head(book)
    return (
        f"Version {book.number} of project {book.project}'s prompt book counts from the next task "
        "on."
    )


def _said(text: str) -> str:
    said = text.strip()
    if not said or len(said) > LONGEST_PROMPT:
        raise BadPrompt(f"A text has 1 to {LONGEST_PROMPT} characters.")
    return said


def _check_read(texts: Sequence[str]) -> None:
    """Refuse texts that are longer than the model reads: workers would leave them out."""
    parts = [part for wanted, others in map(understood, texts) for part in (wanted, *others)]
    said = [part for part in parts if part]
    if said:  # else nothing has to be loaded
        from backend.worker.runtime import check_read

        check_read(settings_of().checkpoint, said)


def _within(value: float, option: str, low: float, high: float) -> float:
    if not low <= value <= high:
        raise BadRequest(f"{option} {value} cannot be used: give a number from {low} to {high}.")
    return round(value, 4)
