"""What answers under each address."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask, Response, jsonify, request
from flask.typing import ResponseReturnValue
from prometheus_client import CollectorRegistry, generate_latest
from redis.exceptions import RedisError
from werkzeug.exceptions import BadRequest as MalformedRequest
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from backend import __version__, metrics
from backend.backlog import Backlog
from backend.delivery import Answer, group_of
from backend.errors import (
    BackendError,
    BadRequest,
    DeadlineExceeded,
    NotReady,
    NowhereToPush,
    QueueUnavailable,
    Reported,
    RequestTooLarge,
)
from backend.inbox import Inbox
from backend.inference import booktext
from backend.inference.books import Books
from backend.labelstudio.config import LabelConfig
from backend.labelstudio.events import Event, Kind
from backend.labelstudio.tasks import Task, project_id
from backend.learning.predicted import Predicted
from backend.learning.versions import Versions
from backend.prompting import model_version, queries
from backend.queue import SUGGEST, PredictionQueue
from backend.settings import DEMOS, PUBLISHED, Settings
from backend.training import TrainingLane
from backend.web.lately import Lately
from backend.web.lineage import Lineages
from backend.web.payloads import PredictRequest, number, setup_request, suggestion_request
from backend.web.seats import Seats

log = logging.getLogger(__name__)

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a character: JSON may write one without the other


class Routes:
    """The endpoints that Label Studio, people and monitors call."""

    def __init__(
        self,
        settings: Settings,
        queue: PredictionQueue,
        inbox: Inbox,
        lane: TrainingLane,
        versions: Versions,
        lineages: Lineages,
        books: Books,
        predicted: Predicted,
        lately: Lately,
        seats: Seats,
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._inbox = inbox
        self._backlog = Backlog(inbox, settings.data_dir / "backlog")
        self._lane = lane
        self._versions = versions
        self._lineages = lineages
        self._books = books
        self._predicted = predicted
        self._lately = lately
        self._seats = seats
        self._stopping = stopping

    def register(self, app: Flask) -> None:
        """Add every endpoint to an application."""
        app.add_url_rule("/health", "health", self.health, methods=["GET"])
        app.add_url_rule("/setup", "setup", self.setup, methods=["POST"])
        app.add_url_rule("/predict", "predict", self.predict, methods=["POST"])
        app.add_url_rule("/prelabel", "prelabel", self.prelabel, methods=["POST"])
        app.add_url_rule("/prelabel", "prelabelled", self.prelabelled, methods=["GET"])
        app.add_url_rule("/versions", "versions", self.versions, methods=["GET"])
        app.add_url_rule("/prompts", "prompts", self.prompts, methods=["GET"])
        app.add_url_rule("/suggestions", "suggestions", self.suggestions, methods=["GET"])
        app.add_url_rule("/webhook", "webhook", self.webhook, methods=["POST"])
        app.add_url_rule("/train", "train", self.train, methods=["POST"])
        app.add_url_rule("/train", "stop_training", self.stop_training, methods=["DELETE"])
        app.add_url_rule("/jobs", "jobs", self.jobs, methods=["GET"])
        app.add_url_rule("/metrics", "metrics", self.metrics, methods=["GET"])

    def health(self) -> dict[str, Any]:
        """Up whenever this process answers; `ready` once a worker has its model."""
        try:
            workers, warnings, broker = self._queue.workers(), self._queue.warnings(), True
        except RedisError:
            workers, warnings, broker = [], [], False
        serving = workers[0] if workers else None
        answer: dict[str, Any] = {
            "status": "UP",
            "model_class": "promptbrush",
            "version": __version__,
            "ready": serving is not None,
            "broker": "UP" if broker else "DOWN",
            "warnings": warnings,
            "workers": len(workers),
            "checkpoint": serving.checkpoint if serving else self._settings.checkpoint,
        }
        if serving:
            answer |= {"model": serving.model, "device": serving.device}
        if answer["checkpoint"] in DEMOS:
            answer["notice"] = (
                "The demo checkpoint knows drawn shapes only. For photographs set "
                f"PROMPTBRUSH_CHECKPOINT={PUBLISHED}."
            )
        return answer

    def setup(self) -> ResponseReturnValue:
        """The version that predictions for this labeling configuration carry."""
        config, project = setup_request(_body())
        for problem in config.problems:
            log.warning("labeling configuration: %s", problem)
        return {"model_version": self._version(config, project)}

    def _version(self, config: LabelConfig, project: int | None) -> str | None:
        """The version of predictions; None while the first model is still loading."""
        worker = self._queue.serving()
        if worker is None:
            return None
        book = self._books.serving(project, worker.digest)
        asked = queries(config, self._settings.threshold, book)
        active = None if project is None else self._versions.active(project, worker.digest)
        return model_version(worker.model, worker.digest, asked, active.id if active else None)

    def predict(self) -> ResponseReturnValue:
        """Predictions for tasks, one entry each, before the deadline."""
        deadline = time.monotonic() + self._settings.predict_deadline
        asked = PredictRequest.from_json(_body(), self._lately)
        try:
            group = None if asked.interactive else self._group(asked)
            with self._seats.one():
                asking = self._queue.submit(
                    asked.jobs(),
                    # a single task is one that somebody opens
                    urgent=asked.interactive or len(asked.tasks) == 1,
                    deadline=self._settings.predict_deadline,
                    group=group,
                )
                answers = self._queue.wait(asking, deadline, self._stopping)
        except QueueUnavailable as error:
            if not asked.interactive:
                raise
            log.warning("%s", error)
            return {"results": asked.refusals(error)}  # an error would reach no annotator
        self._report_losses(asked, answers, group)
        results = asked.results(answers)
        asked.keep(results, self._lately)
        response = jsonify({"results": results})
        response.call_on_close(lambda: self._queue.finish(asking))
        response.call_on_close(lambda: self._remember(asked, results))
        return response

    def _remember(self, asked: PredictRequest, results: Sequence[Any]) -> None:
        """Keep what a project's tasks are answered with, where Label Studio cannot be asked."""
        if self._settings.pushes or asked.interactive or asked.project is None:
            return
        for task, entry in zip(asked.tasks, results, strict=True):
            if entry and isinstance(task, Task) and isinstance(task.id, int):
                self._predicted.keep(task.id, entry)

    def _group(self, asked: PredictRequest) -> str | None:
        """Which project and version late answers are pushed for; None if they cannot be."""
        if not self._settings.pushes or asked.project is None:
            return None
        return group_of(asked.project, self._version(asked.config, asked.project))

    def _report_losses(
        self, asked: PredictRequest, answers: Sequence[Answer | None], group: str | None
    ) -> None:
        """Say in the log and at `/jobs` which tasks no worker saw or finished, and why."""
        lost: list[tuple[object, BackendError]] = [
            (None, task) for task in asked.tasks if isinstance(task, BadRequest)
        ]
        late = [
            task.id
            for task, answer in zip(asked.readable(), answers, strict=False)
            if answer is None
        ]
        if group is None:
            told = f"Not ready within {self._settings.predict_deadline:g} s (PREDICT_DEADLINE)."
            if not asked.interactive:
                told += (
                    " With LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY set, such tasks go on and "
                    "their predictions are sent to Label Studio when they are done."
                )
            lost += [(task, DeadlineExceeded(told)) for task in late]
        elif late:
            log.info("project %s: %d tasks go on and are pushed", asked.project, len(late))
        for task, error in lost:
            log.warning("project %s, task %s: %s: %s", asked.project, task, error.name, error)
            self._queue.report(asked.project, task, error)

    def prelabel(self) -> ResponseReturnValue:
        """Take tasks into the background; their predictions are pushed when they are there."""
        asked = PredictRequest.from_json(_body())
        if not self._settings.pushes:
            raise NowhereToPush(
                "This backend cannot send predictions to Label Studio: set LABEL_STUDIO_URL and "
                "LABEL_STUDIO_API_KEY where it runs, and start it again."
            )
        strangers = [task for task in asked.readable() if not isinstance(task.id, int)]
        if asked.project is None or strangers or len(asked.readable()) < len(asked.tasks):
            raise BadRequest('The body needs "project" and tasks with their numbers and data.')
        version = self._version(asked.config, asked.project)
        if version is None:
            raise NotReady("No worker is ready yet: the model is loading.")
        self._queue.submit_background(asked.jobs(), group_of(asked.project, version))
        return {"model_version": version, "tasks": len(asked.tasks)}, 202

    def prelabelled(self) -> ResponseReturnValue:
        """How far a project is with a version: `?project=ID&version=NAME`."""
        project, version = number(request.args, "project"), request.args.get("version")
        if project is None or not version:
            raise BadRequest("The address needs ?project=ID&version=NAME.")
        return self._queue.progress(group_of(project, version))

    def versions(self) -> ResponseReturnValue:
        """What is served now, which names Label Studio lists; `?project=ID` for one's versions."""
        project = number(request.args, "project")
        if project is not None:
            worker = self._queue.serving()
            return {
                **self._versions.overview(project, worker.digest if worker else None),
                "accepted": self._lineages.accepted(project).to_json(),
            }
        return {
            "versions": sorted({f"{w.model}-{w.digest[:8]}" for w in self._queue.workers()}),
        }

    def prompts(self) -> ResponseReturnValue:
        """A project's prompt book, `?project=ID`, and how its versions came to be."""
        project = _project()
        book = self._books.book(project)
        history = [
            {"version": one.number, "at": one.note.at, "by": one.note.by}
            for one in self._books.history(project)
        ]
        return {"version": book.number, **booktext.written(book), "history": history}

    def suggestions(self) -> ResponseReturnValue:
        """Phrases for `?project=ID&label=NAME`, or in an image: `&task=ID`, `&image=URL`."""
        limit = self._settings.predict_deadline
        deadline = time.monotonic() + limit
        payload = suggestion_request(request.args)
        with self._seats.one():
            asking = self._queue.submit([payload], urgent=False, deadline=limit, kind=SUGGEST)
            (answer,) = self._queue.wait(asking, deadline, self._stopping)
        self._queue.finish(asking)
        if answer is None:
            raise DeadlineExceeded(f"No worker had phrases within {limit:g} s: try again later.")
        if "error" in answer:
            raise Reported(str(answer["error"]), str(answer["detail"]))
        return answer

    def webhook(self) -> ResponseReturnValue:
        """Acknowledge an event of Label Studio's at once; it is kept for learning.

        START_TRAINING asks for a training.
        """
        event = Event.from_json(_body())
        if event.kind is Kind.TRAIN:
            job = self._request(event.project)
            return {"status": "accepted", "action": event.action, "job": job}, 201
        told = "not known" if event.kind is Kind.OTHER else f"{len(event.saved)} annotations"
        log.info("project %s: event %s, %s", event.project, event.action, told)
        response = jsonify({"status": "accepted", "action": event.action})
        response.status_code = 201
        if event.kind is not Kind.OTHER:
            # Label Studio waits a second at most, and an annotator's Submit with it
            response.call_on_close(lambda: self._keep(event))
        return response

    def _keep(self, event: Event) -> None:
        try:
            self._backlog.add(event)
        except RecursionError:
            log.error("event %s is left out: what it holds nests too deep", event.action)

    def train(self) -> ResponseReturnValue:
        """Ask for a project's training: `{"project": ID}`; `/jobs` tells how far it is."""
        body = _body()
        project = project_id(body.get("project") if isinstance(body, dict) else None)
        return {"job": self._request(project), "project": project}, 202

    def _request(self, project: int | None) -> str:
        if project is None:
            raise BadRequest('The body needs "project", the number of a project.')
        job = self._lane.request(project)
        log.info("project %d: training is asked for: %s", project, job)
        return job

    def stop_training(self) -> dict[str, Any]:
        """Stop a project's training: `?project=ID`; `/jobs` says what is kept."""
        project = _project()
        return {"project": project, "stopped": self._lane.stop(project)}

    def jobs(self) -> dict[str, Any]:
        """What waits, runs, is pushed and ended, with reasons; `?project=ID` for one project."""
        project = number(request.args, "project")
        return {
            **self._queue.jobs(project),
            "events": self._inbox.counts(),
            "training": self._lane.overview(project),
        }

    def metrics(self) -> ResponseReturnValue:
        """Counters and gauges in Prometheus' text form."""
        queue = self._queue
        gauges = (
            ("queue_depth", "Tasks that wait.", queue.depth()),
            ("tasks_running", "Tasks that a worker holds.", queue.running()),
            ("workers", "Workers that are alive and ready.", len(queue.workers())),
        )
        registry = CollectorRegistry()
        registry.register(metrics.Collector(queue.connection, gauges))
        return Response(generate_latest(registry), content_type=PROMETHEUS)


def _project() -> int:
    """The project that an address has to name."""
    project = number(request.args, "project")
    if project is None:
        raise BadRequest("The address needs ?project=ID.")
    return project


def _body() -> Any:
    """The request's JSON, whatever its content type says.

    Half a character, which nothing behind can write, is the sign for what was not readable.
    """
    try:
        request.get_data()
        request.stream.read()  # which raises where a body without a length was cut at the limit
        body = request.get_json(force=True)
    except (OSError, ClientDisconnected):
        raise BadRequest("The body did not come whole.") from None
    except MalformedRequest:
        raise BadRequest("The body is not valid JSON.") from None
    except RequestEntityTooLarge:
        most = (request.max_content_length or 0) // 2**20
        raise RequestTooLarge(
            f"The body has more than {most} MB (REQUEST_MAX_MB): send fewer tasks at once, as "
            "promptbrush prelabel does."
        ) from None
    if _HALF.search(request.get_data()):
        text = json.dumps(body, ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    return body
