"""What was decided of a project's versions, in order: the content of `active.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any, Self


class State(StrEnum):
    """What became of a version so far."""

    CANDIDATE = "candidate"  # nothing was decided yet
    ACTIVE = "active"
    REJECTED = "rejected"
    RETIRED = "retired"  # was active once


class Deed(StrEnum):
    """A kind of decision."""

    ACTIVATE = "activate"
    ROLLBACK = "rollback"
    REJECT = "reject"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision; a version None is the base checkpoint."""

    deed: Deed
    version: str | None  # which it is about, or which serves from then on
    replaced: str | None  # which served until then; None too where nothing was replaced
    reason: str
    at: str  # ISO 8601, UTC

    @property
    def serves(self) -> bool:
        """Whether it chose what is served."""
        return self.deed in {Deed.ACTIVATE, Deed.ROLLBACK}


class Decisions:
    """Every decision of a project, oldest first."""

    def __init__(self, history: Sequence[Decision] = ()) -> None:
        self.history = tuple(history)

    @property
    def active(self) -> str | None:
        """The version that is to be served; None is the base checkpoint."""
        return self.line[-1]

    @cached_property
    def line(self) -> list[str | None]:
        """What a rollback goes back along: the base first, what is to be served last."""
        line: list[str | None] = [None]
        for decision in self.history:
            if decision.deed is Deed.ACTIVATE:
                line.append(decision.version)
            elif decision.deed is Deed.ROLLBACK:
                line.pop()
            elif decision.deed is Deed.DELETE and decision.version in line:
                kept = [version for version in line if version != decision.version]
                line = kept[:1] + [now for was, now in pairwise(kept) if was != now]
        return line

    def state(self, version: str) -> tuple[State, str]:
        """What became of a version, and the reason of the decision that made it so."""
        if self.active == version:
            last = next(d for d in reversed(self.history) if d.serves and d.version == version)
            return State.ACTIVE, last.reason
        for decision in reversed(self.history):
            if decision.serves and decision.replaced == version:
                by = decision.version or "the base checkpoint"
                return State.RETIRED, f"replaced by {by}: {decision.reason}"
            if decision.version == version:
                if decision.deed is Deed.REJECT:
                    return State.REJECTED, decision.reason
                if decision.deed is Deed.DELETE:  # and published again
                    break
        return State.CANDIDATE, ""

    def then(self, deed: Deed, version: str | None, reason: str) -> Decisions:
        """These and one more."""
        replaced = self.active if deed in {Deed.ACTIVATE, Deed.ROLLBACK} else None
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        return Decisions([*self.history, Decision(deed, version, replaced, reason, at)])

    def to_json(self) -> dict[str, Any]:
        """What the file holds."""
        return {"active": self.active, "history": [asdict(one) for one in self.history]}

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read a file's content.

        Raises:
            ValueError: it is damaged.
        """
        try:
            raw = json.loads(content)
            # what later code adds is passed over
            names = {one.name for one in fields(Decision)}
            told = [{name: one[name] for name in names} for one in raw["history"]]
            history = [Decision(**{**one, "deed": Deed(one["deed"])}) for one in told]
            for one in history:
                if not isinstance(one.version, str | None) or not isinstance(one.reason, str):
                    raise ValueError("a decision names no version, or has no reason")
                if not isinstance(one.replaced, str | None) or not isinstance(one.at, str):
                    raise ValueError("a decision does not say what it replaced, or when")
            read = cls(history)
            if read.active != raw["active"]:
                raise ValueError("its history does not end with what it says is active")
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"it lacks something: {error!r}") from error
        return read
