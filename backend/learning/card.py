"""What is known of a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from backend.learning.decisions import State

# What a version's file has, and of which kind.
FORM: Mapping[str, Any] = {
    **dict.fromkeys(("id", "digest", "code", "created", "base", "data"), str),
    **dict.fromkeys(("project", "size"), int),
    **dict.fromkeys(("settings", "metrics"), dict),
    "parent": str | None,
}


@dataclass(frozen=True, slots=True)
class Card:
    """Where a version comes from and how good it is, as whoever made it knows."""

    base: str  # SHA-256 of the base checkpoint (`models.checkpoint.digest`)
    parent: str | None = None  # the version that training began with; None is the base
    data: str = ""  # digest of what it was trained on
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A version that was published, with what became of it."""

    project: int
    id: str
    card: Card
    digest: str  # SHA-256 of its weights' file
    size: int  # of that file, in bytes
    code: str  # version of promptbrush that made it
    created: str  # ISO 8601, UTC
    state: State = State.CANDIDATE
    reason: str = ""  # of the state

    def to_json(self) -> dict[str, Any]:
        """Everything about it, flat."""
        told = asdict(self)
        return {**told.pop("card"), **told}

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read a file's content.

        Raises:
            ValueError: it is damaged.
            RecursionError: it is nested too deeply.
        """
        return cls.from_json(json.loads(content, parse_constant=_refused))

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """The inverse of `to_json`, for what was published; what later code adds is passed over.

        Raises:
            ValueError: it is none.
        """
        if not isinstance(raw, dict):
            raise ValueError("it is no object")
        for name, kind in FORM.items():
            if not isinstance(raw.get(name), kind):
                raise ValueError(f'"{name}" is {raw.get(name)!r}')
        of_card = {one.name for one in fields(Card)}
        own = {one.name for one in fields(cls)} - {"card"}
        card = Card(**{name: told for name, told in raw.items() if name in of_card})
        return cls(card=card, **{name: told for name, told in raw.items() if name in own})


def _refused(constant: str) -> None:
    """NaN and the like, which Python reads, and no other reader of JSON does."""
    raise ValueError(f"{constant} is no number")


def called(version: Version | None) -> str:
    """A version, or the base checkpoint, in a sentence."""
    return "the base checkpoint" if version is None else f"version {version.id}"
