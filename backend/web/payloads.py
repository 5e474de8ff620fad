"""Label Studio's JSON to what the queue takes, and the queue's answers to Label Studio's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.errors import BadRequest
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.regions import prediction
from backend.labelstudio.tasks import Task, project_id, typed_prompt

# The longest prompt a text encoder could read has 75 tokens; this leaves room for any language.
LONGEST_PROMPT = 500


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A `/predict` body, checked."""

    tasks: tuple[Task | BadRequest, ...]
    label_config: str
    config: LabelConfig
    project: int | None
    interactive: bool
    prompt: str | None

    @classmethod
    def from_json(cls, raw: object) -> PredictRequest:
        """Read a body; a task that cannot be read keeps its place, with the reason.

        Raises:
            BadRequest: it is not an object, or lacks tasks.
            BadLabelConfig: the labeling configuration cannot be used.
        """
        body = _object(raw)
        tasks = body.get("tasks")
        if not isinstance(tasks, list):
            raise BadRequest('The body needs "tasks", a list of Label Studio tasks.')
        xml = body.get("label_config")
        if not isinstance(xml, str):
            raise BadRequest('The body needs "label_config", the labeling configuration as text.')
        config = parse_label_config(xml)
        params = body.get("params")
        context = params.get("context") if isinstance(params, Mapping) else None
        prompt = typed_prompt(context, config.texts)
        if prompt is not None and len(prompt) > LONGEST_PROMPT:
            raise BadRequest(
                f"The prompt has {len(prompt)} characters; at most {LONGEST_PROMPT} are read: "
                "shorten it."
            )
        return cls(
            tuple(_task(task) for task in tasks),
            xml,
            config,
            project_id(body.get("project")),
            context is not None,
            prompt,
        )

    def jobs(self) -> list[dict[str, Any]]:
        """What goes on the queue: one payload per readable task, in order."""
        return [
            {
                "task": {"id": task.id, "data": dict(task.data)},
                "label_config": self.label_config,
                "project": self.project,
                "prompt": self.prompt,
            }
            for task in self.readable()
        ]

    def readable(self) -> list[Task]:
        """The tasks that `jobs` holds, in its order."""
        return [task for task in self.tasks if isinstance(task, Task)]

    def results(self, answers: Sequence[Mapping[str, Any] | None]) -> list[Any]:
        """One entry per task: its prediction, or `[]`, which is never saved and so asked again.

        An interactive request must be answered with an object, or the editor shows nothing.
        """
        given = iter(answers)
        entries: list[Any] = []
        for task in self.tasks:
            answer = next(given, None) if isinstance(task, Task) else None
            if isinstance(task, Task) and answer is not None and "error" not in answer:
                entries.append(prediction(answer, self.config, task.id))
            else:
                entries.append({"result": [], "score": 0.0} if self.interactive else [])
        return entries


def setup_schema(raw: object) -> LabelConfig:
    """The labeling configuration of a `/setup` body; BadRequest or BadLabelConfig if none."""
    schema = _object(raw).get("schema")
    if not isinstance(schema, str):
        raise BadRequest('The body needs "schema", the labeling configuration as text.')
    return parse_label_config(schema)


def _task(raw: object) -> Task | BadRequest:
    try:
        return Task.from_json(raw)
    except BadRequest as error:
        return error


def _object(raw: object) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise BadRequest("The body must be a JSON object.")
    return raw
