"""Which weights predicted a region: its id tells, even where nothing else of a prediction is left.

Label Studio keeps the ids that it is sent, through an annotator's changes too. Without an API key
that is all there is to know a prediction by, since webhooks carry annotations and no predictions.
"""

from __future__ import annotations

import re
import uuid

_VERSION = re.compile(r".+-([0-9a-f]{8})-[0-9a-f]{8}")  # see `prompting.model_version`
_ID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{10}")


def weights_of(model_version: str) -> str | None:
    """The beginning of the name of the weights that a version of predictions means.

    Those are a project's own version, or the base checkpoint. None is somebody else's version.
    """
    match = _VERSION.fullmatch(model_version)
    return match[1] if match else None


def new_id(model_version: str) -> str:
    """A region's id that tells the weights, where the version does."""
    weights, number = weights_of(model_version), uuid.uuid4().hex[:10]
    return f"{weights}-{number}" if weights else number


def weights_in(region_id: object) -> str | None:
    """The beginning of the name of the weights that a region's id tells, if it does."""
    match = _ID.fullmatch(region_id) if isinstance(region_id, str) else None
    return match[1] if match else None
