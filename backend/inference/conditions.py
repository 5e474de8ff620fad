"""What exemplars show, (C,), and what probes know: in files, and as text in a book that travels."""

from __future__ import annotations

import base64
import logging
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from backend.errors import BadPromptBook

log = logging.getLogger(__name__)

KEY = "condition"
LARGEST = 1e6  # of a number in it: models have some tens at most, and squares are summed
NAME = re.compile(r"[0-9A-Za-z]{1,64}")  # it is a file's, too

Condition = NDArray[np.float32]


def is_name(text: str) -> bool:
    """Whether numbers can be called so."""
    return NAME.fullmatch(text) is not None


def as_file(condition: Condition) -> bytes:
    """The content of a file that holds it."""
    return save({KEY: np.ascontiguousarray(condition, np.float32)})


def from_file(path: Path) -> Condition | None:
    """What a file holds; None, told in the log, where that is lost or nothing that can be shown."""
    try:
        condition = load(path.read_bytes())[KEY]
        if condition.ndim != 1 or not _usable(condition):
            raise ValueError("it holds something else than a row of numbers to ask with")
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        log.error("%s cannot be read, and its prompt book does without: %s", path, error)
        return None
    return condition.astype(np.float32, copy=False)


def as_text(condition: Condition) -> str:
    """The same for JSON."""
    return base64.b64encode(condition.astype("<f4").tobytes()).decode()


def from_texts(raw: object) -> dict[str, Condition]:
    """The inverse of `as_text`, of several by their names.

    Raises:
        BadPromptBook: one cannot be meant; the message says which.
    """
    if not isinstance(raw, Mapping):
        raise BadPromptBook("conditions: expected an object in braces")
    found = {}
    for name, content in raw.items():
        try:
            found[name] = np.frombuffer(base64.b64decode(content, validate=True), "<f4")
        except (TypeError, ValueError) as error:
            raise BadPromptBook(f"conditions, {name}: cannot be read ({error})") from None
        if not is_name(name) or not found[name].size or not _usable(found[name]):
            raise BadPromptBook(
                f"conditions, {name}: expected numbers under a plain name, none of them beyond "
                f"{LARGEST:g}, and not all 0"
            )
    return found


def _usable(condition: Condition) -> bool:
    """Whether a model can be asked with it, and answers in numbers."""
    return bool((np.abs(condition) <= LARGEST).all() and condition.any())


def alike(found: Mapping[str, Condition]) -> dict[str, Condition]:
    """Those of the length that most have, as a mean needs; the log tells of others."""
    lengths = Counter(one.size for one in found.values())
    usual = lengths.most_common(1)[0][0] if lengths else 0
    for name, one in found.items():
        if one.size != usual:
            log.error(
                "Exemplar %s has %d numbers where others have %d, and is not shown.",
                *(name, one.size, usual),
            )
    return {name: one for name, one in found.items() if one.size == usual}
