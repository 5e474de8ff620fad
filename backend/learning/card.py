"""What is known of a version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.learning.decisions import State


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
