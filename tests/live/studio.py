"""A Label Studio of tests: the calls that promptbrush makes, answered as the real one does."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from backend.errors import LabelStudioRefused, LabelStudioUnavailable

PROJECT = 7


class Studio:
    """One project in memory, with the methods of the API client; `serve` puts it on a port."""

    def __init__(self, label_config: str, tasks: Mapping[int, str]) -> None:
        self.label_config = label_config
        self.sampling = "Sequential sampling"
        self.url = ""
        self.images = dict(tasks)
        self.saved: list[dict[str, Any]] = []
        self.refusals: dict[int, int] = {}  # project -> status with which it is refused
        self.token_known = True
        self.down = False
        self.busy: float | None = None  # in how many seconds to ask again while it is down
        self.listed = 0  # how often somebody asked for all tasks
        self.before_saving: Callable[[], None] = lambda: None
        self.after_saving: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def copies(self) -> Counter[tuple[int, str]]:
        """How often each (task, version) was saved."""
        return Counter((one["task"], one["model_version"]) for one in self.saved)

    def user(self) -> dict[str, Any]:
        if not self.token_known:
            raise LabelStudioRefused("it does not let the token's user do this", 403)
        return {"id": 1}

    def project(self, project: int) -> dict[str, Any]:
        self._reach(project)
        row = {"id": PROJECT, "title": "shapes", "label_config": self.label_config}
        return {**row, "sampling": self.sampling}

    def tasks(
        self,
        project: int,
        *,
        ids: Iterable[int] | None = None,
        lacking: str | None = None,
        include: Sequence[str] = ("id", "data"),
    ) -> Iterator[dict[str, Any]]:
        self._reach(project)
        with self._lock:
            having = {one["task"] for one in self.saved if one["model_version"] == lacking}
        self.listed += ids is None
        chosen = set(self.images) if ids is None else set(ids) & set(self.images)
        for task in sorted(chosen - having):
            yield {"id": task, "data": {"image": self.images[task]}}

    def create_predictions(self, project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        rows = [dict(one) for one in predictions]
        self._save(project, [{**row, "cluster": None} for row in rows])
        return len(rows)

    def create_prediction(self, project: int, prediction: Mapping[str, Any]) -> None:
        self._save(project, [{"cluster": None, **prediction}])

    def _save(self, project: int, rows: Sequence[dict[str, Any]]) -> None:
        self._reach(project)
        self.before_saving()
        strangers = [row["task"] for row in rows if row["task"] not in self.images]
        if strangers:
            raise LabelStudioRefused(f"task {strangers[0]} is not in the project", 400)
        with self._lock:
            self.saved += rows
        self.after_saving()

    def _reach(self, project: int) -> None:
        if self.down:
            raise LabelStudioUnavailable("Label Studio cannot be reached", self.busy)
        if project in self.refusals:
            raise LabelStudioRefused("you shall not pass", self.refusals[project])
        if project != PROJECT:
            raise LabelStudioRefused("no such project", 404)

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> Any:
        """What the HTTP API answers."""
        if path == "/api/tasks":
            wish = json.loads(query["query"][0])
            filters = {item["filter"]: item["value"] for item in wish["filters"]["items"]}
            lacking = filters.get("filter:tasks:predictions_model_versions", [None])[0]
            chosen = wish.get("selectedItems", {}).get("included")
            rows = [
                row
                for row in self.tasks(int(query["project"][0]), ids=chosen, lacking=lacking)
                if row["id"] > filters["filter:tasks:id"]
            ]
            return {"tasks": rows[: int(query["page_size"][0])], "total": len(rows)}
        if path == "/api/predictions/":
            self.create_prediction(body["project"], body)
            return body
        project = int(path.split("/")[3])
        if path.endswith("/import/predictions") and method == "POST":
            return {"created": self.create_predictions(project, body)}
        return self.project(project)

    def serve(self) -> ThreadingHTTPServer:
        """A server on a free port, running."""
        studio = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Any) -> None:
                parts = urlsplit(self.path)
                query = parse_qs(parts.query)
                try:
                    status, told = 200, studio.answer(self.command, parts.path, query, body)
                except LabelStudioUnavailable as error:
                    status, told = 503, {"detail": str(error)}
                except LabelStudioRefused as error:
                    status, told = error.answered, {"detail": str(error)}
                payload = json.dumps(told).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except OSError:
                    return  # who asked was killed

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
