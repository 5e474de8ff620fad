import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BadRequest, ImageMissing
from backend.labelstudio.config import TextControl, parse_label_config
from backend.labelstudio.regions import text_region
from backend.labelstudio.tasks import Task, image_url, project_id, typed_prompt

RECORDED = Path(__file__).parents[2] / "recorded"
PROMPT = TextControl("prompt", "image")
NOTE = TextControl("note", "image", smart=False)


def recorded(name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())["json"]
    return body


def typed(name: str, *lines: str) -> dict[str, Any]:
    return {"type": "textarea", "from_name": name, "value": {"text": list(lines)}}


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


@pytest.mark.parametrize("data", [{}, {"photo": "a.png"}, {"image": None}, {"image": ""}])
def test_a_task_without_its_image_is_told(data: dict[str, Any]) -> None:
    with pytest.raises(ImageMissing, match='task 3 has no "image"'):
        image_url(Task(3, data), "image")


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
        ("9" * 5000, None),
    ],
)
def test_the_project_id_stands_before_the_dot(raw: object, number: int | None) -> None:
    assert project_id(raw) == number


def test_recorded_projects_have_their_id() -> None:
    assert project_id(recorded("setup")["project"]) == 1
    assert project_id(recorded("webhook-START_TRAINING")["project"]["id"]) == 1


def test_a_recorded_prompt_is_read() -> None:
    request = recorded("predict-interactive-textarea")
    texts = parse_label_config(request["label_config"]).texts
    assert typed_prompt(request["params"]["context"], texts) == "red circle"


def test_a_recorded_prompt_is_found_among_other_controls() -> None:
    request = recorded("predict-interactive-textarea-with-other-controls")
    texts = parse_label_config(request["label_config"]).texts
    context = request["params"]["context"]
    prompts = [r["value"]["text"] for r in context["result"] if r["from_name"] == "prompt"]
    assert context["result"][0]["from_name"] != "prompt"
    assert typed_prompt(context, texts) == prompts[-1][-1]


@pytest.mark.parametrize("name", ["predict-interactive-keypoint-1", "predict-batch-two-tasks"])
def test_recorded_requests_without_text_have_no_prompt(name: str) -> None:
    request = recorded(name)
    texts = parse_label_config(request["label_config"]).texts
    assert typed_prompt(request["params"]["context"], texts) is None


def test_the_newest_text_counts() -> None:
    context = {"result": [typed("prompt", "cat"), typed("prompt", "dog", " red car ", " ")]}
    assert typed_prompt(context, (PROMPT,)) == "red car"


def test_text_may_be_a_bare_string() -> None:
    region = {"type": "textarea", "from_name": "prompt", "value": {"text": " dog "}}
    assert typed_prompt({"result": [region]}, (PROMPT,)) == "dog"


def test_the_text_area_named_prompt_goes_first_and_else_the_first_smart_one() -> None:
    first, second = TextControl("first", "image"), TextControl("second", "image")
    context = {"result": [typed("second", "2"), typed("note", "n"), typed("first", "1")]}
    assert typed_prompt(context, (NOTE, first, second)) == "1"
    assert typed_prompt(context, (NOTE, first, second, PROMPT)) is None
    context["result"].append(typed("prompt", "p"))
    assert typed_prompt(context, (NOTE, first, second, PROMPT)) == "p"


def test_text_areas_that_are_not_smart_never_prompt() -> None:
    assert typed_prompt({"result": [typed("note", "a dog")]}, (NOTE,)) is None
    assert typed_prompt({"result": [typed("note", "a dog")]}, ()) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "from_name", "value", "text"]), inner)
    ),
    max_leaves=8,
)


@given(json_values, json_values)
def test_garbage_for_a_context_is_no_prompt(context: object, value: object) -> None:
    assert typed_prompt(context, (PROMPT,)) is None
    assert typed_prompt({"result": context}, (PROMPT,)) is None
    region = {"type": "textarea", "from_name": "prompt", "value": value}
    prompt = typed_prompt({"result": [region]}, (PROMPT,))
    assert prompt is None or prompt.strip() == prompt != ""


def test_a_text_region_reads_back_as_the_prompt() -> None:
    region = text_region("prompt", "image", "try: red ball", "t1")
    assert typed_prompt({"result": [region]}, (PROMPT,)) == "try: red ball"
