"""What Label Studio sends to be labeled."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import BadRequest, ImageMissing

LAST_ID = 2**63 - 1  # what databases number their rows up to
FIELDS = re.compile(r"\$([\w\[\].{}]+)")  # named in a text, as the editor finds them

# Schemes of what lies in a storage that Label Studio has the keys of.
CLOUD = {"s3", "s3a", "s3s", "gs", "azure-blob", "azure-spi", "r2"}

_PROJECT = re.compile(r"([0-9]+)(\..*)?", re.DOTALL)
_STEPS = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True, slots=True)
class Task:
    """A task's id and data. Its annotations and predictions can be megabytes and are dropped."""

    id: int | str | None
    data: Mapping[str, Any]

    @classmethod
    def from_json(cls, raw: object) -> Self:
        """Keep id and data of a task as a request carries it.

        Raises:
            BadRequest: It is no object, or holds no data.
        """
        if not isinstance(raw, Mapping):
            raise BadRequest(f"a task is a JSON object, not {type(raw).__name__}")
        task_id = raw.get("id")
        if not isinstance(task_id, int | str | None):
            raise BadRequest(f"a task's id is a number or text, not {type(task_id).__name__}")
        data = raw.get("data")
        if not isinstance(data, Mapping):
            raise BadRequest(
                f"task {task_id} has no data: an object such as "
                '{"image": "https://..."} is expected under "data"'
            )
        return cls(task_id, data)


def image_url(task: Task, key: str) -> str:
    """The URL that `<Image value="$key">` shows for this task.

    The key may lead into a field, as in "product.photos[0]", or be an address that names some, as
    in "https://host/$name". Label Studio sends an address of cloud storage as it is; its editor
    shows what Label Studio passes on, or signs, for that task, and so does this.

    Raises:
        ImageMissing: The task has no such field, or nothing in it.
        BadRequest: The field holds something else than text.
    """
    url = _field(task, key)
    if _is_blank(url):
        filled = (str(name) for name, held in task.data.items() if not _is_blank(held))
        fields = ", ".join(filled) or "nothing"
        raise ImageMissing(
            f'task {task.id} has no "{key}", which the labeling configuration shows as the image; '
            f"its data holds {fields}"
        )
    if not isinstance(url, str):
        raise BadRequest(f'"{key}" of task {task.id} is {type(url).__name__}, not an image URL')
    if url.strip().partition("://")[0] in CLOUD and isinstance(task.id, int):
        named = urlsafe_b64encode(url.strip().encode(errors="replace")).decode()
        return f"/tasks/{task.id}/resolve/?fileuri={named}"
    return url


def image_keys(task: Task, shown: Iterable[str]) -> tuple[str, ...]:
    """Of the fields that a configuration shows as images those that hold one, each once.

    All of them where none does, so that what is missing is told.
    """
    keys = tuple(dict.fromkeys(shown))
    return tuple(key for key in keys if not _is_blank(_field(task, key))) or keys


def _field(task: Task, key: str) -> Any:
    """The field of that name, what is at the end of such a path, or a text with such in it.

    All as the editor has it, but that a text in which something is missing is none.
    """
    held: Any = task.data
    if key in task.data:
        return held[key]
    if "$" in key:
        named = [_field(task, name) for name in FIELDS.findall(key)]
        filled = iter(named)
        missing = any(_is_blank(one) for one in named)
        return None if missing else FIELDS.sub(lambda _: str(next(filled)), key)
    for name in _STEPS.findall(key):
        if isinstance(held, list):
            held = {str(place): one for place, one in enumerate(held)}
        held = held.get(name) if isinstance(held, Mapping) else None
    return held


def _is_blank(held: object) -> bool:
    return held is None or (isinstance(held, str) and not held.strip())


def project_id(raw: object) -> int | None:
    """The number of a project; Label Studio writes "{id}.{when it was created}".

    Raises:
        BadRequest: it is beyond all ids.
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        return checked_id("project", str(raw)) if raw > 0 else None
    match = _PROJECT.fullmatch(raw) if isinstance(raw, str) else None
    return checked_id("project", match[1]) or None if match else None


def checked_id(name: str, digits: str) -> int:
    """The id that digits write; what holds it is told by its name.

    Raises:
        BadRequest: it is beyond all ids.
    """
    counting = digits.lstrip("0") or "0"
    if len(counting) > len(str(LAST_ID)) or int(counting) > LAST_ID:  # int refuses long texts
        raise BadRequest(f'"{name}" is at most {LAST_ID}, not {counting[:40]}.')
    return int(counting)
