"""The examination: all well, and each link broken in turn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend import cli
from backend.connect import connect
from backend.doctor import Doctor
from backend.findings import Finding, Grade
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.images import ImageStore
from backend.labelstudio.wiring import Address
from backend.settings import Settings
from tests.backend.fake_label_studio import BLOCKED, TOKEN, FakeLabelStudio
from tests.live.conftest import data_uri

Server = Any  # conftest.py has it
HEALTH = {
    "model_class": "promptbrush",
    "version": "0.1.0",
    "ready": True,
    "broker": "UP",
    "warnings": [],
    "workers": 1,
    "checkpoint": "some/checkpoint",
    "model": "clipseg",
    "device": "cpu",
}


@pytest.fixture
def backend(server: Server) -> Server:
    """A backend that is well, and demands credentials."""
    server.reply("/health", json.dumps(HEALTH).encode())

    def versions(request: Any) -> dict[str, Any]:
        return {"status": 200 if request.authorization == "Basic bWw6c2VjcmV0" else 401}

    server.decide("/versions", versions)
    return server


@pytest.fixture
def settings(studio: FakeLabelStudio, backend: Server, tmp_path: Path) -> Settings:
    return Settings(
        label_studio_url=studio.url,
        label_studio_api_key=TOKEN,
        basic_auth_user="ml",
        basic_auth_pass="secret",
        port=int(backend.port),
        data_dir=tmp_path,
    )


@pytest.fixture
def project(studio: FakeLabelStudio, backend: Server) -> int:
    """A project that is connected as it should be, with a task."""
    number = studio.add_project()
    studio.add_task(number, image=data_uri())
    address = Address(backend.url, "ml", "secret")
    connect(LabelStudio(studio.url, TOKEN), number, address)
    return number


@pytest.fixture
def examine(settings: Settings, backend: Server) -> Callable[..., list[Finding]]:
    def examine(project: int | None = None, **changes: Any) -> list[Finding]:
        changed = replace(settings, **changes)
        address = Address(backend.url, changed.basic_auth_user, changed.basic_auth_pass)
        return list(Doctor(changed, address, ImageStore.of(changed)).examine(project))

    return examine


Examine = Callable[..., list[Finding]]


def only_fault(findings: list[Finding]) -> Finding:
    """The one finding that is not ok."""
    [fault] = [finding for finding in findings if finding.grade is not Grade.OK]
    return fault


def test_credentials_of_the_machine_are_not_taken_for_the_backends(
    project: int,
    examine: Callable[..., list[Finding]],
    backend: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login other password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    assert not [one for one in examine(project) if one.grade is Grade.PROBLEM]
    sent = {request.path.partition("?")[0]: request.authorization for request in backend.requests}
    assert sent["/health"] is None
    assert sent["/prompts"] == sent["/versions"] == "Basic bWw6c2VjcmV0"


def test_of_several_images_each_is_named_with_its_labels(
    examine: Examine, project: int, studio: FakeLabelStudio
) -> None:
    row = studio.projects[project]
    second = '<Image name="b" value="$back"/><BrushLabels name="bb" toName="b"><Label value="Car"/>'
    closing = f"{second}</BrushLabels></View>"
    row["label_config"] = row["label_config"].replace("</View>", closing)
    told = [one.told for one in examine(project) if one.link == "label"]
    assert len(set(told)) == len(told)
    assert any(text.startswith("Car in back: ") for text in told)


def test_a_sound_chain_has_no_fault_and_every_link_is_told(examine: Examine, project: int) -> None:
    findings = examine(project)
    assert {finding.grade for finding in findings} == {Grade.OK}
    assert [finding.link for finding in findings] == [
        "settings",
        "backend",
        "authentication",
        "broker",
        "worker",
        "model",
        "Label Studio",
        "token",
        "project",
        "connection",
        "version",
        "webhook",
        "labeling config",
        "label",
        "label",
        "image",
    ]
    assert "secret" not in " ".join(map(str, findings))
    assert TOKEN not in " ".join(map(str, findings))
    assert any('Animal: "a dog", "a cat"' in finding.told for finding in findings)


@pytest.mark.parametrize(
    ("change", "grade", "link", "words"),
    [
        ({"broker": "DOWN"}, Grade.PROBLEM, "broker", "log"),
        ({"warnings": ["It evicts."]}, Grade.PROBLEM, "broker", "It evicts."),
        ({"ready": False}, Grade.PROBLEM, "worker", "loading"),
        ({"checkpoint": "demo"}, Grade.WARNING, "model", "PROMPTBRUSH_CHECKPOINT"),
        ({"model_class": "other"}, Grade.PROBLEM, "backend", "--port"),
    ],
)
def test_a_fault_of_the_backend_is_told(
    examine: Examine,
    project: int,
    backend: Server,
    change: dict[str, Any],
    grade: Grade,
    link: str,
    words: str,
) -> None:
    backend.reply("/health", json.dumps(HEALTH | change).encode())
    fault = only_fault(examine(project))
    assert (fault.grade, fault.link) == (grade, link)
    assert words in fault.told


def test_a_backend_that_is_down_is_told(settings: Settings, project: int) -> None:
    address = Address("http://127.0.0.1:1", "ml", "secret")
    findings = list(Doctor(settings, address, ImageStore.of(settings)).examine(None))
    [down] = [finding for finding in findings if finding.grade is Grade.PROBLEM]
    assert "promptbrush up" in down.told


def test_a_backend_that_hangs_is_not_taken_for_another_program(
    examine: Examine, backend: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.doctor.PATIENCE", 0.1)
    backend.reply("/health", json.dumps(HEALTH).encode(), wait=0.5)
    [slow] = [finding for finding in examine() if finding.grade is Grade.PROBLEM]
    assert slow.link == "backend"
    assert "does not answer within" in slow.told


def test_a_backend_that_hangs_beyond_its_health_ends_no_examination(
    examine: Examine, project: int, backend: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose broker hangs: it tells so at /health, and takes long for everything else."""
    monkeypatch.setattr("backend.doctor.PATIENCE", 0.1)
    backend.reply("/health", json.dumps(HEALTH | {"broker": "DOWN"}).encode())
    backend.reply("/versions", wait=0.5)
    findings = examine(project)
    faults = {one.link: one.told for one in findings if one.grade is Grade.PROBLEM}
    assert set(faults) == {"authentication", "broker"}
    assert "/versions" in faults["authentication"]
    assert findings[-1].link == "image"


def test_other_credentials_than_the_backends_are_told(examine: Examine, project: int) -> None:
    links = {f.link for f in examine(project, basic_auth_pass="other") if f.grade is Grade.PROBLEM}
    assert links == {"authentication", "webhook"}


@pytest.mark.parametrize(
    ("changes", "link", "words"),
    [
        ({"label_studio_url": None}, "Label Studio", "LABEL_STUDIO_URL"),
        ({"label_studio_url": "http://127.0.0.1:1"}, "Label Studio", "Connection refused"),
        ({"label_studio_api_key": "wrong"}, "token", "personal access token"),
    ],
)
def test_a_fault_of_the_settings_is_told(
    examine: Examine, project: int, changes: dict[str, Any], link: str, words: str
) -> None:
    fault = only_fault(examine(project, **changes))
    assert (fault.grade, fault.link) == (Grade.PROBLEM, link)
    assert words in fault.told


def _unconnected(studio: FakeLabelStudio) -> None:
    studio.backends.clear()


def _not_interactive(studio: FakeLabelStudio) -> None:
    next(iter(studio.backends.values()))["is_interactive"] = False


def _disconnected(studio: FakeLabelStudio) -> None:
    state = {"state": "DI", "readable_state": "Disconnected", "error_message": "refused"}
    next(iter(studio.backends.values())).update(state)


def _doubled(studio: FakeLabelStudio) -> None:
    [backend] = studio.backends.values()
    studio.backends[99] = backend | {"id": 99}


def _second_to_another(studio: FakeLabelStudio) -> None:
    [backend] = studio.backends.values()
    studio.backends[0] = backend | {"id": 0, "url": "http://other:9090"}


def _no_webhook(studio: FakeLabelStudio) -> None:
    studio.webhooks.clear()


def _bare_webhook(studio: FakeLabelStudio) -> None:
    next(iter(studio.webhooks.values()))["headers"] = {}


def _doubled_webhook(studio: FakeLabelStudio) -> None:
    [webhook] = studio.webhooks.values()
    studio.webhooks[99] = webhook | {"id": 99}


def _idle_webhook(studio: FakeLabelStudio) -> None:
    next(iter(studio.webhooks.values()))["is_active"] = False


def _empty_webhook(studio: FakeLabelStudio) -> None:
    next(iter(studio.webhooks.values()))["send_payload"] = False


def _blocked_webhook(studio: FakeLabelStudio) -> None:
    studio.refuses_webhooks = BLOCKED


def _old_version(studio: FakeLabelStudio) -> None:
    next(iter(studio.backends.values()))["model_version"] = "clipseg-1-9"


def _hidden_predictions(studio: FakeLabelStudio) -> None:
    next(iter(studio.projects.values()))["show_collab_predictions"] = False


def _no_such_image(studio: FakeLabelStudio) -> None:
    next(iter(studio.tasks.values()))["data"]["image"] = f"{studio.url}/data/upload/1/gone.png"


def _no_prompt(studio: FakeLabelStudio) -> None:
    project = next(iter(studio.projects.values()))
    project["label_config"] = project["label_config"].replace(
        "<TextArea", "<TextArea smart='false'"
    )


def _nothing_to_fill(studio: FakeLabelStudio) -> None:
    next(iter(studio.projects.values()))["label_config"] = "<View/>"


@pytest.mark.parametrize(
    ("spoil", "grade", "link", "words"),
    [
        (_unconnected, Grade.PROBLEM, "connection", "promptbrush connect --project"),
        (_not_interactive, Grade.PROBLEM, "connection", "promptbrush connect"),
        (_disconnected, Grade.PROBLEM, "connection", "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false"),
        (_disconnected, Grade.PROBLEM, "connection", "promptbrush connect again, which gives it"),
        (_doubled, Grade.PROBLEM, "connection", "promptbrush connect"),
        (_second_to_another, Grade.PROBLEM, "connection", "http://other:9090"),
        (_second_to_another, Grade.PROBLEM, "connection", "Settings > Webhooks"),
        (_no_webhook, Grade.PROBLEM, "webhook", "promptbrush connect"),
        (_bare_webhook, Grade.PROBLEM, "webhook", "401"),
        (_doubled_webhook, Grade.PROBLEM, "webhook", "2 times"),
        (_idle_webhook, Grade.PROBLEM, "webhook", "promptbrush connect"),
        (_empty_webhook, Grade.PROBLEM, "webhook", "without what happened"),
        (_blocked_webhook, Grade.PROBLEM, "webhook", "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false"),
        (_old_version, Grade.WARNING, "version", "promptbrush connect"),
        (_hidden_predictions, Grade.PROBLEM, "version", "Settings > Annotation"),
        (_no_such_image, Grade.PROBLEM, "image", "404"),
        (_no_prompt, Grade.WARNING, "labeling config", "<TextArea"),
        (_nothing_to_fill, Grade.PROBLEM, "project", "<Image"),
    ],
)
def test_a_fault_of_the_project_is_told_with_its_remedy(
    studio: FakeLabelStudio,
    examine: Examine,
    project: int,
    spoil: Callable[[FakeLabelStudio], None],
    grade: Grade,
    link: str,
    words: str,
) -> None:
    spoil(studio)
    fault = only_fault(examine(project))
    assert (fault.grade, fault.link) == (grade, link)
    assert words in fault.told


def test_the_images_that_a_task_has_are_looked_at(
    studio: FakeLabelStudio, examine: Examine, project: int
) -> None:
    known, task = studio.projects[project], next(iter(studio.tasks.values()))
    known["label_config"] = known["label_config"].replace(
        "<TextArea",
        '<Image name="j" value="$other"/><BrushLabels name="c" toName="j"><Label value="Cat"/>'
        "</BrushLabels><TextArea",
    )

    def found(**data: str) -> list[Grade]:
        task["data"] = data
        return [one.grade for one in examine(project) if one.link == "image"]

    assert found(image=data_uri(), other="") == [Grade.OK]
    assert found(image="", other=data_uri()) == [Grade.OK]
    assert found(image=data_uri(), other=data_uri()) == [Grade.OK, Grade.OK]
    assert found(image=data_uri(), other=f"{studio.url}/gone.png")[-1] is Grade.PROBLEM
    assert found(image="", other="") == [Grade.PROBLEM]


def test_without_a_project_those_that_exist_are_listed(examine: Examine, project: int) -> None:
    fault = only_fault(examine(None))
    assert fault.grade is Grade.WARNING
    assert f"{project} 'Cars'" in fault.told


def test_an_open_door_is_warned_of(examine: Examine) -> None:
    changes = {"host": "0.0.0.0", "basic_auth_user": None, "basic_auth_pass": None}
    settings = examine(None, **changes)[0]
    assert settings.grade is Grade.WARNING
    assert "BASIC_AUTH_USER" in settings.told


def test_whatever_a_finding_quotes_stays_in_its_line(
    studio: FakeLabelStudio, backend: Server, examine: Examine
) -> None:
    number = studio.add_project()
    studio.add_task(number, **{"a\nproblem  \u202e\x1b[2J\ud800": "x"})
    connect(LabelStudio(studio.url, TOKEN), number, Address(backend.url, "ml", "secret"))
    (told,) = (str(one) for one in examine(number) if one.link == "image")
    assert "its data holds a?problem  ??[2J?" in told


def test_the_command_fails_when_there_is_a_problem(
    studio: FakeLabelStudio,
    backend: Server,
    project: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BASIC_AUTH_USER", "ml")
    monkeypatch.setenv("BASIC_AUTH_PASS", "secret")
    command = ["doctor", "--label-studio", studio.url, "--api-key", TOKEN]
    command += ["--backend", backend.url, "--project", str(project)]
    assert cli.main(command) == 0
    _no_webhook(studio)
    assert cli.main(command) == 1
    assert "problem  webhook" in capsys.readouterr().out


def test_labels_are_told_as_the_projects_book_asks_them(
    examine: Examine, project: int, backend: Server
) -> None:
    shown = [{"id": "0" * 16, "task": 4}, {"id": "1" * 16, "task": 5, "used": False}]
    car = {
        "texts": [{"text": "a parked car, not its shadow", "origin": "set by hand"}],
        "exemplars": shown,
        "weight": 0.6,
        "threshold": 0.25,
        "by_hand": ["texts"],
    }
    book = {"version": 2, "project": project, "note": {}, "labels": {"RedCar": car}, "history": []}
    backend.reply("/prompts", json.dumps(book).encode())
    said = [finding.told for finding in examine(project) if finding.link == "label"]
    assert 'RedCar: "a parked car", not "its shadow" with exemplars (1), from 0.25' in said
