"""What this backend predicted, by task: what annotations began with, without an API key.

Label Studio keeps the ids of regions, so that any region that is left of a prediction tells which
one it was. Where an annotator deleted them all, or there were none, it was the newest, provided
that the task's predictions are all of one version and nothing that others predicted is there.

Any process that shares `MODEL_DIR` may keep and ask. The folder is bounded, the least recently used
go first, and what is gone or damaged is not known: that costs a figure, never an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

from backend.diskcache import DiskCache
from backend.labelstudio.annotations import regions
from backend.labelstudio.events import packed
from backend.labelstudio.origin import weights_in
from backend.settings import Settings

FOLDER = "predicted"  # in MODEL_DIR
MOST = 3  # predictions of a task, the newest

Json = dict[str, Any]


class Predicted:
    """Predictions by the ids of their tasks."""

    def __init__(self, kept: DiskCache) -> None:
        self._kept = kept

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Where the settings say."""
        return cls(DiskCache(settings.model_dir / FOLDER, settings.annotation_cache_mb * 2**20))

    def keep(self, task: int, prediction: Mapping[str, Any]) -> None:
        """Remember what a task was answered with, as Label Studio takes it."""
        result = [packed(region) for region in prediction["result"]]
        newest = [{**prediction, "result": result}, *self._of(task)][:MOST]
        self._kept.put(str(task), json.dumps(newest).encode())

    def began_with(self, task: int, annotation: Mapping[str, Any]) -> Json | None:
        """The prediction that a task's annotation began with, masks as base64; None if not known.

        Whether it began with one at all, Label Studio tells in `parent_prediction`.
        """
        newest = self._of(task)
        if annotation.get("parent_prediction") is None or not newest:
            return None
        result = regions(annotation)
        ids = {name for region in result if isinstance(name := region.get("id"), str)}
        left = [sum(region["id"] in ids for region in one["result"]) for one in newest]
        if any(left):
            return newest[left.index(max(left))]
        foreign = any(
            str(region.get("origin")).startswith("prediction") and not weights_in(region.get("id"))
            for region in result
        )
        versions = {one["model_version"] for one in newest}
        return newest[0] if len(versions) == 1 and not foreign else None

    def _of(self, task: int) -> list[Json]:
        """The task's predictions, newest first."""
        held = self._kept.get(str(task))
        found: list[Json] = json.loads(held) if held else []
        return found
