"""The adapter under stand-ins of label-studio-ml's two base classes, before a service that records.

2.x is not on PyPI, so that a stand-in with its signatures is all there is of it here;
tests/live/test_adapter.py runs the real 1.0.9.
"""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
from flask import Flask

from backend.errors import Reported

CONFIG = "<View>one</View>"
TASKS = [{"id": 1, "data": {"image": "i"}}]
ENTRY = {"result": [], "score": 0.5, "model_version": "clipseg-1-2"}


class Base1:
    """As in 1.0.9."""

    def __init__(self, label_config: Any = None, train_output: Any = None, **kwargs: Any) -> None:
        self.label_config = label_config

    def process_event(self, event: Any, data: Any, job_id: Any, additional_params: Any) -> Any:
        return self.fit((), event=event, data=data, job_id=job_id, **additional_params)  # type: ignore[attr-defined]


class Base2:
    """As in 2.x, whose objects live for one request and keep their state in a cache by project."""

    cache: dict[tuple[str, str], str] = {}  # noqa: RUF012

    def __init__(self, project_id: str | None = None, label_config: Any = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.set("label_config", label_config)
        self.setup()  # type: ignore[attr-defined]

    def get(self, key: str) -> str | None:
        return self.cache.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise ValueError("Value must be a string")
        self.cache[self.project_id, key] = value

    @property
    def label_config(self) -> str | None:
        return self.get("label_config")


@dataclass
class Service:
    """What was asked, with which credentials, and what is answered."""

    url: str = ""
    asked: list[tuple[str, Any, str | None]] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(
        default_factory=lambda: {
            "/setup": (200, {"model_version": "clipseg-1-2"}),
            "/predict": (200, {"results": [ENTRY, []]}),
            "/webhook": (201, {"status": "accepted"}),
        }
    )


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    recorded = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            recorded.asked.append((self.path, body, self.headers["Authorization"]))
            status, answer = recorded.answers[self.path]
            said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    recorded.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("PROMPTBRUSH_URL", recorded.url)
    for name in ("no_proxy", "NO_PROXY"):  # which the adapter adds to
        monkeypatch.setenv(name, "")
    yield recorded
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=[Base1, Base2], ids=["1.x", "2.x"])
def base(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def model_class(base: Any, service: Service, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The adapter's class on a stand-in."""
    package, module = ModuleType("label_studio_ml"), ModuleType("label_studio_ml.model")
    module.LabelStudioMLBase = base  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", module)
    monkeypatch.delitem(sys.modules, "backend.adapter", raising=False)
    monkeypatch.setattr(Base2, "cache", {})
    adapter = import_module("backend.adapter")
    yield adapter.Promptbrush
    del sys.modules["backend.adapter"]


def made(model_class: Any) -> Any:
    """A model as its server makes it."""
    if issubclass(model_class, Base2):
        return model_class(project_id="7", label_config=CONFIG)
    return model_class(label_config=CONFIG, hostname="h", access_token="t")


def test_the_service_predicts(model_class: Any, service: Service) -> None:
    context: dict[str, Any] = {"result": []}
    entries = made(model_class).predict(
        TASKS, context=context, login="secret", password="also secret"
    )
    assert len(entries) == 2
    assert entries[0]["result"] == []
    assert entries[1] == []
    path, body, _ = service.asked[-1]
    assert path == "/predict"
    assert (body["tasks"], body["label_config"]) == (TASKS, CONFIG)
    assert body["params"] == {"context": context}


def test_versions_are_those_that_setup_names(model_class: Any, service: Service) -> None:
    model = made(model_class)
    (entry, _) = model.predict(TASKS)
    if isinstance(model, Base2):
        assert model.get("model_version") == entry["model_version"] == "clipseg-1-2"
    else:  # its server names "INITIAL", which Label Studio notes where there is none
        assert "model_version" not in entry


def test_a_batch_is_not_taken_for_an_interactive_request(
    model_class: Any, service: Service
) -> None:
    made(model_class).predict(TASKS, context={})
    assert service.asked[-1][1]["params"] == {"context": None}


def test_the_requests_own_project_counts(model_class: Any, service: Service) -> None:
    model = made(model_class)
    sent = {"tasks": TASKS, "project": "8.1", "label_config": "<View>two</View>"}
    with Flask("server").test_request_context("/predict", method="POST", json=sent):
        model.predict(TASKS)
    body = service.asked[-1][1]
    assert (body["project"], body["label_config"]) == ("8.1", "<View>two</View>")


def test_events_are_passed_on(model_class: Any, service: Service) -> None:
    model: Any = made(model_class)
    event = {"annotations": [{"id": 2}], "project": {"id": 7}}
    if issubclass(model_class, Base2):
        given = model.fit("ANNOTATIONS_DELETED", event)
    else:
        given = model.process_event("ANNOTATIONS_DELETED", event, "1", {"workdir": "w"})
    assert given is None
    assert service.asked[-1][:2] == ("/webhook", {**event, "action": "ANNOTATIONS_DELETED"})
    assert "ANNOTATIONS_DELETED" in model.TRAIN_EVENTS


def test_training_without_an_event_is_not_the_services_business(
    model_class: Any, service: Service
) -> None:
    model = made(model_class)
    before = list(service.asked)
    model.fit(iter(()), "workdir", epochs=1)
    assert service.asked == before


def test_credentials_of_the_service_are_given(
    model_class: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "u")
    monkeypatch.setenv("BASIC_AUTH_PASS", "p")
    made(model_class).predict(TASKS)
    assert service.asked[-1][2] == "Basic dTpw"


def test_no_proxy_stands_before_a_service_on_the_same_machine(
    model_class: Any, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert len(made(model_class).predict(TASKS)) == 2


def test_a_service_that_refuses_is_quoted(model_class: Any, service: Service) -> None:
    service.answers["/predict"] = 400, {"error": "BadLabelConfig", "detail": "no brush"}
    with pytest.raises(Reported, match="no brush") as refused:
        made(model_class).predict(TASKS)
    assert refused.value.name == "BadLabelConfig"


@pytest.mark.parametrize("answer", [b"<html>", None])
def test_a_service_that_is_not_there_is_told_with_the_remedy(
    model_class: Any, service: Service, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    model = made(model_class)
    if answer is None:
        monkeypatch.setenv("PROMPTBRUSH_URL", "http://127.0.0.1:9")
    else:
        service.answers["/predict"] = 502, answer
    with pytest.raises(Reported, match=r"PROMPTBRUSH_URL.*promptbrush up"):
        model.predict(TASKS)


def test_a_model_that_is_still_loading_names_no_version(model_class: Any, service: Service) -> None:
    service.answers["/setup"] = 200, {"model_version": None}
    model = made(model_class)
    assert not isinstance(model, Base2) or model.get("model_version") is None
