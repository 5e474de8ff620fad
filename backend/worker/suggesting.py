"""The worker's answers to who asks for phrases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from backend.delivery import Answer
from backend.errors import BadRequest
from backend.inference.books import Books
from backend.inference.failures import failure
from backend.inference.offering import of_image
from backend.inference.pipeline import Served
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore
from backend.labelstudio.tasks import Task, image_keys, image_url
from backend.learning.commands import accepted_in_studio
from backend.learning.pulled import Pulled
from backend.learning.source import studio_of
from backend.learning.suggestions import chosen, from_accepted, from_image
from backend.prompting import Query, queries
from backend.settings import Settings

MOST = 20  # phrases that are told
SECONDS = 20.0  # after which no further phrases are thought of: others wait for this worker


class Suggester:
    """Phrases for a project's labels, for an image, or for a label in an image."""

    def __init__(
        self,
        settings: Settings,
        serving: Callable[[int | None], Served],
        images: ImageStore,
        vocabulary: Vocabulary,
    ) -> None:
        self._settings = settings
        self._serving = serving
        self._images = images
        self._vocabulary = vocabulary
        self._books = Books(settings.model_dir)
        self._studio = studio_of(settings)

    def answer(self, payloads: Sequence[Answer]) -> list[tuple[Answer, float]]:
        """One answer per payload, in order, with the seconds that it took."""
        answers = []
        until = self._images.latest()  # for all of them: others wait for this worker
        for payload in payloads:
            start = time.perf_counter()
            answers.append((self._guarded(payload, until), time.perf_counter() - start))
        return answers

    def _guarded(self, payload: Answer, until: float) -> Answer:
        try:
            return self._suggest(payload, until)
        except Exception as error:
            told = failure(error)
            return {"error": told.name, "detail": str(told)}

    def _suggest(self, payload: Mapping[str, Any], until: float) -> Answer:
        project, label, url = payload["project"], payload["label"], payload["image"]
        task, threshold = payload["task"]["id"], self._settings.threshold
        served, words = self._serving(project), self._vocabulary
        predictor, asked = served.predictor, tuple[Query, ...]()
        book = self._books.serving(project, served.digest)
        if project is not None:
            config = parse_label_config(self._studio.project(project)["label_config"])
            asked = queries(config, threshold, book)
        wanted = chosen(asked, label)
        if project is not None and task is not None:
            shown = [query.image_key for query in asked if label in (None, query.label)]
            url = self._shown(project, task, shown)
        if url is None:
            source = accepted_in_studio(self._settings, self._studio, int(project)).source
            found = from_accepted(predictor, source, wanted, words, book, SECONDS)
            return {"labels": [one.to_json(MOST) for one in found]}
        image = self._images.fetch(url, until)
        if label is None:
            seen = of_image(predictor, image, asked, (), words, threshold)
            return {"image": [asdict(one) for one in seen[:MOST]]}
        found = [from_image(predictor, image, wanted[label], words, book)]
        return {"labels": [one.to_json(MOST) for one in found]}

    def _shown(self, project: int, task: int, keys: Sequence[str]) -> str:
        """The URL of a task's image, the first that it has in some fields."""
        if not isinstance(self._studio, Pulled):
            raise BadRequest(
                "Tasks are not known without LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY: name the "
                "image's address instead, ?image=URL."
            )
        for found in self._studio.api.tasks(project, ids=[task]):
            known = Task(task, found["data"])
            return image_url(known, image_keys(known, keys)[0])
        raise BadRequest(f"Project {project} has no task {task}.")
