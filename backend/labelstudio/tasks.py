"""What Label Studio sends to be labeled."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from backend.errors import BadRequest, ImageMissing
from backend.labelstudio.config import TextControl

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
        return raw
    match = _PROJECT.fullmatch(raw) if isinstance(raw, str) else None
    return int(match[1]) if match else None


def typed_prompt(context: object, texts: tuple[TextControl, ...]) -> str | None:
    """The newest text in the prompt's own text area, if a person has typed one.

    All text areas and choices of an annotation come together, in no useful order, so the name
    decides: the smart text area called "prompt", else the first smart one.

    Args:
        context: `params.context` of an interactive request, or None.
        texts: The text areas of the labeling configuration.
    """
    smart = [text.name for text in texts if text.smart]
    if not smart:
        return None
    name = "prompt" if "prompt" in smart else smart[0]
    prompts = [text for region in _regions(context) for text in _texts(region, name)]
    return prompts[-1] if prompts else None


def _regions(context: object) -> list[Mapping[str, Any]]:
    regions = context.get("result") if isinstance(context, Mapping) else None
    if not isinstance(regions, list):
        return []
    return [region for region in regions if isinstance(region, Mapping)]


def _texts(region: Mapping[str, Any], name: str) -> list[str]:
    """What the text area of that name holds, oldest first, without blanks."""
    if region.get("type") != "textarea" or region.get("from_name") != name:
        return []
    value = region.get("value")
    typed = value.get("text") if isinstance(value, Mapping) else None
    lines = typed if isinstance(typed, list) else [typed]
    return [line.strip() for line in lines if isinstance(line, str) and line.strip()]
