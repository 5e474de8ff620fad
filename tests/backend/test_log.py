"""What the log shows of what strangers sent."""

import logging

import pytest

from backend.cli.options import Legible


def shown(message: str, *quoted: object) -> str:
    record = logging.LogRecord("backend.web", logging.INFO, "", 0, message, quoted, None)
    return Legible("%(levelname)s %(name)s: %(message)s").format(record)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_what_is_quoted_never_looks_like_a_record_of_its_own(end: str) -> None:
    forged = "INFO backend.web: all is well"
    told = shown("event %s", f"A{end}{forged}")
    assert told == f"INFO backend.web: event A\n\t{forged}"


def test_what_is_quoted_moves_no_terminal() -> None:
    assert shown("event %s", "\x1b[2J\x07A\x9b\u202e") == "INFO backend.web: event ?[2J?A??"
