"""A prompt book as JSON that people can read, compare and edit.

What is the default is left out. What people write is read strictly: a word out of place, or twice,
is told with its place, since a book that is half understood would be asked wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from backend.errors import BadPromptBook
from backend.inference.conditions import is_name
from backend.inference.promptbook import (
    FIELDS,
    Curve,
    Entry,
    Note,
    Origin,
    Phrase,
    Probed,
    PromptBook,
    Proof,
    Shown,
)
from backend.labelstudio.labels import LONGEST_PROMPT, as_read, once_each

DIGITS = 4  # after the point, of what is written

T = TypeVar("T")
Json = dict[str, Any]


def parsed(text: str | bytes) -> object:
    """The JSON of a book.

    Raises:
        ValueError: it is none, or says something twice.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, object]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def written(book: PromptBook) -> Json:
    """What a book's file holds."""
    return {
        "project": book.project,
        "note": _plain(book.note),
        "labels": {label: _of_entry(entry) for label, entry in book.entries.items()},
    }


def read(raw: object, number: int = 0) -> PromptBook:
    """The inverse of `written`; `number` is the version's.

    Raises:
        BadPromptBook: something in it cannot be meant; the message says where.
    """
    held = _object(raw, "the book", {"project", "note", "labels"})
    note = _object(held.get("note", {}), "note", {"at", "by", "base", "tuned"})
    labels = _object(held.get("labels"), "labels", None)
    return PromptBook(
        project=_whole(held.get("project"), "project"),
        number=number,
        note=Note(
            at=_text(note.get("at", ""), "note, at"),
            by=_text(note.get("by", ""), "note, by"),
            base=_maybe(_text)(note.get("base"), "note, base"),
            tuned=_maybe(_text)(note.get("tuned"), "note, tuned"),
        ),
        entries={_label(label): _entry(label, one) for label, one in labels.items()},
    )


def _plain(held: Any) -> Json:
    """A dataclass's fields that are not their defaults."""
    values = {name: getattr(held, name) for name in held.__dataclass_fields__}
    defaults = {name: one.default for name, one in held.__dataclass_fields__.items()}
    return {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in values.items()
        if value != defaults[name]
    }


def _of_entry(entry: Entry) -> Json:
    told = _plain(entry)
    del told["label"]
    for name in ("texts", "negatives", "exemplars"):
        if name in told:
            told[name] = [_plain(one) for one in told[name]]
    for name in ("handicaps", "weights", "thresholds", "confidences"):
        if name in told:
            told[name] = _rounded(told[name])
    if "by_hand" in told:
        told["by_hand"] = sorted(told["by_hand"])
    if entry.proof is not None:
        told["proof"] = _plain(entry.proof)
    if entry.probe is not None:
        told["probe"] = _plain(entry.probe)
        if entry.probe.curve:
            told["probe"]["curve"] = _rounded(entry.probe.curve)
    return told


def _rounded(curve: Curve) -> list[list[float]]:
    return [[round(x, DIGITS), round(y, DIGITS)] for x, y in curve]


def _entry(label: str, raw: object) -> Entry:
    where = f'label "{label}"'
    known = {name for name in Entry.__dataclass_fields__ if name != "label"}
    held = _object(raw, where, known)
    proof, probe = held.get("proof"), held.get("probe")
    texts = once_each(_each(held, "texts", where, _phrase), _as_read)
    negatives = once_each(_each(held, "negatives", where, _phrase), _as_read)
    by_hand = frozenset(_each(held, "by_hand", where, _settable))
    # who writes a phrase into a book, without where it is from, need not say again that it counts
    by_hand |= {
        name
        for name in ("texts", "negatives")
        if any("origin" not in phrase for phrase in held.get(name, []))
    }
    if probe is not None and "probe" in by_hand:
        raise BadPromptBook(
            f"{where}, probe: a person may want none, and makes none: leave it out, or do not name "
            "it under by_hand"
        )
    return Entry(
        label,
        texts=texts,
        exemplars=once_each(_each(held, "exemplars", where, _shown), attrgetter("id")),
        negatives=negatives,
        weight=_maybe(_share)(held.get("weight"), f"{where}, weight"),
        threshold=_maybe(_probability)(held.get("threshold"), f"{where}, threshold"),
        confidence=_maybe(_probability)(held.get("confidence"), f"{where}, confidence"),
        probe=None if probe is None else _probed(probe, f"{where}, probe"),
        by_hand=by_hand,
        proof=None if proof is None else _proof(proof, f"{where}, proof"),
        handicaps=_each(held, "handicaps", where, _handicap),
        weights=_each(held, "weights", where, _point),
        thresholds=_each(held, "thresholds", where, _point),
        confidences=_each(held, "confidences", where, _point),
        masks=_whole(held.get("masks", 0), f"{where}, masks"),
    )


def _label(raw: object) -> str:
    label = _text(raw, "labels")
    if not label.strip():
        raise BadPromptBook(f"labels: {label!r} names no label")
    return label


def _as_read(phrase: Phrase) -> str:
    return as_read(phrase.text)


def _phrase(raw: object, where: str) -> Phrase:
    held = _object(raw, where, set(Phrase.__dataclass_fields__))
    text = _text(held.get("text"), f"{where}, text")
    if not text.strip() or len(text) > LONGEST_PROMPT:
        raise BadPromptBook(f"{where}, text: expected 1 to {LONGEST_PROMPT} characters")
    origin = held.get("origin", Origin.HAND.value)
    if origin not in list(Origin):
        raise BadPromptBook(f"{where}, origin: expected one of {', '.join(Origin)}")
    return Phrase(
        text.strip(),
        Origin(origin),
        iou=_maybe(_share)(held.get("iou"), f"{where}, iou"),
        masks=_whole(held.get("masks", 0), f"{where}, masks"),
        predicted=_whole(held.get("predicted", 0), f"{where}, predicted"),
        accepted=_maybe(_share)(held.get("accepted"), f"{where}, accepted"),
        times=_whole(held.get("times", 0), f"{where}, times"),
        used=_yes(held.get("used", True), f"{where}, used"),
        reason=_text(held.get("reason", ""), f"{where}, reason"),
    )


def _shown(raw: object, where: str) -> Shown:
    held = _object(raw, where, set(Shown.__dataclass_fields__))
    return Shown(
        _name(held.get("id"), f"{where}, id", "no exemplar"),
        _whole(held.get("task"), f"{where}, task"),
        iou=_maybe(_share)(held.get("iou"), f"{where}, iou"),
        gain=_maybe(_number)(held.get("gain"), f"{where}, gain"),
        masks=_whole(held.get("masks", 0), f"{where}, masks"),
        used=_yes(held.get("used", True), f"{where}, used"),
        reason=_text(held.get("reason", ""), f"{where}, reason"),
        recoloured=_recoloured(held.get("recoloured", ""), f"{where}, recoloured"),
        project=_whole(held.get("project", 0), f"{where}, project"),
        refused=_yes(held.get("refused", False), f"{where}, refused"),
    )


def _recoloured(raw: object, where: str) -> str:
    return "" if raw == "" else _name(raw, where, "no exemplar")


def _proof(raw: object, where: str) -> Proof:
    held = _object(raw, where, set(Proof.__dataclass_fields__))
    return Proof(
        _share(held.get("iou"), f"{where}, iou"),
        _share(held.get("before"), f"{where}, before"),
        _whole(held.get("masks"), f"{where}, masks"),
        _text(held.get("part"), f"{where}, part"),
    )


def _probed(raw: object, where: str) -> Probed:
    held = _object(raw, where, set(Probed.__dataclass_fields__))
    return Probed(
        _name(held.get("id"), f"{where}, id", "no probe"),
        _probability(held.get("chance"), f"{where}, chance"),
        gain=_maybe(_number)(held.get("gain"), f"{where}, gain"),
        right=_whole(held.get("right", 0), f"{where}, right"),
        wrong=_whole(held.get("wrong", 0), f"{where}, wrong"),
        curve=_each(held, "curve", where, _point),
    )


def _point(raw: object, where: str) -> tuple[float, float]:
    if not isinstance(raw, list) or len(raw) != 2:
        raise BadPromptBook(f"{where}: expected two numbers")
    return _number(raw[0], where), _number(raw[1], where)


def _handicap(raw: object, where: str) -> tuple[float, float]:
    weight, handicap = _point(raw, where)
    return _share(weight, f"{where}, weight"), _share(handicap, f"{where}, handicap")


def _settable(raw: object, where: str) -> str:
    if raw not in FIELDS:
        raise BadPromptBook(f"{where}: expected one of {', '.join(FIELDS)}")
    return str(raw)


def _each(
    held: Mapping[str, Any], name: str, where: str, read: Callable[[object, str], T]
) -> tuple[T, ...]:
    listed = held.get(name, [])
    if not isinstance(listed, list):
        raise BadPromptBook(f"{where}, {name}: expected a list")
    return tuple(read(one, f"{where}, {name}, no. {i}") for i, one in enumerate(listed, start=1))


def _maybe(read: Callable[[object, str], T]) -> Callable[[object, str], T | None]:
    return lambda raw, where: None if raw is None else read(raw, where)


def _object(raw: object, where: str, known: set[str] | None) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise BadPromptBook(f"{where}: expected an object in braces")
    for name in raw:
        if known is not None and name not in known:
            raise BadPromptBook(f"{where}: {name!r} is none of {', '.join(sorted(known))}")
    return raw


def _text(raw: object, where: str) -> str:
    if not isinstance(raw, str):
        raise BadPromptBook(f"{where}: expected a text")
    if any("\ud800" <= sign <= "\udfff" for sign in raw):
        raise BadPromptBook(f"{where}: a half of a character stands there alone, as \\ud800")
    return raw


def _name(raw: object, where: str, otherwise: str) -> str:
    """What numbers are called."""
    name = _text(raw, where)
    if not is_name(name):
        raise BadPromptBook(f"{where}: {_told(name)} names {otherwise}")
    return name


def _yes(raw: object, where: str) -> bool:
    if not isinstance(raw, bool):
        raise BadPromptBook(f"{where}: expected true or false")
    return raw


def _whole(raw: object, where: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 0:
        raise BadPromptBook(f"{where}: expected a whole number from 0")
    return raw


def _number(raw: object, where: str, expected: str = "between -1 and 1") -> float:
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not abs(raw) <= 1:
        raise BadPromptBook(f"{where}: expected a number {expected}, not {_told(raw)}")
    return float(raw)


def _share(raw: object, where: str) -> float:
    expected = "between 0 and 1"
    number = _number(raw, where, expected)
    if number < 0:
        raise BadPromptBook(f"{where}: expected a number {expected}, not {number}")
    return number


def _probability(raw: object, where: str) -> float:
    expected = "above 0 and below 1"
    number = round(_number(raw, where, expected), DIGITS)  # as it is written
    if not 0 < number < 1:
        raise BadPromptBook(f"{where}: expected a number {expected}, not {number}")
    return number


def _told(raw: object) -> str:
    """What stands there instead, as short as a message can bear."""
    text = repr(raw)
    return text if len(text) <= 40 else f"{text[:40]}..."
