"""Which weights predicted a region, and how confidently: its id tells, whatever else is left of it.

Label Studio keeps the ids that it is sent, through an annotator's changes too. Without an API key
that is all there is to know a prediction by, since webhooks carry annotations and no predictions.
A region's score does not tell the confidence: what it means changes as scores are calibrated.
"""

from __future__ import annotations

import re
import uuid

_VERSION = re.compile(r".+-([0-9a-f]{8})-([0-9a-f]{8})")  # see `prompting.model_version`
_ID = re.compile(r"([0-9a-f]{8})-(?:([0-9a-f]{4})-)?[0-9a-f]{10}")
FINEST = 0xFFFF  # a confidence of 1


def weights_of(model_version: str) -> str | None:
    """The beginning of the name of the weights that a version of predictions means.

    Those are a project's own version, or the base checkpoint. None is somebody else's version.
    """
    match = _VERSION.fullmatch(model_version)
    return match[1] if match else None


def prompts_of(model_version: str) -> str | None:
    """The name of what was asked, in a version of predictions; None is somebody else's version."""
    match = _VERSION.fullmatch(model_version)
    return match[2] if match else None


def new_id(model_version: str, confidence: float | None = None) -> str:
    """A region's id that tells the weights, where the version does, and the confidence."""
    weights, number = weights_of(model_version), uuid.uuid4().hex[:10]
    if weights is None:
        return number
    if confidence is None:
        return f"{weights}-{number}"
    return f"{weights}-{round(min(1.0, max(0.0, confidence)) * FINEST):04x}-{number}"


def confidence_in(region_id: object) -> float | None:
    """The confidence that a region's id tells, in [0, 1], if it does."""
    match = _ID.fullmatch(region_id) if isinstance(region_id, str) else None
    return int(match[2], 16) / FINEST if match and match[2] else None


def weights_in(region_id: object) -> str | None:
    """The beginning of the name of the weights that a region's id tells, if it does."""
    match = _ID.fullmatch(region_id) if isinstance(region_id, str) else None
    return match[1] if match else None
