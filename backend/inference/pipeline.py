"""The work on tasks: fetch, encode, prompt, draw; several tasks at once as one model batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from backend.errors import BackendError, OutOfMemory
from backend.inference import interactive
from backend.inference.clusters import Description
from backend.inference.failures import failure, make_room
from backend.inference.forms import shapes
from backend.inference.interactive import Offered
from backend.inference.predictor import Found, Predictor
from backend.inference.promptbook import PromptBook
from backend.inference.scores import CONFIDENCES, Scores
from backend.inference.vocabulary import NO_WORDS, Vocabulary
from backend.labelstudio import offers
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.images import ImageStore, TaskImage
from backend.labelstudio.interaction import Interaction, prompt_of
from backend.labelstudio.tasks import Task, image_keys, image_url
from backend.prompting import Query, model_version, queries
from models import ImageFeatures

log = logging.getLogger(__name__)

FETCHES = 8  # images of a batch fetched side by side; the network is what they wait for

Answer = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """One task to work on, as it comes from the queue."""

    task: Task
    config: LabelConfig
    interaction: Interaction | None  # what an annotator asks; None for a pre-annotation
    project: int | None = None

    @classmethod
    def from_payload(cls, payload: Answer) -> Job:
        """Read a job's payload; raises what a bad task or configuration raises."""
        interaction = payload.get("interaction")
        return cls(
            Task.from_json(payload.get("task")),
            parse_label_config(str(payload.get("label_config"))),
            None if interaction is None else Interaction.from_json(interaction),
            payload.get("project"),
        )

    def image_keys(self) -> tuple[str, ...]:
        """The fields of the task's data that hold the images to work on.

        Of several images those that the task has, and of an annotator's shapes the one they are on.
        """
        controls = self.config.outputs
        if self.interaction:
            on = self.interaction.to_name
            controls = tuple(one for one in controls if one.to_name == on) or controls
        return image_keys(self.task, (control.image_key for control in controls))

    def nearest_first(self, asked: Sequence[Query]) -> tuple[Query, ...]:
        """Queries in their order, but first those of the image that an annotator asks about."""
        if self.interaction is None:
            return tuple(asked)
        prompt = prompt_of(self.config)
        on = self.interaction.to_name or (prompt.to_name if prompt else None)
        return tuple(sorted(asked, key=lambda query: on not in query.pictured))


@dataclass(frozen=True, slots=True)
class Served:
    """What a project is answered with."""

    predictor: Predictor
    model: str
    digest: str  # of the base checkpoint
    version: str | None = None  # of the project's own weights; None for the base checkpoint
    scores: Scores = CONFIDENCES

    @property
    def encoder(self) -> str:
        """Names what its images are encoded by."""
        return f"{self.digest} {self.predictor.encoder}"


Content = tuple[Job, Served, PromptBook, dict[str, TaskImage]]
Encoded = Mapping[Predictor, Mapping[str, ImageFeatures]]


class Pipeline:
    """Payloads in, answers out; a failure stays with its task.

    An answer is `{"regions": [...], "score": s, "model_version": v, "seconds": {...}}`, where
    regions are shapes that `labelstudio.regions` completes, or `{"error": name, "detail": text}`.
    Its seconds are those spent to `fetch` and `encode` the images and to `draw` the masks; of a
    batch's encoding each task has an equal share. The answer to an annotator has a "remark" too:
    how it went, in words; and "phrases", if that is what was asked for. A pre-annotation has the
    "cluster" of its image, once the project's are known.
    """

    def __init__(
        self,
        serving: Callable[[int | None], Served],
        images: ImageStore,
        *,
        threshold: float,
        books: Callable[[int | None, str], PromptBook] = lambda *_: PromptBook(),
        vocabulary: Vocabulary = NO_WORDS,
        scores: Callable[[int | None], Scores] = lambda _: CONFIDENCES,
        clusters: Callable[[int | None, str, str, Description], int | None] = lambda *_: None,
    ) -> None:
        """Answer each project with what `serving` says, asked right before its tasks.

        So are `books`, for what the labels of a project are asked with, by a base checkpoint, and
        `scores`, for what its confidences mean, and `clusters`, as in `Clusters.of`, after them.
        Phrases of the vocabulary are offered to annotators.
        """
        self._clusters = clusters
        self._vocabulary = vocabulary
        self._scores = scores
        self._serving = serving
        self._books = books
        self._images = images
        self._threshold = threshold

    def answer(self, payloads: Sequence[Answer]) -> list[tuple[Answer, float]]:
        """One answer per payload, in order, with the seconds that it took."""
        served = [_guarded(partial(self._serves, one.get("project"))) for one in payloads]
        # together they may take as long as one: others wait for this worker
        fetch = partial(self._fetch, until=self._images.latest())
        if len(payloads) == 1:
            fetched = [fetch(payloads[0], served[0])]
        else:
            with ThreadPoolExecutor(FETCHES) as pool:
                fetched = list(pool.map(fetch, payloads, served))
        start = time.perf_counter()
        together: dict[Predictor, list[TaskImage]] = {}
        for one in fetched:
            for predictor, image in one.images():
                together.setdefault(predictor, []).append(image)
        encoded = {
            predictor: self._encode_together(predictor, images)
            for predictor, images in together.items()
        }
        share = (time.perf_counter() - start) / max(1, len(fetched))
        return [self._finish(one, encoded, share) for one in fetched]

    def _serves(self, project: int | None) -> tuple[Served, PromptBook]:
        served = replace(self._serving(project), scores=self._scores(project))
        return served, self._books(project, served.digest)

    def _fetch(
        self,
        payload: Answer,
        serves: tuple[Served, PromptBook] | BackendError,
        until: float,
    ) -> _Fetched:
        start = time.perf_counter()

        def work() -> Content:
            if isinstance(serves, BackendError):
                raise serves
            job = Job.from_payload(payload)
            keys = job.image_keys()
            images = {key: self._images.fetch(image_url(job.task, key), until) for key in keys}
            return job, *serves, images

        return _Fetched(_guarded(work), time.perf_counter() - start)

    def _encode_together(
        self, predictor: Predictor, images: Sequence[TaskImage]
    ) -> dict[str, ImageFeatures]:
        """Features by digest, in one batch; if that fails, each task meets its own failure."""
        try:
            features = predictor.encode([(one.digest, one.image) for one in images])
        except Exception as error:
            # out of memory, or one image that the model cannot take
            log.warning("a batch of %d images failed (%s); going one by one", len(images), error)
            return {}
        return {one.digest: kept for one, kept in zip(images, features, strict=True)}

    def _finish(self, fetched: _Fetched, encoded: Encoded, encoding: float) -> tuple[Answer, float]:
        start = time.perf_counter()
        result = _guarded(lambda: self._find(fetched, encoded))
        seconds = {
            "fetch": fetched.seconds,
            "encode": encoding,
            "draw": time.perf_counter() - start,
        }
        if isinstance(result, OutOfMemory):
            make_room()  # now that the failure holds no tensors any more
        if isinstance(result, BackendError):
            return {"error": result.name, "detail": str(result)}, sum(seconds.values())
        return {**result, "seconds": seconds}, sum(seconds.values())

    def _find(self, fetched: _Fetched, encoded: Encoded) -> Answer:
        job, served, book, images = fetched.content()
        predictor = served.predictor
        asked = queries(job.config, self._threshold, book)
        version = model_version(served.model, served.digest, asked, served.version)
        asked = job.nearest_first([query for query in asked if query.image_key in images])
        cluster = remark = None
        about = job.interaction.wonders if job.interaction else None
        if about is not None:
            choices = offers.words(job.config)
            offered = interactive.offer(
                predictor, asked, images, about, choices, self._vocabulary, book
            )
            return _offered(offered, version)
        if job.interaction is None:
            # what the batch could not encode meets its own failure here
            batch = encoded.get(predictor, {})
            features = {
                key: batch.get(one.digest) or predictor.encode([(one.digest, one.image)])[0]
                for key, one in images.items()
            }
            found, refused = _prelabel(predictor, features, asked)
            key, image = next(iter(images.items()))
            described = predictor.describe(features[key])
            cluster = self._clusters(job.project, served.encoder, image.digest, described)
        else:
            refused = {}
            one = interactive.answer(predictor, asked, images, job.interaction)
            found, remark = iter([one]), _remark(one, served.scores)
        regions: list[Answer] = []
        certainties: list[float] = []
        for one in found:
            regions += shapes(one, served.scores)
            certainties.append(_certainty(one, served.scores))
        answer = {
            "regions": regions,
            "score": sum(certainties) / max(1, len(certainties)),
            "model_version": version,
        }
        if refused:
            answer["refused"] = refused
        if cluster is not None:
            answer["cluster"] = cluster
        if remark is not None:
            answer["remark"] = remark
        return answer


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A task with its images, or why there is none, and the seconds that it took."""

    outcome: Content | BackendError
    seconds: float

    def content(self) -> Content:
        """The task, what answers it, with which book, its images; raises what kept them away."""
        if isinstance(self.outcome, BackendError):
            raise self.outcome
        return self.outcome

    def images(self) -> list[tuple[Predictor, TaskImage]]:
        """The images to encode, and by what; an annotator's request decides that by itself."""
        if isinstance(self.outcome, BackendError) or self.outcome[0].interaction:
            return []
        _, served, _, images = self.outcome
        return [(served.predictor, image) for image in images.values()]


def _prelabel(
    predictor: Predictor, features: Mapping[str, ImageFeatures], asked: Sequence[Query]
) -> tuple[Iterator[Found], dict[str, str]]:
    """Every label's mask on its image, one by one; why others could not be asked, by label."""
    askings, refused = predictor.askings(asked)
    found = (
        one
        for key, seen in features.items()
        for one in predictor.finding(
            seen, {query: one for query, one in askings.items() if query.image_key == key}
        )
    )
    return found, refused


def _offered(phrases: Sequence[Offered], version: str) -> Answer:
    """Phrases for an annotator."""
    return {
        "regions": [],
        "score": 0.0,
        "model_version": version,
        "remark": f"{len(phrases)} phrases find something" if phrases else "no word finds anything",
        "phrases": [asdict(one) for one in phrases],
    }


def _certainty(found: Found, scores: Scores) -> float:
    """How sure an answer is, in [0, 1]; that nothing was found is judged by confidence."""
    return found.certainty if found.mask is None else scores.of(found.score)


def _remark(found: Found, scores: Scores) -> str:
    """How an annotator's request went, in words."""
    if found.mask is None:
        return f"{found.query.label}: nothing found"
    return f"{found.query.label}: found, score {scores.of(found.score):.2f}"


def _guarded(work: Callable[[], T]) -> T | BackendError:
    """The result, or the error to answer with."""
    try:
        return work()
    except Exception as error:
        return failure(error)
