"""Label Studio's JSON to what the queue takes, and the queue's answers to Label Studio's JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backend.errors import BackendError, BadRequest
from backend.labelstudio import offers
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.interaction import Interaction, note_of, remarks
from backend.labelstudio.regions import prediction
from backend.labelstudio.tasks import Task, checked_id, project_id
from backend.web.lately import Lately, Texts, answered, said, updated


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A `/predict` body, checked."""

    tasks: tuple[Task | BadRequest, ...]
    label_config: str
    config: LabelConfig
    project: int | None
    interaction: Interaction | None  # what an annotator asks; None for a batch
    asking: Mapping[str, Any] = field(default_factory=dict)  # the annotator's task, as it came
    texts: Texts = field(default_factory=dict)  # of its annotation, as far as they are known

    @classmethod
    def from_json(cls, raw: object, lately: Lately | None = None) -> PredictRequest:
        """Read a body; a task that cannot be read keeps its place, with the reason.

        An annotator's request is understood with what was typed `lately`.

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
        readable, project = tuple(_task(task) for task in tasks), project_id(body.get("project"))
        if context is None:
            return cls(readable, xml, config, project, None)
        asking = tasks[0] if tasks and isinstance(tasks[0], Mapping) else {}
        newer = lately.texts(project, asking) if lately else {}
        drafts = updated(asking, newer)
        interaction = Interaction.read(context, drafts, config)
        texts = said(context, drafts, newer, config)
        return cls(readable, xml, config, project, interaction, asking, texts)

    @property
    def interactive(self) -> bool:
        """Whether an annotator waits for the answer."""
        return self.interaction is not None

    @property
    def nothing_asked(self) -> bool:
        """Whether an annotator's request holds nothing to look for."""
        return self.interaction is not None and not self.interaction.asks

    def jobs(self) -> list[dict[str, Any]]:
        """What goes on the queue: one payload per readable task, in order."""
        if self.nothing_asked:
            return []
        asked = self.interaction.to_json() if self.interaction else None
        return [
            {
                "task": {"id": task.id, "data": dict(task.data)},
                "label_config": self.label_config,
                "project": self.project,
                "interaction": asked,
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
            answer: Mapping[str, Any] | None
            if isinstance(task, Task):
                answer = next(given, None)
            else:
                answer = {"error": task.name, "detail": str(task)}
            entry: Any = []
            if answer is not None and "error" not in answer:
                entry = prediction(answer, self.config, task.id if isinstance(task, Task) else None)
            if self.interaction:
                entry = entry or {"result": [], "score": 0.0}
                entry["result"] += self._remarks(self.interaction, entry, answer)
            entries.append(entry)
        return entries

    def keep(self, results: Sequence[Any], lately: Lately) -> None:
        """Remember the texts that an annotator sees, once the answers are there."""
        for entry in results[:1] if self.interaction else ():
            texts = answered(self.texts, entry["result"], self.config)
            lately.keep(self.project, self.asking, texts)

    def refusals(self, error: BackendError) -> list[Any]:
        """One entry per task where none could be worked on."""
        return self.results([{"error": error.name, "detail": str(error)}] * len(self.tasks))

    def _remarks(
        self,
        interaction: Interaction,
        entry: Mapping[str, Any],
        answer: Mapping[str, Any] | None,
    ) -> list[dict[str, Any]]:
        """How it went, for the annotator, who sees nothing of an error."""
        if not interaction.asks:
            return []
        if answer is None:
            return remarks(interaction, self.config, "not ready in time: ask again", failed=True)
        words = answer["detail"] if "error" in answer else answer["remark"]
        phrases = answer.get("phrases")
        if phrases:
            filled = offers.regions(phrases, self.config)
            listed = offers.BETWEEN.join(offers.listed(phrases))
            # in the prompt itself a list is marked as ours, as what went wrong is
            unnoted = note_of(self.config) is None
            return filled or remarks(interaction, self.config, listed, failed=unnoted)
        return remarks(interaction, self.config, words, failed=not entry["result"])


def suggestion_request(told: Mapping[str, str]) -> dict[str, Any]:
    """What goes on the queue for who asks for phrases in an address.

    Raises:
        BadRequest: it names neither a project nor an image, or no number where one is needed.
    """
    project, task = number(told, "project"), number(told, "task")
    label, image = told.get("label") or None, told.get("image") or None
    if project is None and (image is None or label or task is not None):
        raise BadRequest("The address needs ?project=ID, with &label=NAME, &task=ID or &image=URL.")
    return {"project": project, "task": {"id": task}, "label": label, "image": image}


def number(told: Mapping[str, str], name: str) -> int | None:
    """The number that an address tells under a name; None where it tells nothing.

    Raises:
        BadRequest: it is none, or beyond all ids.
    """
    text = told.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and text.strip("0")):
        raise BadRequest(f'"{name}" is a whole number from 1, not "{text[:40]}".')
    return checked_id(name, text)


def setup_request(raw: object) -> tuple[LabelConfig, int | None]:
    """The labeling configuration of a `/setup` body, and its project if it names one.

    Raises:
        BadRequest: it is not an object, or lacks the configuration.
        BadLabelConfig: the labeling configuration cannot be used.
    """
    body = _object(raw)
    schema = body.get("schema")
    if not isinstance(schema, str):
        raise BadRequest('The body needs "schema", the labeling configuration as text.')
    return parse_label_config(schema), project_id(body.get("project"))


def _task(raw: object) -> Task | BadRequest:
    try:
        return Task.from_json(raw)
    except BadRequest as error:
        return error


def _object(raw: object) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise BadRequest("The body must be a JSON object.")
    return raw
