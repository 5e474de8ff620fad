"""As much of Label Studio as promptbrush talks to, kept in memory and served over HTTP.

It does what the real one (1.23) was seen to do, its oddities included; the tests in tests/e2e ask
the real one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.serving import make_server

TOKEN = "0123456789abcdef0123456789abcdef01234567"
BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"

LABEL_CONFIG = """
<View>
  <TextArea name="prompt" toName="image"/>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="RedCar"/>
    <Label value="Animal" predicted_values="a dog, a cat"/>
  </BrushLabels>
</View>
"""

Json = dict[str, Any]


class FakeLabelStudio:
    """Projects, tasks, predictions, connections and webhooks."""

    def __init__(self) -> None:
        self.url = ""
        self.projects: dict[int, Json] = {}
        self.tasks: dict[int, Json] = {}
        self.backends: dict[int, Json] = {}
        self.webhooks: dict[int, Json] = {}
        self.predictions: list[Json] = []
        self.credentials: tuple[str, str] | None = None  # that backends demand
        self.model_version: str | None = "clipseg-1-1"  # that backends answer with
        self.refuses_backends: str | None = None  # with this reason
        self.refuses_webhooks: str | None = None
        self.uploads: list[str] = []
        self.most_uploads = 10**6  # before it is away
        self.calls: list[str] = []
        self.regions_of: list[list[int]] = []  # tasks, by the request that their regions were for
        self.before_regions: Callable[[list[int]], object] = lambda _: None
        self.away = False
        self._ids = iter(range(1, 10**6))
        self._moments = (f"2026-01-01T00:00:00.{number:06}Z" for number in range(1, 10**6))

    def add_project(self, title: str = "Cars", label_config: str = LABEL_CONFIG) -> int:
        """A project as Label Studio makes it; gives its id."""
        number = next(self._ids)
        self.projects[number] = {
            "id": number,
            "title": title,
            "label_config": label_config,
            "model_version": "",
            "sampling": "Sequential sampling",
            "show_collab_predictions": True,
            "num_tasks_with_annotations": 0,
        }
        return number

    def add_task(self, project: int, **data: Any) -> int:
        """A task with its data; gives its id."""
        number = next(self._ids)
        self.tasks[number] = {
            "id": number,
            "data": data,
            "project": project,
            "annotations": [],
            "is_labeled": False,
            "updated_at": next(self._moments),
        }
        return number

    def annotate(self, task: int, result: list[Json], **fields: Any) -> int:
        """An annotation as an annotator submits it; gives its id."""
        number = next(self._ids)
        annotation = {
            "id": number,
            "task": task,
            "completed_by": 1,
            "result": result,
            "was_cancelled": False,
            "ground_truth": False,
            "updated_at": next(self._moments),
            **fields,
        }
        self.tasks[task]["annotations"].append(annotation)
        project = self.projects[self.tasks[task]["project"]]
        project["num_tasks_with_annotations"] += not self.tasks[task]["is_labeled"]
        self.tasks[task] |= {"is_labeled": True, "updated_at": next(self._moments)}
        return number

    def change(self, annotation: int, **fields: Any) -> None:
        """Save an annotation again."""
        task, saved = self._saved(annotation)
        saved |= {"updated_at": next(self._moments), **fields}
        task["updated_at"] = next(self._moments)

    def delete(self, annotation: int) -> None:
        """Delete an annotation."""
        task, saved = self._saved(annotation)
        task["annotations"].remove(saved)
        task["updated_at"] = next(self._moments)

    def _saved(self, annotation: int) -> tuple[Json, Json]:
        return next(
            (task, one)
            for task in self.tasks.values()
            for one in task["annotations"]
            if one["id"] == annotation
        )

    def look(self, version: str) -> None:
        """Hear from backends that they serve another version, as the real one does now and then."""
        self.model_version = version
        for backend in self.backends.values():
            backend["model_version"] = version

    def app(self) -> Flask:
        """The HTTP side."""
        app = Flask("label-studio")
        app.url_map.strict_slashes = False
        views: dict[str, tuple[Callable[..., ResponseReturnValue], str]] = {
            "/api/version": (lambda: {"release": "1.23.2"}, "GET"),
            "/api/current-user/whoami": (lambda: {"email": "ann@example.com"}, "GET"),
            "/api/projects": (self._projects, "GET POST"),
            "/api/projects/<int:number>": (self._project, "GET PATCH"),
            "/api/projects/<int:number>/import": (self._import, "POST"),
            "/api/projects/<int:number>/import/predictions": (self._import_predictions, "POST"),
            "/api/tasks": (self._tasks, "GET"),
            "/api/predictions": (self._add_prediction, "POST"),
            "/api/predictions/<int:number>": (self._prediction, "GET"),
            "/api/ml": (self._backends, "GET POST"),
            "/api/ml/<int:number>": (self._backend, "PATCH DELETE"),
            "/api/webhooks": (self._webhooks, "GET POST"),
            "/api/webhooks/<int:number>": (self._webhook, "PATCH DELETE"),
        }
        for rule, (view, methods) in views.items():
            app.add_url_rule(rule, rule, view, methods=methods.split())
        app.register_error_handler(
            HTTPException, lambda e: ({"status_code": e.code, "detail": e.description}, e.code)
        )

        @app.before_request
        def authenticate() -> ResponseReturnValue | None:
            self.calls.append(f"{request.method} {request.path.rstrip('/')}")
            if self.away:
                return {"status_code": 503, "detail": "It is being moved."}, 503
            right = request.headers.get("Authorization") == f"Token {TOKEN}"
            if right or request.path == "/api/version":
                return None
            return {"status_code": 401, "detail": "Invalid token."}, 401

        return app

    def _projects(self) -> ResponseReturnValue:
        if request.method == "POST":
            given = request.get_json()
            return self.projects[self.add_project(given["title"], given["label_config"])], 201
        return {"next": None, "results": list(self.projects.values())}

    def _project(self, number: int) -> ResponseReturnValue:
        project = _known(self.projects, number)
        if request.method == "PATCH":
            given = request.get_json()
            version = given.get("model_version", project["model_version"])
            titles = {b["title"] for b in self.backends.values() if b["project"] == number}
            versions = {p["model_version"] for p in self.predictions if p["project"] == number}
            if version not in {project["model_version"], *titles, *versions}:
                return _invalid({"model_version": ["Model version doesn't exist"]})
            project |= given
        return project

    def _import(self, number: int) -> ResponseReturnValue:
        _known(self.projects, number)
        if request.files:
            name = request.files["file"].filename or ""
            if name.endswith(".heic"):
                return _invalid({"non_field_errors": [".heic extension is not supported"]})
            self.uploads.append(name)
            self.away = len(self.uploads) == self.most_uploads
            return {"task_ids": [self.add_task(number, image=f"/data/upload/{number}/{name}")]}, 201
        return {"task_ids": [self.add_task(number, **data) for data in request.get_json()]}, 201

    def _import_predictions(self, number: int) -> ResponseReturnValue:
        """Nothing is saved if one task is unknown; what does not fit is dropped in silence.

        So are all fields but four.
        """
        given = request.get_json()
        for prediction in given:
            if self.tasks.get(prediction["task"], {}).get("project") != number:
                return _invalid({"non_field_errors": ['... contains invalid "task" field']})
        fitting = [p for p in given if isinstance(p["result"], list)]
        kept = {"task", "result", "score", "model_version"}
        self.predictions += [
            {"project": number, "id": next(self._ids)}
            | {name: value for name, value in prediction.items() if name in kept}
            for prediction in fitting
        ]
        return {"created": len(fitting)}, 201

    def _add_prediction(self) -> ResponseReturnValue:
        self.predictions.append({**request.get_json(), "id": next(self._ids)})
        return self.predictions[-1], 201

    def _prediction(self, number: int) -> ResponseReturnValue:
        return _known({row["id"]: row for row in self.predictions}, number)

    def _tasks(self) -> ResponseReturnValue:
        project, query = int(request.args["project"]), json.loads(request.args["query"])
        found = [task for task in self.tasks.values() if task["project"] == project]
        scored = False
        for item in query["filters"]["items"]:
            if item["filter"] == "filter:tasks:id":
                found = [task for task in found if task["id"] > item["value"]]
            elif item["filter"] == "filter:tasks:predictions_score":
                scored = True
                found = [task for task in found if self._score(task) is not None]
            elif item["filter"] == "filter:tasks:total_annotations":
                found = [task for task in found if _submitted(task) > item["value"]]
            else:
                (version,) = item["value"]
                done = {p["task"] for p in self.predictions if version in p["model_version"]}
                found = [task for task in found if task["id"] not in done]
        if "selectedItems" in query:
            found = [task for task in found if task["id"] in query["selectedItems"]["included"]]
        page = sorted(found, key=lambda task: int(task["id"]))[: int(request.args["page_size"])]
        fields = set(request.args["include"].split(","))
        if request.args.get("fields") != "all":
            fields -= {"annotations"}
        elif "result" in fields:
            self.regions_of.append([task["id"] for task in page])
            self.before_regions(self.regions_of[-1])
        if scored:  # else it is not computed
            page = [{**task, "predictions_score": self._score(task)} for task in page]
        if request.args.get("resolve_uri") != "false":
            page = [{**task, "data": _resolved(task)} for task in page]
        return {"total": len(found), "tasks": [_chosen(task, fields) for task in page]}

    def _score(self, task: Json) -> float | None:
        """Of the predictions of the version that the project goes by."""
        version = self.projects[task["project"]]["model_version"]
        scores = [
            one["score"]
            for one in self.predictions
            if (one["task"], one["model_version"]) == (task["id"], version)
        ]
        return sum(scores) / len(scores) if scores else None

    def _backends(self) -> ResponseReturnValue:
        if request.method == "GET":
            return _of_project(self.backends)
        if refused := self._refused(request.get_json()):
            return refused
        number = next(self._ids)
        fields = {"id": number, "is_interactive": False, "extra_params": None}
        self.backends[number] = {**fields, **request.get_json()}
        backend = self._checked(number)
        project = self.projects[backend["project"]]
        project["model_version"] = project["model_version"] or backend["title"]
        address = backend["url"].rstrip("/") + "/webhook"
        if all(webhook["url"] != address for webhook in self.webhooks.values()):
            if self.refuses_webhooks:  # the connection has been saved by then
                return {"status_code": 403, "detail": self.refuses_webhooks}, 403
            self._add_webhook({"project": backend["project"], "url": address})
        return backend, 201

    def _backend(self, number: int) -> ResponseReturnValue:
        backend = _known(self.backends, number)
        if request.method == "DELETE":
            del self.backends[number]  # its webhook stays
            return Response(status=204)
        given = request.get_json()
        if not {"url", "project"} <= set(given):
            return Response("<html>TypeError", status=500)
        if refused := self._refused(given):
            return refused
        backend |= given
        return self._checked(number)

    def _refused(self, given: Json) -> ResponseReturnValue | None:
        if self.refuses_backends == BLOCKED:
            return {"status_code": 403, "detail": BLOCKED}, 403
        if self.refuses_backends:
            return _invalid({"non_field_errors": [self.refuses_backends]})
        shown = (given.get("basic_auth_user"), given.get("basic_auth_pass"))
        if self.credentials not in {None, shown}:
            return _invalid({"non_field_errors": ["... authentication parameters were ..."]})
        return None

    def _checked(self, number: int) -> Json:
        """A connection as it is shown: its password is not."""
        backend = self.backends[number]
        backend |= {
            "state": "CO",
            "readable_state": "Connected",
            "error_message": None,
            "model_version": self.model_version,
        }
        return {name: value for name, value in backend.items() if name != "basic_auth_pass"}

    def _webhooks(self) -> ResponseReturnValue:
        if request.method == "GET":
            return _of_project(self.webhooks)
        if self.refuses_webhooks:
            return {"status_code": 403, "detail": self.refuses_webhooks}, 403
        return self._add_webhook(request.get_json()), 201

    def _add_webhook(self, given: Json) -> Json:
        number = next(self._ids)
        self.webhooks[number] = {
            "id": number,
            "headers": {},
            "is_active": True,
            "send_payload": True,
            "send_for_all_actions": True,
            **given,
        }
        return self.webhooks[number]

    def _webhook(self, number: int) -> ResponseReturnValue:
        webhook = _known(self.webhooks, number)
        if request.method == "DELETE":
            del self.webhooks[number]
            return Response(status=204)
        if self.refuses_webhooks:
            return {"status_code": 403, "detail": self.refuses_webhooks}, 403
        webhook |= request.get_json()
        return webhook


def _chosen(row: Json, fields: set[str]) -> Json:
    """The fields asked for; those of a task's annotations are chosen by the same list."""
    chosen = {name: row[name] for name in fields if name in row}
    if "annotations" in chosen:
        chosen["annotations"] = [_chosen(one, fields) for one in row["annotations"]]
    return chosen


def _resolved(task: Json) -> Json:
    """Its data, with cloud storage's addresses passed on under a name that browsers know."""
    passed_on = f"http://studio.example/tasks/{task['id']}/resolve/"
    return {k: passed_on if str(v).startswith("s3://") else v for k, v in task["data"].items()}


def _submitted(task: Json) -> int:
    return sum(not annotation["was_cancelled"] for annotation in task["annotations"])


def _known(rows: dict[int, Json], number: int) -> Json:
    if number not in rows:
        raise NotFound("No row matches the given query.")
    return rows[number]


def _of_project(rows: dict[int, Json]) -> ResponseReturnValue:
    project = int(request.args["project"])
    return [row for row in rows.values() if row["project"] == project]


def _invalid(errors: Json) -> ResponseReturnValue:
    return {"status_code": 400, "detail": "Validation error", "validation_errors": errors}, 400


@contextmanager
def serving() -> Iterator[FakeLabelStudio]:
    """A fake that is served on a free port."""
    fake = FakeLabelStudio()
    server = make_server("127.0.0.1", 0, fake.app(), threaded=True)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
