"""Events as webhooks bring them, and the accepted work that they add up to."""

import itertools
import json
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backend.labelstudio import brush
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.events import Annotated, Event, Kind
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.collected import Collected, Counts
from backend.learning.dataset import Account
from tests.backend.learning.strokes import samples

PROJECT = 7
RECORDED = Path(__file__).parents[2] / "recorded"
XML = label_config(["Car", "Dog"])


def event(kind: Kind, **rest: Any) -> dict[str, Any]:
    """As the inbox gives it."""
    told: dict[str, Any] = json.loads(json.dumps(asdict(Event(kind, "X", PROJECT, **rest))))
    return told


def saved(number: int, task: int = 1, at: int = 1, **rest: Any) -> dict[str, Any]:
    """An annotation, saved in some second."""
    one = Annotated(
        annotation=number,
        task=task,
        data={"image": f"{task}.png"},
        result=({"id": f"region of {at}"},),
        cancelled=False,
        updated_at=f"2026-11-21T22:57:{at:02}.5Z",
    )
    return event(Kind.ANNOTATED, saved=[{**asdict(one), **rest}])


def deleted(*numbers: int) -> dict[str, Any]:
    return event(Kind.UNANNOTATED, annotations=numbers)


def after(folder: Path, events: Sequence[dict[str, Any]]) -> Collected:
    for one in events:
        Collected(folder).take(one)
    return Collected(folder)


def regions(collected: Collected) -> dict[int, list[str]]:
    """The regions that are held, by annotation."""
    return {
        annotation["id"]: [region["id"] for region in annotation["result"]]
        for task in collected.tasks(PROJECT)
        for annotation in task["annotations"]
    }


def test_what_the_editor_submitted_is_a_task_as_the_api_has_it(tmp_path: Path) -> None:
    body = json.loads((RECORDED / "webhook-ANNOTATION_CREATED-from-editor.json").read_text())[
        "json"
    ]
    collected = after(tmp_path, [json.loads(json.dumps(asdict(Event.from_json(body))))])
    (task,) = collected.tasks(1)
    (annotation,) = task["annotations"]
    assert (task["id"], task["data"]) == (1, body["task"]["data"])
    for name in ("id", "was_cancelled", "ground_truth", "completed_by", "updated_at", "lead_time"):
        assert annotation[name] == body["annotation"][name]
    assert annotation["parent_prediction"] == 1
    assert [one["id"] for one in annotation["result"]] == [
        one["id"] for one in body["annotation"]["result"]
    ]
    assert collected.label_config(1) == body["project"]["label_config"]


def test_nothing_secret_of_a_project_reaches_the_disk(tmp_path: Path) -> None:
    for path in RECORDED.glob("webhook-*.json"):
        body = json.loads(path.read_text())["json"]
        body.get("project", {})["token"] = "s3cret"
        Collected(tmp_path).take(json.loads(json.dumps(asdict(Event.from_json(body)))))
    held = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert held
    assert not any(b"s3cret" in path.read_bytes() for path in held)


def test_collected_masks_are_samples(tmp_path: Path) -> None:
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    region = {
        "id": "r",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": 4,
        "original_width": 6,
        "value": {"rle": b64encode(brush.encode(mask)).decode(), "brushlabels": ["Car"]},
    }
    collected = after(tmp_path, [saved(3, result=[region])])

    class Images:
        def fetch(self, url: str) -> TaskImage:
            assert url == "1.png"
            return TaskImage(Image.new("RGB", (6, 4)), url)

    account = Account()
    (sample,) = samples(collected.tasks(PROJECT), parse_label_config(XML), Images(), account)
    assert (sample.mask("Car") == mask).all()
    assert account.absent == {"Dog": 1}


STORY = [
    saved(1, task=1, at=1),
    saved(1, task=1, at=5),
    saved(2, task=1, at=2),
    saved(3, task=2, at=3),
    deleted(2),
    event(Kind.TASKS_REMOVED, tasks=[2]),
]


@settings(max_examples=50)
@given(st.permutations([*STORY, *STORY[:2]]))
def test_events_lead_to_the_same_in_any_order_and_twice(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]]
) -> None:
    collected = after(tmp_path_factory.mktemp("models"), events)
    assert regions(collected) == {1: ["region of 5"]}


def test_times_are_compared_as_times(tmp_path: Path) -> None:
    later = saved(1, updated_at="2026-11-21T22:57:01.200000Z", result=[{"id": "later"}])
    whole = saved(1, updated_at="2026-11-21T22:57:01Z", result=[{"id": "earlier"}])
    elsewhere = saved(1, updated_at="2026-11-22T00:57:00+02:00", result=[{"id": "earlier"}])
    assert regions(after(tmp_path, [later, whole, elsewhere])) == {1: ["later"]}


def test_counts_tell_what_is_new(tmp_path: Path) -> None:
    skipped = saved(2, at=1, cancelled=True)
    story = [
        (saved(1, at=1), Counts(1, 0, 0)),
        (saved(1, at=1), Counts(1, 0, 0)),  # heard twice
        (skipped, Counts(1, 0, 0)),
        (saved(2, at=2), Counts(2, 0, 0)),  # after all
        (saved(1, at=3), Counts(2, 1, 0)),
        (saved(1, at=2), Counts(2, 1, 0)),  # late
        (saved(2, at=4, cancelled=True), Counts(2, 1, 1)),
        (deleted(1, 2, 99), Counts(2, 1, 2)),
        (deleted(1), Counts(2, 1, 2)),
        (event(Kind.TRAIN), Counts(2, 1, 2)),
    ]
    collected = Collected(tmp_path)
    assert collected.counts(PROJECT) == Counts()
    for one, counts in story:
        collected.take(one)
        assert collected.counts(PROJECT) == counts


def test_an_import_of_annotations_is_kept_at_once(tmp_path: Path) -> None:
    rows = [saved(number, task=number % 3)["saved"][0] for number in range(9)]
    collected = after(tmp_path, [event(Kind.ANNOTATED, saved=rows)])
    tasks = list(collected.tasks(PROJECT))
    assert [task["id"] for task in tasks] == [0, 1, 2]
    assert [one["id"] for one in tasks[1]["annotations"]] == [1, 4, 7]
    assert collected.counts(PROJECT).accepted == 9


def test_many_deletions_at_once_wait_for_the_disk_a_few_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads events may do so for a minute, and Label Studio tells of 5,000 at once."""
    collected = after(tmp_path, [saved(1, task=1), saved(2, task=6000)])
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    for _ in range(2):
        collected.take(event(Kind.TASKS_REMOVED, tasks=tuple(range(1, 5001))))
    assert len(waits) < 20
    assert [task["id"] for task in collected.tasks(PROJECT)] == [6000]
    collected.take(saved(3, task=5000))
    assert [task["id"] for task in collected.tasks(PROJECT)] == [6000]


def test_an_import_waits_for_the_disk_once_for_each_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = after(tmp_path, [saved(1)])
    rows = [saved(number, task=number)["saved"][0] for number in range(2, 102)]
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    collected.take(event(Kind.ANNOTATED, saved=rows))
    assert len(waits) <= len(rows) + 2  # the files, the project's, and their folder
    assert collected.counts(PROJECT).accepted == 101


def test_the_newest_labeling_configuration_counts(tmp_path: Path) -> None:
    told = [("<View>new</View>", "2026-11-21T22:00:09Z"), (XML, "2026-11-21T22:00:01Z")]
    for order in itertools.permutations(told):
        folder = tmp_path / order[0][1][-3:-1]
        collected = Collected(folder)
        assert collected.label_config(PROJECT) is None
        for xml, at in order:
            collected.take(event(Kind.PROJECT_CHANGED, label_config=xml, project_updated_at=at))
        assert collected.label_config(PROJECT) == "<View>new</View>"


def made(at: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    """Events of the project that was created then."""
    return [{**one, "project_created_at": at} for one in events]


FORMER = made("2026-01-01T00:00:00Z", saved(1, task=1), saved(2, task=2), saved(3), deleted(3))
ANEW = made("2026-11-21T22:56:46Z", saved(3, task=3, at=4), saved(2, task=1, at=5))


@settings(max_examples=50)
@given(st.permutations([*FORMER, *ANEW]))
def test_of_a_project_that_was_made_anew_nothing_of_the_one_before_it_counts(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]]
) -> None:
    """A Label Studio that is set up anew gives the same numbers to other things."""
    collected = after(tmp_path_factory.mktemp("models"), events)
    assert regions(collected) == {2: ["region of 5"], 3: ["region of 4"]}


def test_what_was_collected_of_the_project_before_is_kept_for_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = event(Kind.PROJECT_CHANGED, label_config=XML, project_updated_at="2026-01-01T00:00:01Z")
    after(tmp_path, [*made("2026-01-01T00:00:00Z", told), *FORMER])
    aside = tmp_path / "set-aside" / f"{PROJECT}-2026-01-01T00-00-00"
    before, now = Collected(tmp_path).take(ANEW[0])
    assert (now - before) == Counts(accepted=1)
    assert Collected(tmp_path).label_config(PROJECT) is None
    assert {path.name for path in aside.iterdir()} == {"project.json", "1-1.json", "2-2.json"}
    assert json.loads((aside / "project.json").read_text())["label_config"] == XML
    assert str(aside) in caplog.text


def test_setting_a_project_aside_goes_on_where_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    collected = after(tmp_path, FORMER)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            collected.take(ANEW[0])
    after(tmp_path, ANEW)
    assert regions(collected) == {2: ["region of 5"], 3: ["region of 4"]}


def test_a_file_that_cannot_be_read_costs_the_others_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collected = after(tmp_path, [saved(1, task=1), saved(2, task=2)])
    (tmp_path / str(PROJECT) / "collected" / "1-1.json").write_text("{")
    assert regions(collected) == {2: ["region of 1"]}
    assert "1-1.json is left out" in caplog.text
    collected.take(saved(1, task=1))
    assert set(regions(collected)) == {1, 2}


JUNK = [
    *("{}", "[]", "5", "null", '"text"', "[" * 100_000),
    *('{"data": {}, "annotation": {}}', '{"data": [], "annotation": []}'),
    '{"data": {}, "annotation": {"id": 1, "was_cancelled": false, "updated_at": 5, "result": []}}',
    *('{"label_config": 5, "updated_at": "", "counts": {}}', '{"counts": {"accepted": "5"}}'),
    '{"label_config": null, "updated_at": "", "counts": {"accepted": null}}',
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: junk[:60])
@pytest.mark.parametrize("name", ["1-1.json", "project.json"])
def test_a_file_of_the_wrong_form_is_made_anew_by_what_comes_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, junk: str
) -> None:
    told = event(Kind.PROJECT_CHANGED, label_config=XML, project_updated_at="2026-11-21T22:00:09Z")
    collected = after(tmp_path, [told, saved(1, task=1), saved(2, task=2)])
    path = tmp_path / str(PROJECT) / "collected" / name
    path.write_text(junk)
    assert set(regions(collected)) == ({2} if name == "1-1.json" else {1, 2})
    assert collected.label_config(PROJECT) in {None, XML}
    collected.counts(PROJECT)
    assert f"{path} is left out" in caplog.text
    for one in (told, saved(1, task=1), deleted(2)):
        collected.take(one)
    assert set(regions(collected)) == {1}
    assert collected.label_config(PROJECT) == XML
    assert collected.counts(PROJECT).removed == 1


def test_an_event_without_a_project_changes_nothing(tmp_path: Path) -> None:
    Collected(tmp_path).take({**saved(1), "project": None})
    assert list(tmp_path.iterdir()) == []


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    events = [saved(number, task=number % 5) for number in range(40)] + [deleted(3, 4)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Collected(tmp_path).take, events * 2))
    collected = Collected(tmp_path)
    assert set(regions(collected)) == set(range(40)) - {3, 4}
    counts = collected.counts(PROJECT)
    assert counts.accepted - counts.removed == 38
