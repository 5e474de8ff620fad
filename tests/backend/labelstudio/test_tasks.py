import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from backend.errors import BadRequest, ImageMissing
from backend.labelstudio.tasks import LAST_ID, Task, image_url, project_id

RECORDED = Path(__file__).parents[2] / "recorded"


def recorded(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())["json"]
    return body


def test_recorded_tasks_keep_id_and_data_only() -> None:
    tasks = [Task.from_json(raw) for raw in recorded("predict-batch-two-tasks")["tasks"]]
    assert tasks == [
        Task(1, {"image": "/data/upload/1/a6165a57-sample0.png"}),
        Task(2, {"image": "/data/local-files/?d=pics/sample1.png"}),
    ]


def test_a_task_may_have_no_id() -> None:
    assert Task.from_json({"data": {}}) == Task(None, {})


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (None, "NoneType"),
        ([], "list"),
        ("task", "str"),
        ({}, "task None has no data"),
        ({"id": 7}, "task 7 has no data"),
        ({"id": 7, "data": "x.png"}, "task 7 has no data"),
        ({"id": [1], "data": {}}, "not list"),
    ],
)
def test_what_is_no_task_is_refused(raw: object, told: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        Task.from_json(raw)
    assert told in str(refusal.value)


def test_the_image_url_is_read_from_the_configured_field() -> None:
    assert image_url(Task(1, {"image": "a.png", "other": 5}), "image") == "a.png"


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("product.photos[1]", {"product": {"photos": ["a.png", "b.png"]}}),
        ("pages[0].url", {"pages": [{"url": "b.png"}]}),
        ("pages[0]", {"pages[0]": "b.png", "pages": ["a.png"]}),
        ("product.photo", {"product": {"photo": "a.png"}, "product.photo": "b.png"}),
    ],
)
def test_the_image_url_may_be_inside_a_field(key: str, data: dict[str, Any]) -> None:
    assert image_url(Task(1, data), key) == "b.png"


@pytest.mark.parametrize(
    "url", ["s3://bucket/pics/ä b+c.jpg", "gs://bucket/a.png", " azure-blob://box/a.png"]
)
def test_an_image_in_cloud_storage_is_asked_of_label_studio(url: str) -> None:
    asked = urlsplit(image_url(Task(5, {"image": url}), "image"))
    [named] = parse_qs(asked.query)["fileuri"]
    assert asked.path == "/tasks/5/resolve/"
    assert urlsafe_b64decode(named).decode() == url.strip()


def test_the_image_url_may_be_made_of_fields() -> None:
    task = Task(1, {"name": "b.png", "in": {"folder": 7}})
    assert image_url(task, "https://host/$in.folder?file=$name") == "https://host/7?file=b.png"
    with pytest.raises(ImageMissing, match=r'no "https://host/\$other"'):
        image_url(task, "https://host/$other")


@pytest.mark.parametrize(
    "data",
    [{}, {"photo": "a.png"}, {"image": None}, {"image": ""}, {"image": " ", "photo": "a.png"}],
)
def test_a_task_without_its_image_is_told(data: dict[str, Any]) -> None:
    with pytest.raises(ImageMissing, match='task 3 has no "image"') as told:
        image_url(Task(3, data), "image")
    assert str(told.value).endswith("holds photo" if "photo" in data else "holds nothing")


@pytest.mark.parametrize("key", ["a.b", "a[0]", "list[2]", "list.x", "text[0]", "list[-1]", "[0]"])
def test_a_path_that_leads_nowhere_is_no_image(key: str) -> None:
    data = {"a": None, "list": ["x.png"], "text": "x.png"}
    with pytest.raises(ImageMissing, match=r"its data holds list, text"):
        image_url(Task(3, data), key)


def test_an_image_field_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadRequest, match="is list, not an image URL"):
        image_url(Task(3, {"image": ["a.png"]}), "image")


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        ("1.1795303384", 1),
        ("42", 42),
        (7, 7),
        ("", None),
        (None, None),
        (True, None),
        ("x.1", None),
        ("-1.5", None),
        (["1"], None),
        (LAST_ID, LAST_ID),
        (f"{LAST_ID}.1795", LAST_ID),
        ("007", 7),
        ("0.1795", None),
    ],
)
def test_the_project_id_stands_before_the_dot(raw: object, number: int | None) -> None:
    assert project_id(raw) == number


@pytest.mark.parametrize("raw", [LAST_ID + 1, 10**300, str(LAST_ID + 1), "9" * 5000 + ".1795"])
def test_a_project_id_that_no_database_gives_is_refused(raw: object) -> None:
    with pytest.raises(BadRequest, match=f'"project" is at most {LAST_ID}, not [0-9]{{19,40}}[.]$'):
        project_id(raw)


def test_recorded_projects_have_their_id() -> None:
    assert project_id(recorded("setup")["project"]) == 1
    assert project_id(recorded("webhook-START_TRAINING")["project"]["id"]) == 1
