"""A pull of accepted work: what is fetched, what is kept, and when that no longer counts."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.diskcache import DiskCache
from backend.errors import LabelStudioUnavailable
from backend.labelstudio.client import PAGE, PAGE_OF_REGIONS, LabelStudio
from backend.learning.pulled import Pulled
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio, serving

Json = dict[str, Any]


@pytest.fixture
def pulled(studio: FakeLabelStudio, tmp_path: Path) -> Callable[[], Pulled]:
    """A process that pulls; another one finds what it kept."""
    return lambda: Pulled(LabelStudio(studio.url, TOKEN), DiskCache(tmp_path / "kept", 2**20))


def annotated(studio: FakeLabelStudio, count: int) -> tuple[int, list[int]]:
    """A project with tasks, and the annotation that each of them has."""
    project = studio.add_project()
    tasks = [studio.add_task(project, image=f"{number}.jpg") for number in range(count)]
    return project, [studio.annotate(task, [stroke(task)]) for task in tasks]


def stroke(number: int) -> Json:
    return {"id": str(number), "value": {"rle": [number % 256, 0, 255], "brushlabels": ["Car"]}}


def told(tasks: list[Json]) -> list[tuple[int, list[list[str]]]]:
    """The tasks, and the ids of the regions of each of their annotations."""
    return [
        (task["id"], [[region["id"] for region in one["result"]] for one in task["annotations"]])
        for task in tasks
    ]


def test_after_an_interruption_only_the_rest_is_fetched(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    project, _ = annotated(studio, 3 * PAGE + 7)
    first = list(islice(pulled().annotated_tasks(project), PAGE + 1))  # two pages, then a kill
    assert [len(page) for page in studio.regions_of] == [PAGE_OF_REGIONS] * 10
    studio.regions_of.clear()
    found = list(pulled().annotated_tasks(project))
    assert [len(page) for page in studio.regions_of] == [*([PAGE_OF_REGIONS] * 5), 7]
    assert found[: PAGE + 1] == first
    assert told(found) == [(n, [[str(n)]]) for n in sorted(studio.tasks)]


def test_who_was_cut_off_goes_on_when_label_studio_is_back(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    project, _ = annotated(studio, 2 * PAGE)
    tasks = pulled().annotated_tasks(project)
    list(islice(tasks, PAGE))
    studio.away = True
    with pytest.raises(LabelStudioUnavailable):
        next(tasks)
    studio.away = False
    assert len(list(pulled().annotated_tasks(project))) == 2 * PAGE
    assert len(studio.regions_of) == 2 * PAGE / PAGE_OF_REGIONS


def test_what_changed_since_it_was_kept_is_seen(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    project, annotations = annotated(studio, 5)
    tasks = sorted(studio.tasks)
    list(pulled().annotated_tasks(project))
    studio.regions_of.clear()
    studio.change(annotations[0], result=[stroke(100)])
    studio.delete(annotations[1])
    second = studio.annotate(tasks[2], [stroke(300)])
    del studio.tasks[tasks[3]]
    assert told(list(pulled().annotated_tasks(project))) == [
        (tasks[0], [["100"]]),
        (tasks[2], [[str(tasks[2])], ["300"]]),
        (tasks[4], [[str(tasks[4])]]),
    ]
    assert studio.regions_of == [[tasks[0], tasks[2]]]
    studio.delete(second)
    assert told(list(pulled().annotated_tasks(project)))[1] == (tasks[2], [[str(tasks[2])]])


def test_regions_that_changed_under_an_annotations_old_time_are_seen(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    """Label Studio's action that renames labels moves the time of the task only."""
    project, (annotation,) = annotated(studio, 1)
    list(pulled().annotated_tasks(project))
    ((_, task),) = studio.tasks.items()
    when = task["annotations"][0]["updated_at"]
    studio.change(annotation, result=[stroke(9)], updated_at=when)
    assert told(list(pulled().annotated_tasks(project)))[0][1] == [["9"]]


def test_all_but_the_regions_is_always_what_is_told_now(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    project, _ = annotated(studio, 1)
    list(pulled().annotated_tasks(project))
    ((_, task),) = studio.tasks.items()
    task["data"] = {"image": "moved.jpg"}
    task["annotations"][0]["ground_truth"] = True
    (found,) = pulled().annotated_tasks(project)
    assert found["data"] == {"image": "moved.jpg"}
    assert found["annotations"][0]["ground_truth"]
    assert len(studio.regions_of) == 1


def test_a_damaged_file_is_fetched_anew(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled], tmp_path: Path
) -> None:
    project, _ = annotated(studio, 3)
    before = list(pulled().annotated_tasks(project))
    for path, damage in zip(
        sorted((tmp_path / "kept").iterdir())[:2], (b"", b"\xff" * 99), strict=True
    ):
        path.write_bytes(damage)
    studio.regions_of.clear()
    assert list(pulled().annotated_tasks(project)) == before
    assert [len(page) for page in studio.regions_of] == [2]


def test_what_an_annotation_began_with_is_fetched_once_until_it_changes(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    project = studio.add_project()
    task = studio.add_task(project, image="1.jpg")
    pulled().api.create_predictions(
        project, [{"task": task, "result": [stroke(1)], "model_version": "v", "score": 0.5}]
    )
    number = studio.predictions[0]["id"]
    annotation = studio.annotate(task, [stroke(1)], parent_prediction=number)

    def began_with() -> Json | None:
        ((saved,),) = [one["annotations"] for one in pulled().annotated_tasks(project)]
        return pulled().began_with(task, saved)

    first = began_with()
    assert first is not None
    assert first["model_version"] == "v"
    studio.predictions.clear()
    assert began_with() == first
    assert studio.calls.count(f"GET /api/predictions/{number}") == 1
    studio.change(annotation)
    assert began_with() is None


def test_what_began_with_nothing_is_not_asked_for(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled]
) -> None:
    assert pulled().began_with(1, {"id": 1, "updated_at": "", "parent_prediction": None}) is None
    assert studio.calls == []


DEEDS = st.lists(
    st.tuples(st.sampled_from(["annotate", "change", "delete", "pull"]), st.integers(0, 5)),
    max_size=12,
)


@given(DEEDS)
def test_whatever_happens_between_pulls_they_tell_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, int]]
) -> None:
    kept = DiskCache(tmp_path_factory.mktemp("kept"), 2**20)
    with serving() as studio:
        project = studio.add_project()
        tasks = [studio.add_task(project, image=f"{n}.jpg") for n in range(3)]
        saved: list[int] = []
        for step, (deed, which) in enumerate([*deeds, ("pull", 0)]):
            if deed == "annotate":
                saved.append(studio.annotate(tasks[which % 3], [stroke(step)]))
            elif deed == "change" and saved:
                studio.change(saved[which % len(saved)], result=[stroke(1000 + step)])
            elif deed == "delete" and saved:
                studio.delete(saved.pop(which % len(saved)))
            elif deed == "pull":
                found = Pulled(LabelStudio(studio.url, TOKEN), kept).annotated_tasks(project)
                there = [task for task in studio.tasks.values() if task["annotations"]]
                assert json.dumps(told(list(found))) == json.dumps(told(there))


@pytest.mark.parametrize("result", [None, 5, {"id": "r"}, [None, 5, {"id": "r"}]])
def test_what_is_no_region_is_passed_on_as_it_is(
    studio: FakeLabelStudio, pulled: Callable[[], Pulled], result: Any
) -> None:
    project = studio.add_project()
    studio.annotate(studio.add_task(project, image="a.jpg"), result)
    for _ in ("fetched", "kept"):
        (task,) = pulled().annotated_tasks(project)
        assert task["annotations"][0]["result"] == result
