"""The page for people, with a queue that finds every phrase but one."""

import io
import re
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from backend.settings import Settings
from backend.web import app as module
from backend.web.playground import KEPT, KEPT_BYTES
from tests.backend.web.finding import BROWSER, EVIL, HEIGHT, MISSING, WIDTH, PlaygroundQueue


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> PlaygroundQueue:
    for name in ("PredictionQueue", "TrainingLane"):
        monkeypatch.setattr(module, name, lambda connection: connection)
    return PlaygroundQueue()


@pytest.fixture
def client(queue: PlaygroundQueue) -> FlaskClient:
    return module.create_app(Settings(image_max_mb=1), queue).test_client()  # type: ignore[arg-type]


def picture() -> tuple[io.BytesIO, str]:
    file = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "white").save(file, "PNG")
    file.seek(0)
    return file, "mine.png"


def progress(project: object, **changes: Any) -> dict[str, Any]:
    counts = {"pending": 3, "answered": 5, "pushed": 2, "failed": 1}
    return {"project": project, "model_version": "clipseg-1-2", "reasons": {}, **counts, **changes}


def ask(client: FlaskClient, **changes: Any) -> TestResponse:
    form = {"prompts": "a dog", "threshold": "0.3", "image": picture(), **changes}
    answer = client.post("/playground", data=form, headers=BROWSER)
    answer.request.environ["wsgi.input"].close()  # a temporary file that the test client forgets
    return answer


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "application/json, text/html"])
def test_programs_get_json(client: FlaskClient, accept: str) -> None:
    answer = client.get("/", headers={"Accept": accept} if accept else {})
    assert answer.get_json()["status"] == "UP"
    assert answer.headers["Vary"] == "Accept"


def test_browsers_get_a_page(client: FlaskClient) -> None:
    answer = client.get("/", headers=BROWSER)
    assert answer.mimetype == "text/html"
    assert answer.headers["Vary"] == "Accept"
    assert "clipseg-dddddddd" in answer.text
    assert "CIDAS/clipseg-rd64-refined" in answer.text  # what the demo checkpoint is not


def test_the_page_runs_no_script_but_its_own(client: FlaskClient) -> None:
    answer = client.get("/", headers=BROWSER)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=|<style", answer.text)
    assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", answer.text)


def test_everything_the_page_names_is_there(client: FlaskClient) -> None:
    page = client.get("/", headers=BROWSER).text
    named = re.findall(r'(?:src|href)="(/[^"#]*)"', page)
    files = [path for path in named if path.startswith(("/static/", "/samples/"))]
    assert len(files) > 8
    assert [client.get(path, buffered=True).status_code for path in files] == [200] * len(files)
    known = {rule.rule for rule in client.application.url_map.iter_rules()}
    assert set(named) - set(files) <= known


def test_masks_are_shown_with_their_colour_score_and_time(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    answer = ask(client, prompts=f"a dog, {MISSING}\nthe cat")
    assert answer.status_code == 200
    ((payload, interactive),) = queue.submitted
    assert interactive
    assert payload["task"]["id"] == "playground"
    assert 'fill="#e69f00"' in answer.text
    assert 'fill="#0072b2"' in answer.text
    assert "0.75" in answer.text
    assert "50.0 %" in answer.text
    assert "not found" in answer.text
    assert "0 ms (known)" in answer.text
    drawn = re.search(r'class="picture" src="data:image/jpeg;base64,([^"]+)"', answer.text)
    assert drawn
    pixels = np.asarray(Image.open(io.BytesIO(b64decode(drawn[1]))))
    assert (pixels[HEIGHT - 9, 9] > 250).all()
    assert (pixels[HEIGHT // 2 - 9, 9] < 250).any()


def test_a_phrase_that_cannot_be_asked_is_told_beside_the_others(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.answer = lambda payload: queue.find(payload) | {"refused": {MISSING: f"long {EVIL}"}}
    page = ask(client, prompts=f"a dog, {MISSING}").text
    assert "long &lt;script&gt;" in page
    assert "not found at" not in page


def test_a_part_of_a_phrase_that_cannot_be_asked_is_told_beside_its_mask(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.answer = lambda payload: queue.find(payload) | {"refused": {"a dog": f"long {EVIL}"}}
    page = ask(client, prompts="a dog, a cat").text
    assert page.count("Without a part: long &lt;script&gt;") == 1
    assert page.count("50.0 %") == 2


def test_the_image_comes_back_for_further_phrases(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    page = ask(client).text
    kept = re.search(rf'value="({re.escape(KEPT)}[^"]+)" checked', page)
    assert kept
    again = client.post("/playground", data={"prompts": "a cat", "choice": kept[1]})
    assert again.status_code == 200
    first, second = (payload["task"]["data"]["image"] for payload, _ in queue.submitted)
    assert first == second


def test_a_demo_image_can_be_asked(client: FlaskClient, queue: PlaygroundQueue) -> None:
    answer = client.post("/playground", data={"prompts": "x", "choice": "02-wide.jpg"})
    assert answer.status_code == 200
    assert len(queue.submitted) == 1


def test_whatever_comes_from_outside_is_escaped(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.ended = [
        {
            "at": EVIL,
            "project": EVIL,
            "task": EVIL,
            "outcome": "failed",
            "ms": 1,
            "error": EVIL,
            "detail": EVIL,
        }
    ]
    queue.trouble = EVIL
    queue.projects = [progress(EVIL, reasons={EVIL: EVIL})]
    pages = [
        client.get("/", headers={**BROWSER, "Host": "<script>alert('x')"}).text,
        ask(client, prompts=EVIL).text,
        ask(client, prompts=EVIL, threshold=EVIL, choice=KEPT + EVIL).text,
        ask(client, image=(io.BytesIO(b"x"), EVIL)).text,
    ]
    for page in pages:
        assert "<script>" not in page
        assert "alert" in page


def test_a_task_of_another_day_is_told_with_the_day(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    at = "2026-11-27T22:15:42.130+00:00"
    queue.ended = [{"at": at, "project": 3, "task": 7, "outcome": "done", "model_version": "x"}]
    assert ">2026-11-27 22:15:42</time>" in client.get("/", headers=BROWSER).text


def test_what_waits_is_told_with_the_time_that_it_takes(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    assert "done in about" not in client.get("/", headers=BROWSER).text
    for queue.waiting, told in ((7, "14 s"), (300, "10 min"), (9000, "5 h")):
        page = client.get("/", headers=BROWSER).text
        assert f"{queue.waiting}, done in about {told}" in page


def test_what_keeps_predictions_from_label_studio_is_told(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.trouble = "Label Studio refuses the token."
    assert "Label Studio refuses the token." in client.get("/", headers=BROWSER).text


def test_what_is_wrong_with_the_broker_is_told_to_people_and_programs(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.warned = ["The broker drops answers."]
    assert '<p class="error">The broker drops answers.</p>' in client.get("/", headers=BROWSER).text
    assert client.get("/health").get_json()["warnings"] == queue.warned


def test_projects_are_shown_with_the_reasons_of_what_failed(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    reasons = {str(task): f"reason {task}" for task in range(100, 200)}
    queue.projects = [progress(42, reasons=reasons)]
    page = client.get("/", headers=BROWSER).text
    assert re.search(r'<th scope="row">42</th>\s*<td>clipseg-1-2</td>', page)
    assert "task 100: reason 100" in page
    assert "reason 150" not in page  # /jobs has them all


def run_of(project: object, **changes: Any) -> dict[str, Any]:
    return {"project": project, "news": 0, "next": None, "last": None, **changes}


def test_trainings_are_shown_with_progress_and_outcome(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    assert "<h3>Training</h3>" not in client.get("/", headers=BROWSER).text
    look = {"step": 25, "steps": 400, "loss": 0.51234, "iou": 0.70456, "seconds_left": 300.0}
    last = {"state": "done", "version": "abc", "outcome": "promoted", "reason": f"better {EVIL}"}
    queue.training = [
        run_of(41, state="training", images=0, **look, last=last),
        run_of(42, **last, last=last, news=7, next={"job": "train-42-2", "in_seconds": 40.0}),
        run_of(43, state="images", images=12),
        run_of(44, state="failed", reason="too few tasks", news=3),
    ]
    page = client.get("/", headers=BROWSER).text
    assert "step 25 of 400, loss 0.512, about 5 min left" in page
    assert '<progress max="400" value="25"' in page
    assert "0.705" in page
    assert "<code>abc</code> promoted" in page
    assert "better &lt;script&gt;" in page
    assert "in 40 s; 7 new" in page
    assert "12 images" in page
    assert "too few tasks" in page
    assert "No trainer runs" not in page
    queue.trainers = 0
    assert "No trainer runs" in client.get("/", headers=BROWSER).text


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"prompts": ""}, 400, "Nothing to look for"),
        ({"threshold": "2"}, 400, "between 0 and 1"),
        ({"image": (io.BytesIO(b"text"), "a.txt")}, 400, "a.txt is no image"),
        ({"image": (io.BytesIO(bytes(2**20 + 1)), "a.png")}, 400, "a.png has more than 1 MB"),
        ({"image": (io.BytesIO(bytes(2**24)), "b.png")}, 400, "has more than 1 MB"),
        ({"prompts": "x" * 2**24}, 400, "has more than 1 MB"),
    ],
)
def test_a_form_that_cannot_be_used_is_answered_with_the_reason(
    client: FlaskClient, queue: PlaygroundQueue, changes: dict[str, Any], status: int, told: str
) -> None:
    answer = ask(client, **changes)
    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert told in answer.text
    assert queue.submitted == []


@pytest.mark.parametrize("headers", [{}, BROWSER])
def test_an_upload_that_stops_halfway_is_answered_with_the_page(
    client: FlaskClient, headers: dict[str, str]
) -> None:
    class Stopping(io.BytesIO):
        def readinto(self, buffer: object, /) -> int:
            raise BlockingIOError

    answer = client.post(
        "/playground",
        input_stream=Stopping(bytes(100)),
        content_type="multipart/form-data; boundary=b",
        environ_overrides={"CONTENT_LENGTH": "100", "wsgi.input_terminated": True},
        headers=headers,
    )
    assert answer.status_code == 400
    assert "did not come whole" in answer.text
    assert 'id="ask"' in answer.text


def test_what_was_typed_is_still_there_after_an_error(client: FlaskClient) -> None:
    form = {"prompts": "my phrase", "threshold": "7", "choice": "03-portrait.jpg"}
    page = client.post("/playground", data=form).text
    assert ">my phrase</textarea>" in page
    assert re.search(r'value="03-portrait.jpg" checked', page)


@pytest.mark.parametrize(
    "form", [{"prompts": "not a pan"}, {"threshold": "7"}, {"prompts": "a pan"}]
)
def test_a_file_is_still_there_when_it_could_not_be_asked(
    client: FlaskClient, queue: PlaygroundQueue, form: dict[str, str]
) -> None:
    queue.pulses = []
    page = ask(client, choice="03-portrait.jpg", **form).text
    (checked,) = re.findall(r'name="choice" value="([^"]+)" checked', page)
    assert b64decode(checked.removeprefix(KEPT)) == picture()[0].read()


@pytest.mark.parametrize(
    ("error", "status"), [("BadPrompt", 400), ("InternalError", 500), ("Strange", 502)]
)
def test_what_the_worker_could_not_do_is_told(
    client: FlaskClient, queue: PlaygroundQueue, error: str, status: int
) -> None:
    queue.answer = lambda _: {"error": error, "detail": "too long for the model"}
    answer = ask(client)
    assert answer.status_code == status
    assert "too long for the model" in answer.text
    assert error not in answer.text  # a name for programs


def test_an_answer_that_never_comes_is_told(client: FlaskClient, queue: PlaygroundQueue) -> None:
    queue.answer = lambda _: None
    assert ask(client).status_code == 504


def test_visitors_who_wait_never_take_all_threads(queue: PlaygroundQueue) -> None:
    client = module.create_app(Settings(threads=5), queue).test_client()  # type: ignore[arg-type]
    refused: list[TestResponse] = []

    def find(payload: dict[str, Any]) -> dict[str, Any]:
        refused.append(ask(client))
        return queue.find(payload)

    queue.answer = find
    assert ask(client).status_code == 200
    assert [one.status_code for one in refused] == [503]
    assert "wait already" in refused[0].text
    queue.answer = queue.find
    assert ask(client).status_code == 200  # the seat is free again


def test_who_finds_no_seat_can_press_again_with_everything_still_there(
    queue: PlaygroundQueue,
) -> None:
    client = module.create_app(Settings(threads=5), queue).test_client()  # type: ignore[arg-type]
    refused: list[str] = []

    def find(payload: dict[str, Any]) -> dict[str, Any]:
        refused.append(ask(client, prompts="my phrase", choice="03-portrait.jpg").text)
        refused.append(ask(client, image=(io.BytesIO(bytes(KEPT_BYTES + 1)), "mine.png")).text)
        return queue.find(payload)

    queue.answer = find
    ask(client)
    page, unkept = refused
    (checked,) = re.findall(r'name="choice" value="([^"]+)" checked', page)
    assert b64decode(checked.removeprefix(KEPT)) == picture()[0].read()
    assert ">my phrase</textarea>" in page
    assert ("add it again" in page, "add it again" in unkept) == (False, True)


def test_without_a_worker_nobody_waits(client: FlaskClient, queue: PlaygroundQueue) -> None:
    queue.pulses = []
    answer = ask(client)
    assert answer.status_code == 503
    assert "the model is loading" in answer.text
    assert queue.submitted == []


def test_a_broker_that_is_down_is_told_on_the_page(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.down = True
    page = client.get("/", headers=BROWSER)
    assert page.status_code == 200
    assert "the broker does not answer" in page.text
    assert ask(client).status_code == 503


def test_a_broker_that_hangs_is_waited_for_once(
    client: FlaskClient, queue: PlaygroundQueue
) -> None:
    queue.down = True
    client.get("/", headers=BROWSER)
    assert queue.refused == 1


def test_an_answers_address_leads_back_to_the_page(client: FlaskClient) -> None:
    assert client.get("/playground").headers["Location"] == "/"


def test_credentials_cover_the_page_and_its_parts(queue: PlaygroundQueue) -> None:
    settings = Settings(basic_auth_user="u", basic_auth_pass="p")
    client = module.create_app(settings, queue).test_client()  # type: ignore[arg-type]
    for path in ("/", "/static/page.css", "/samples/01-table.jpg"):
        refused = client.get(path, headers=BROWSER)
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic")
        granted = client.get(path, headers=BROWSER, auth=("u", "p"), buffered=True)
        assert granted.status_code == 200
    assert client.post("/playground").status_code == 401
