"""What a project has of its own, over HTTP: prompt book, versions, suggested phrases."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.inference.books import Books
from backend.inference.promptbook import Entry
from backend.labelstudio.tasks import LAST_ID
from backend.learning.card import Card
from backend.learning.versions import Versions
from backend.settings import Settings
from backend.web.app import create_app
from tests.backend.web.instant import InstantQueue, body, recorded

Named = Callable[[object], str]


@pytest.fixture
def project_client(queue: InstantQueue, tmp_path: Path) -> FlaskClient:
    return create_app(Settings(model_dir=tmp_path), queue).test_client()  # type: ignore[arg-type]


@pytest.fixture
def named(project_client: FlaskClient) -> Named:
    """The version that `/setup` names for a project."""
    schema = recorded("setup")["schema"]

    def ask(project: object) -> str:
        answer = project_client.post("/setup", json={"project": project, "schema": schema})
        return str(body(answer)["model_version"])

    return ask


def test_setup_names_what_a_projects_prompt_book_asks_and_prompts_tells_of_it(
    named: Named, project_client: FlaskClient, tmp_path: Path
) -> None:
    base, books = named("1.1795"), Books(tmp_path)
    books.put(1, "by hand", Entry("cat").setting(threshold=0.21))
    changed = named("1.1795")
    assert changed != base == named("2.1795")
    books.rollback(1, 0)
    assert named("1.1795") == base
    told = body(project_client.get("/prompts?project=1"))
    assert (told["version"], told["labels"]) == (2, {})
    assert [one["by"] for one in told["history"]] == ["by hand", "rolled back to version 0"]
    assert body(project_client.get("/prompts?project=5"))["version"] == 0
    assert project_client.get("/prompts").status_code == 400


def test_setup_names_a_projects_active_version_and_versions_tells_of_it(
    named: Named, project_client: FlaskClient, tmp_path: Path
) -> None:
    base, versions = named("1.1795"), Versions(tmp_path)
    mine = versions.keep(1, b"weights", Card("d" * 64, metrics={"iou": 0.5}))
    alien = versions.keep(1, b"others", Card("e" * 64))
    assert named("1.1795") == base
    versions.activate(1, mine.id, "better")
    assert named("1.1795") == base.replace("-dddddddd-", f"-dddddddd-{mine.id[:8]}-")
    assert named("2.1795") == named(None) == base
    versions.activate(1, alien.id, "by mistake")
    assert named("1.1795") != base  # what was made for another checkpoint is passed by
    told = body(project_client.get("/versions?project=1"))
    assert (told["active"], told["served"]) == (alien.id, mine.id)
    assert [one["metrics"] for one in told["versions"]] == [{"iou": 0.5}, {}]
    assert [one["reason"] for one in told["history"]] == ["better", "by mistake"]
    assert body(project_client.get("/versions")) == {"versions": ["clipseg-dddddddd"]}


@pytest.mark.parametrize("path", ["/versions", "/prompts", "/jobs", "/suggestions"])
@pytest.mark.parametrize("project", ["three", "-3", "0", "1.5", ""])
def test_a_project_that_is_no_number_is_told_so(
    project_client: FlaskClient, path: str, project: str
) -> None:
    answer = project_client.get(f"{path}?project={project}")
    assert (answer.status_code, body(answer)["error"]) == (400, "BadRequest")
    assert f'is a whole number from 1, not "{project}"' in body(answer)["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/versions?project=",
        "/prompts?project=",
        "/jobs?project=",
        "/suggestions?project=",
        "/prelabel?version=v&project=",
        "/suggestions?project=1&task=",
    ],
)
@pytest.mark.parametrize("number", [str(LAST_ID + 1), "9" * 300, "9" * 5000])
def test_a_number_that_no_database_gives_is_told_so(
    project_client: FlaskClient, path: str, number: str
) -> None:
    answer = project_client.get(path + number)
    assert answer.status_code == 400
    assert f"is at most {LAST_ID}, not" in body(answer)["detail"]


@pytest.mark.parametrize("given", ["", "label=cat", "image=a.png&label=cat", "image=a.png&task=1"])
def test_phrases_are_asked_for_of_a_project_or_of_an_image_alone(
    project_client: FlaskClient, given: str
) -> None:
    answer = project_client.get(f"/suggestions?{given}")
    assert answer.status_code == 400
    assert "?project=ID" in body(answer)["detail"]


@pytest.mark.parametrize("path", ["/predict", "/prelabel", "/setup", "/train", "/webhook"])
def test_a_project_that_no_database_numbers_is_refused(
    project_client: FlaskClient, path: str
) -> None:
    request = {**recorded("setup"), "tasks": [], "action": "START_TRAINING"}
    request |= {"label_config": request["schema"], "project": 10**30}
    answer = project_client.post(path, json=request)
    assert answer.status_code == 400
    assert f'"project" is at most {LAST_ID}' in body(answer)["detail"]


def test_phrases_are_asked_of_a_worker(client: FlaskClient, queue: InstantQueue) -> None:
    queue.answer = {"labels": [{"label": "cat"}]}
    answer = client.get("/suggestions?project=3&label=cat")
    assert body(answer) == {"labels": [{"label": "cat"}]}
    [(payloads, urgent)] = queue.submitted
    assert payloads == [{"project": 3, "task": {"id": None}, "label": "cat", "image": None}]
    assert not urgent
    assert queue.finished == 1  # nothing of it is left at the broker


@pytest.mark.parametrize("query", ["", "?project=three", "?label=cat", "?image=x&task=1"])
def test_phrases_need_something_to_go_by(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/suggestions{query}")
    assert answer.status_code == 400
    assert body(answer)["error"] == "BadRequest"


def test_a_worker_that_cannot_suggest_says_why(client: FlaskClient, queue: InstantQueue) -> None:
    queue.answer = {"error": "NothingToGoBy", "detail": "Nothing tells where it is."}
    answer = client.get("/suggestions?project=3")
    assert (answer.status_code, body(answer)) == (409, queue.answer)
    queue.answer = None
    late = client.get("/suggestions?project=3")
    assert (late.status_code, body(late)["error"]) == (504, "DeadlineExceeded")
