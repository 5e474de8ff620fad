"""What was typed counts before the editor has saved it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient
from redis.exceptions import ConnectionError

from backend.web.lately import LARGEST
from tests.backend.web.instant import InstantQueue, body

CONFIG = """<View><TextArea name="prompt" toName="i"/>{}<Image name="i" value="$image"/>
<BrushLabels name="brush" toName="i"><Label value="cat"/></BrushLabels></View>"""
NOTE = '<TextArea name="note" toName="i" smart="false"/>'
NOTHING = {"regions": [], "score": 0.5, "model_version": "v", "remark": "cat: nothing found"}
PHRASES = [{"text": "red", "likely": 0.9}, {"text": "a blue star", "likely": 0.8}]
LISTED = {**NOTHING, "phrases": PHRASES, "remark": ""}
BOX = {
    "id": "r",
    "type": "rectanglelabels",
    "from_name": "box",
    "to_name": "i",
    "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["cat"]},
}
Ask = Callable[..., dict[str, str]]


def text(words: str) -> dict[str, Any]:
    return {"id": "t", "type": "textarea", "from_name": "prompt", "value": {"text": [words]}}


def draft(words: str, at: float) -> dict[str, Any]:
    return {"result": [text(words)], "updated_at": datetime.fromtimestamp(at, UTC).isoformat()}


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    """Sends an annotator's request; gives what the answer writes, by text area."""

    def send(*regions: Any, task: Any = 7, controls: str = "", drafts: Any = ()) -> dict[str, str]:
        request = {
            "tasks": [{"id": task, "data": {"image": "i.png"}, "drafts": list(drafts)}],
            "project": "3.1",
            "label_config": CONFIG.format(controls),
            "params": {"context": {"result": list(regions)}},
        }
        (answer,) = body(client.post("/predict", json=request))["results"]
        written = (one for one in answer["result"] if one["type"] == "textarea")
        return {one["from_name"]: " ".join(one["value"]["text"]) for one in written}

    return send


def prompts(queue: InstantQueue) -> list[str | None]:
    """What workers were asked for, oldest first."""
    return [job["interaction"]["prompt"] for jobs, _ in queue.submitted for job in jobs]


def test_a_phrase_counts_for_what_is_drawn_at_once(queue: InstantQueue, ask: Ask) -> None:
    ask(text("a red one"))
    ask(BOX)
    ask(BOX, task=8)
    assert prompts(queue) == ["a red one", "a red one", None]


def test_what_finds_nothing_leaves_what_was_typed(queue: InstantQueue, ask: Ask) -> None:
    ask(text("a red one"))
    queue.answer = NOTHING
    assert ask(BOX) == {"prompt": "a red one ⚠ cat: nothing found"}
    assert ask(BOX) == {"prompt": "a red one ⚠ cat: nothing found"}


def test_a_draft_that_is_newer_counts(queue: InstantQueue, ask: Ask) -> None:
    ask(text("a red one"))
    ask(BOX, drafts=[draft("an old one", time.time() - 9)])
    ask(BOX, drafts=[draft("a new one", time.time() + 9)])
    assert prompts(queue) == ["a red one", "a red one", "a new one"]


@pytest.mark.parametrize("controls", ["", NOTE])
def test_a_number_that_is_typed_over_a_list_at_once_chooses_of_it(
    queue: InstantQueue, ask: Ask, controls: str
) -> None:
    found, queue.answer = queue.answer, LISTED
    assert ask(text("?"), controls=controls)
    queue.answer = found
    for number in "212":  # of the list that the first answer wrote over, too
        ask(text(number), controls=controls)
    ask(BOX, controls=controls)
    assert prompts(queue)[1:] == ["a blue star", "red", "a blue star", "a blue star"]


def test_texts_beyond_all_measure_are_left_to_drafts(queue: InstantQueue, ask: Ask) -> None:
    ask(text("x" * LARGEST))
    assert not queue.held


def test_without_the_broker_the_draft_counts(
    queue: InstantQueue, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(queue, "get", away)
    monkeypatch.setattr(queue, "set", away)
    ask(text("a red one"))
    ask(BOX, drafts=[draft("saved", time.time())])
    assert prompts(queue) == ["a red one", "saved"]
