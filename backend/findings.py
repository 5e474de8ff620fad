"""What an examination finds, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from backend.report import printable


class Grade(StrEnum):
    """How a link is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination."""

    grade: Grade
    link: str
    told: str

    def __str__(self) -> str:
        """The line as it is printed, whatever it quotes."""
        return printable(f"{self.grade:<8} {self.link:<16} {self.told}")


def ok(link: str, told: str) -> Finding:
    """A link that holds."""
    return Finding(Grade.OK, link, told)


def warning(link: str, told: str) -> Finding:
    """A link that holds, with something to know."""
    return Finding(Grade.WARNING, link, told)


def problem(link: str, told: str) -> Finding:
    """A broken link, and what to do."""
    return Finding(Grade.PROBLEM, link, told)
