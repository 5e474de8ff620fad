"""What Label Studio sends to be labeled."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import BadRequest, ImageMissing

_PROJECT = re.compile(r"([0-9]{1,18})(\..*)?", re.DOTALL)


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

    Raises:
        ImageMissing: The task has no such field, or nothing in it.
        BadRequest: The field holds something else than text.
    """
    url = task.data.get(key)
    if url is None or url == "":
        fields = ", ".join(str(name) for name in task.data) or "nothing"
        raise ImageMissing(
            f'task {task.id} has no "{key}", which the labeling configuration shows as the image; '
            f"its data holds {fields}"
        )
    if not isinstance(url, str):
        raise BadRequest(f'"{key}" of task {task.id} is {type(url).__name__}, not an image URL')
    return url


def project_id(raw: object) -> int | None:
    """The number of a project; Label Studio writes "{id}.{when it was created}"."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw if 0 < raw < 10**18 else None
    match = _PROJECT.fullmatch(raw) if isinstance(raw, str) else None
    return int(match[1]) if match else None
