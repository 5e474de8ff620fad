"""What annotators have just typed, which no draft has yet.

The editor saves a draft five seconds after the last change, and sends what is drawn without what
was typed. So a task's texts are remembered here until a draft is newer, or half a minute is over:
a phrase counts for a rectangle that is drawn at once, no answer takes its place, and a number
chooses of the list that it was typed over.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from backend.labelstudio import offers
from backend.labelstudio.annotations import regions
from backend.labelstudio.config import LabelConfig
from backend.labelstudio.interaction import lists

log = logging.getLogger(__name__)

PREFIX = "promptbrush:typed:"
SECONDS = 30
LARGEST = 2**16  # characters of a task's texts, beyond which they are left to its drafts

Json = Mapping[str, Any]
Texts = Mapping[str, Sequence[Json]]  # regions by the name of their text area; none: it is empty


class Lately:
    """Texts by task, on the broker: the next request may reach another web process."""

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def texts(self, project: int | None, task: Mapping[str, Any]) -> Texts:
        """Those of a task as Label Studio sends it that are newer than all its drafts."""
        key = _key(project, task)
        if key is None:
            return {}
        try:
            raw: Any = self._connection.get(key)
        except RedisError:
            log.debug("what was typed lately is not known: the broker does not answer")
            return {}
        held: Json = json.loads(raw) if raw else {"at": 0, "texts": {}}
        saved = max(map(_saved, _drafts(task)), default=0.0)
        texts: Texts = held["texts"] if held["at"] > saved else {}
        return texts

    def keep(self, project: int | None, task: Mapping[str, Any], texts: Texts) -> None:
        """Remember a task's texts."""
        key = _key(project, task)
        held = json.dumps({"at": time.time(), "texts": texts})
        if key is None or not texts or len(held) > LARGEST:
            return
        try:
            self._connection.set(key, held, ex=SECONDS)
        except RedisError:
            log.debug("what was typed is not remembered: the broker does not answer")


def updated(task: Mapping[str, Any], texts: Texts) -> list[Json]:
    """A task's drafts, as they will be once texts that are newer are saved."""
    new = [region for area in texts.values() for region in area]
    drafts = _drafts(task) or [{}]
    return [
        {**draft, "result": [r for r in regions(draft) if r.get("from_name") not in texts] + new}
        for draft in drafts
    ]


def said(context: object, drafts: Sequence[Json], texts: Texts, config: LabelConfig) -> Texts:
    """The texts of an annotation once a request told them; one for what is drawn tells none."""
    told = regions(context) if isinstance(context, Mapping) else []
    if not any(region.get("type") == "textarea" for region in told):
        return texts
    before = [region for draft in drafts for region in regions(draft)]
    return {
        area.name: _over(_of(area.name, before), _of(area.name, told), config)
        for area in config.texts
    }


def answered(texts: Texts, result: Sequence[Json], config: LabelConfig) -> Texts:
    """The texts of an annotation once an answer's regions are in it."""
    names = {region["from_name"] for region in result if region["type"] == "textarea"}
    new = {name: _over(texts.get(name, ()), _of(name, result), config) for name in names}
    return {**texts, **new}


def _over(old: Sequence[Json], new: Sequence[Json], config: LabelConfig) -> list[Json]:
    """What a text area holds, after the list that this was written over, to choose of it again."""
    if offers.offered(lists(new, config)):
        return [*new]
    listed = [one for one in old if offers.offered(lists([one], config))]
    return [*listed[-1:], *new]


def _of(name: str, told: Sequence[Json]) -> list[Json]:
    return [one for one in told if one.get("type") == "textarea" and one.get("from_name") == name]


def _key(project: int | None, task: Mapping[str, Any]) -> str | None:
    """Where a task's texts are; None if nothing tells it from others."""
    number = task.get("id")
    return f"{PREFIX}{project}:{number}" if project and isinstance(number, int) else None


def _drafts(task: Mapping[str, Any]) -> list[Json]:
    drafts = task.get("drafts")
    return [one for one in drafts if isinstance(one, dict)] if isinstance(drafts, list) else []


def _saved(draft: Json) -> float:
    """When a draft was saved, in seconds of the epoch; 0 if it does not tell."""
    try:
        return datetime.fromisoformat(draft["updated_at"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return 0.0
