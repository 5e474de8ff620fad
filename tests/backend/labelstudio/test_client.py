"""The API client against a host that answers as Label Studio does."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from backend.errors import LabelStudioError, LabelStudioRefused, LabelStudioUnavailable
from backend.labelstudio.client import PAGE, PREDICTIONS_AT_ONCE, WAITS, LabelStudio
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio

Server = Any  # conftest.py has it
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbiI6InJlZnJlc2gifQ.c2lnbmF0dXJl"


def told(content: object, **rest: Any) -> dict[str, Any]:
    return {"body": json.dumps(content).encode(), **rest}


def refusal(status: int, **content: Any) -> dict[str, Any]:
    return told({"status_code": status, **content}, status=status)


def test_a_legacy_token_is_sent_as_it_is_and_cookies_are_not(server: Server) -> None:
    server.decide("/api/projects/7", lambda _: told({}, headers={"Set-Cookie": "sessionid=a"}))
    studio = LabelStudio(server.url, LEGACY)
    studio.project(7)
    studio.project(7)
    assert studio.token_kind == "legacy"
    assert [r.authorization for r in server.requests] == [f"Token {LEGACY}"] * 2
    assert server.requests[1].headers["Cookie"] is None


def test_a_personal_token_buys_access_anew_when_it_has_run_out(server: Server) -> None:
    accesses = iter(["first", "second"])
    valid = {"Bearer first"}
    server.decide("/api/token/refresh/", lambda _: told({"access": next(accesses)}))
    server.decide(
        "/api/projects/7",
        lambda r: told({"id": 7}) if r.authorization in valid else refusal(401, detail="expired"),
    )
    studio = LabelStudio(server.url, PERSONAL)
    assert studio.token_kind == "personal"
    assert studio.project(7) == {"id": 7}
    valid.add("Bearer second")
    valid.discard("Bearer first")
    assert studio.project(7) == {"id": 7}
    assert server.paths.count("/api/token/refresh/") == 2
    assert json.loads(server.requests[0].body) == {"refresh": PERSONAL}
    assert server.requests[0].authorization is None


def test_credentials_of_the_machine_never_replace_the_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    server.reply("/api/projects/7", b"{}")
    LabelStudio(server.url, LEGACY).project(7)
    assert server.requests[0].authorization == f"Token {LEGACY}"


def test_label_studio_may_live_under_a_path(server: Server) -> None:
    server.reply("/studio/api/version", b'{"release": "1.23.2"}')
    assert LabelStudio(f"{server.url}/studio/", LEGACY).version() == "1.23.2"


def _after(request: Any) -> int:
    """The id beyond which a page of tasks is asked for."""
    after: int = json.loads(request.query["query"])["filters"]["items"][0]["value"]
    return after


def _task_host(
    server: Server, stored: list[int], busy: Callable[[int], bool] = lambda _: False
) -> None:
    """Answer task lists by what the query's id filter, selection and page size ask for.

    Where it is `busy` for what is beyond an id, it wants to be asked again in seven seconds.
    """

    def tasks(request: Any) -> dict[str, Any]:
        if busy(_after(request)):
            return {"status": 429, "headers": {"Retry-After": "7"}}
        query, after = json.loads(request.query["query"]), _after(request)
        chosen = query.get("selectedItems", {}).get("included", stored)
        page = [task for task in stored if task > after and task in chosen]
        size = int(request.query["page_size"])
        return told({"tasks": [{"id": task} for task in page[:size]], "total": len(page)})

    server.decide("/api/tasks", tasks)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_every_task_is_listed_once_however_many_pages_there_are(server: Server, count: int) -> None:
    _task_host(server, list(range(5, 5 + count)))
    listed = [task["id"] for task in LabelStudio(server.url, LEGACY).tasks(1)]
    assert listed == list(range(5, 5 + count))


def test_tasks_that_are_named_are_asked_for_in_addresses_of_bounded_length(server: Server) -> None:
    _task_host(server, list(range(1_000_000, 1_000_500, 2)))
    named = range(1_000_000, 1_000_500)
    listed = [task["id"] for task in LabelStudio(server.url, LEGACY).tasks(1, ids=named)]
    assert listed == list(range(1_000_000, 1_000_500, 2))
    assert max(map(len, server.paths)) < 4000


def test_tasks_lacking_a_version_are_chosen_by_label_studio(server: Server) -> None:
    _task_host(server, [1])
    list(LabelStudio(server.url, LEGACY).tasks(1, lacking="clipseg-1-2"))
    _, lacking = json.loads(server.requests[0].query["query"])["filters"]["items"]
    assert (lacking["operator"], lacking["value"]) == ("not_contains", ["clipseg-1-2"])


def test_predictions_are_sent_in_chunks_and_what_was_saved_is_counted(server: Server) -> None:
    sizes = []

    def save(request: Any) -> dict[str, Any]:
        sizes.append(len(json.loads(request.body)))
        return told({"created": sizes[-1] - 1}, status=201)

    server.decide("/api/projects/3/import/predictions", save)
    given = ({"task": task, "result": []} for task in range(2 * PREDICTIONS_AT_ONCE + 5))
    assert LabelStudio(server.url, LEGACY).create_predictions(3, given) == sum(sizes) - 3
    assert sizes == [PREDICTIONS_AT_ONCE, PREDICTIONS_AT_ONCE, 5]


def test_a_prediction_by_itself_keeps_its_cluster(studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    task = studio.add_task(project, image="1.jpg")
    client = LabelStudio(studio.url, TOKEN)
    one = {"task": task, "result": [], "score": 0.5, "model_version": "v", "cluster": 3}
    client.create_prediction(project, one)
    client.create_predictions(project, [one])
    alone, together = studio.predictions
    assert alone == {**one, "project": project, "id": alone["id"]}
    assert "cluster" not in together


def test_addresses_in_cloud_storage_are_listed_as_tasks_have_them(studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    studio.add_task(project, image="s3://bucket/1.jpg")
    [task] = LabelStudio(studio.url, TOKEN).tasks(project)
    assert task["data"] == {"image": "s3://bucket/1.jpg"}


def test_annotated_tasks_come_with_their_annotations(studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    tasks = [studio.add_task(project, image=f"{n}.jpg") for n in range(3)]
    studio.annotate(tasks[1], [{"id": "a"}])
    studio.annotate(tasks[2], [], was_cancelled=True)
    (found,) = LabelStudio(studio.url, TOKEN).annotated_tasks(project)
    assert found["id"] == tasks[1]
    assert found["annotations"][0]["result"] == [{"id": "a"}]


def test_annotated_tasks_come_once_however_many_pages_there_are(studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    tasks = [studio.add_task(project, image=f"{n}.jpg") for n in range(2 * PAGE + 3)]
    for task in tasks[1:]:
        studio.annotate(task, [])
    found = LabelStudio(studio.url, TOKEN).annotated_tasks(project)
    first = next(found)
    studio.annotate(tasks[0], [])  # somebody works meanwhile
    assert [first["id"], *(one["id"] for one in found)] == tasks[1:]


def test_what_an_annotation_began_with_is_told_and_can_be_had(studio: FakeLabelStudio) -> None:
    project = studio.add_project()
    task = studio.add_task(project, image="1.jpg")
    client = LabelStudio(studio.url, TOKEN)
    client.create_predictions(
        project, [{"task": task, "result": [{"id": "a"}], "model_version": "v", "score": 0.5}]
    )
    number = studio.predictions[0]["id"]
    studio.annotate(task, [{"id": "a"}], parent_prediction=number, lead_time=4.5)
    (found,) = client.annotated_tasks(project)
    annotation = found["annotations"][0]
    assert (annotation["parent_prediction"], annotation["lead_time"]) == (number, 4.5)
    prediction = client.prediction(number)
    assert prediction is not None
    assert prediction["result"] == [{"id": "a"}]
    assert client.prediction(number + 1) is None


def test_a_list_in_pages_ends_with_the_last(server: Server) -> None:
    pages = {"1": {"next": "more", "results": [{"id": 2}]}, "2": {"results": [{"id": 1}]}}
    server.decide("/api/projects", lambda r: told(pages[r.query["page"]]))
    assert [p["id"] for p in LabelStudio(server.url, LEGACY).projects()] == [2, 1]


def test_what_is_deleted_needs_no_answer(server: Server) -> None:
    server.reply("/api/ml/4", status=204)
    LabelStudio(server.url, LEGACY).delete_ml_backend(4)
    assert (server.requests[0].method, server.requests[0].path) == ("DELETE", "/api/ml/4")


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (refusal(401, detail="Invalid token."), LabelStudioRefused, "personal access token"),
        (
            refusal(404, detail="No Project matches."),
            LabelStudioRefused,
            "There is no project 7 at",
        ),
        (refusal(403, detail="Not yours."), LabelStudioRefused, "Not yours"),
        (
            refusal(400, validation_errors={"title": ["too short"], "non_field_errors": ["odd"]}),
            LabelStudioRefused,
            "title: too short; odd",
        ),
        ({"body": b"<html>", "status": 500}, LabelStudioUnavailable, "500"),
        ({"body": b"<html>", "status": 404}, LabelStudioUnavailable, "check LABEL_STUDIO_URL"),
        (
            {"status": 301, "headers": {"Location": "https://studio.example/api"}},
            LabelStudioRefused,
            "redirected to https://studio.example/api",
        ),
    ],
)
def test_a_failure_is_told_in_words(
    server: Server, answer: dict[str, Any], kind: type[LabelStudioError], words: str
) -> None:
    server.decide("/api/projects/7", lambda _: answer)
    with pytest.raises(kind, match=words) as failure:
        LabelStudio(server.url, LEGACY).project(7)
    assert LEGACY not in str(failure.value)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, detail="Token is blacklisted"), "personal access token"),
        (told({"other": 1}), "access token"),
    ],
)
def test_a_personal_token_that_buys_nothing_is_told(
    server: Server, answer: dict[str, Any], words: str
) -> None:
    server.decide("/api/token/refresh/", lambda _: answer)
    with pytest.raises(LabelStudioError, match=words) as failure:
        LabelStudio(server.url, PERSONAL).project(7)
    assert PERSONAL not in str(failure.value)


def test_an_address_that_is_not_label_studios_is_told(server: Server) -> None:
    server.reply("/api/version", b'{"name": "something else"}')
    with pytest.raises(LabelStudioError, match="check LABEL_STUDIO_URL"):
        LabelStudio(server.url, LEGACY).version()


@pytest.mark.parametrize("status", [408, 429, 502])
def test_what_would_be_answered_later_is_not_taken_for_a_refusal(
    server: Server, status: int
) -> None:
    """A refused training has failed and a refused prediction is dropped; what is away, waits."""
    server.decide("/api/tasks", lambda _: {"body": b"<html>Slow down", "status": status})
    with pytest.raises(LabelStudioUnavailable, match=f"answers {status} to GET"):
        list(LabelStudio(server.url, LEGACY).tasks(7))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "0"}, 1),
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "86400"}, 60),
        ({"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, 1),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_when_to_ask_again_is_what_label_studio_says_within_bounds(
    server: Server, said: dict[str, str], seconds: float | None, status: int
) -> None:
    server.reply("/api/projects/7", b"{}", status=status, headers=said)
    with pytest.raises(LabelStudioUnavailable) as failure:
        LabelStudio(server.url, LEGACY).project(7)
    assert failure.value.after == seconds


def test_when_to_ask_again_may_be_said_as_a_date(server: Server) -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.reply("/api/projects/7", b"{}", status=429, headers={"Retry-After": then})
    with pytest.raises(LabelStudioUnavailable) as failure:
        LabelStudio(server.url, LEGACY).project(7)
    assert failure.value.after == pytest.approx(40, abs=20)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    # the server sleeps, too: for no time
    monkeypatch.setattr("time.sleep", lambda said: seconds.append(said) if said else None)
    return seconds


def test_a_listing_goes_on_where_it_was_told_to_wait(server: Server, slept: list[float]) -> None:
    refused = [0]

    def once(after: int) -> bool:
        """For each page but the first."""
        refused.append(after)
        return refused.count(after) == 1

    _task_host(server, list(range(1, 3 * PAGE)), once)
    listed = [task["id"] for task in LabelStudio(server.url, LEGACY).tasks(1)]
    assert listed == list(range(1, 3 * PAGE))
    assert slept == [7.0, 7.0]
    assert [_after(request) for request in server.requests] == [0, PAGE, PAGE, 2 * PAGE, 2 * PAGE]


@pytest.mark.parametrize(("begun", "waits"), [(True, WAITS), (False, 0)])
def test_a_listing_is_not_waited_for_without_end_nor_before_it_begins(
    server: Server, slept: list[float], begun: bool, waits: int
) -> None:
    _task_host(server, list(range(1, 3 * PAGE)), lambda after: after > 0 or not begun)
    with pytest.raises(LabelStudioUnavailable):
        list(LabelStudio(server.url, LEGACY).tasks(1))
    assert slept == [7.0] * waits


@pytest.mark.parametrize("body", [b"<html>Back soon", b'{"tasks": [{"id": 1'])
def test_a_proxys_page_or_half_an_answer_may_be_another_next_time(
    server: Server, body: bytes
) -> None:
    server.reply("/api/tasks", body)
    told = r"/api/tasks answers with something else than JSON: check LABEL_STUDIO_URL"
    with pytest.raises(LabelStudioUnavailable, match=told):
        list(LabelStudio(server.url, LEGACY).tasks(7))


@pytest.mark.parametrize("content", [None, [], "yes", 7])
def test_json_of_something_else_is_told(server: Server, content: object) -> None:
    for path in ("/api/projects/7", "/api/tasks"):
        server.decide(path, lambda _: told(content))
    studio = LabelStudio(server.url, LEGACY)
    with pytest.raises(LabelStudioError, match="/api/projects/7 answers, but not as Label Studio"):
        studio.project(7)
    with pytest.raises(LabelStudioError, match="/api/tasks answers, but not as Label Studio"):
        list(studio.tasks(7))


def test_a_project_that_is_gone_is_named_whatever_is_asked_of_it(server: Server) -> None:
    for path in ("/api/projects/7", "/api/tasks"):
        server.decide(path, lambda _: refusal(404, detail="No Project matches the given query."))
    studio = LabelStudio(server.url, LEGACY)
    asks: list[Callable[[], object]] = [
        lambda: studio.project(7),
        lambda: list(studio.tasks(7)),
        lambda: studio.scores(7),
    ]
    for ask in asks:
        with pytest.raises(LabelStudioRefused, match="There is no project 7 at") as refused:
            ask()
        assert refused.value.answered == 404


def test_an_answer_without_a_word_has_saved_no_prediction(server: Server) -> None:
    """As of a proxy while Label Studio is away."""
    for path in ("/api/projects/3/import/predictions", "/api/predictions/"):
        server.reply(path)
    studio, one = LabelStudio(server.url, LEGACY), {"task": 1, "result": []}
    with pytest.raises(LabelStudioError, match="not as Label Studio"):
        studio.create_predictions(3, [one])
    with pytest.raises(LabelStudioError, match="not as Label Studio"):
        studio.create_prediction(3, one)


def test_silence_and_absence_are_told_apart(server: Server) -> None:
    server.reply("/api/version", wait=1.0)
    with pytest.raises(LabelStudioUnavailable, match=r"within 0\.1 seconds"):
        LabelStudio(server.url, LEGACY, timeout=0.1).version()
    with pytest.raises(LabelStudioUnavailable, match="Connection refused"):
        LabelStudio("http://127.0.0.1:1", LEGACY).version()


def test_a_listing_is_not_waited_for_where_label_studio_does_not_say_how_long(
    server: Server, slept: list[float]
) -> None:
    whole = told({"tasks": [{"id": task} for task in range(1, 101)]})
    server.decide("/api/tasks", lambda request: {"status": 503} if _after(request) else whole)
    with pytest.raises(LabelStudioUnavailable):
        list(LabelStudio(server.url, LEGACY).tasks(7))
    assert slept == []
