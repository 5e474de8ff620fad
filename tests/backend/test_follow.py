"""What Label Studio is brought to when another version is served."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from backend.connect import connect
from backend.errors import LabelStudioError
from backend.follow import follow
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.studio import UNCERTAINTY
from backend.labelstudio.wiring import Address
from backend.sampling import ENOUGH
from backend.service import Backend
from tests.backend.fake_label_studio import FakeLabelStudio

OLD, NEW = "clipseg-1-1", "clipseg-1-2-1"
OURS = Address("http://web:9090", "ml", "secret")


class Serving(Backend):
    """A backend that serves a version, and remembers what it is to predict."""

    def __init__(self, version: str = NEW) -> None:
        super().__init__(OURS)
        self.tasks: list[Mapping[str, Any]] = []
        self._version = version

    def version(self, project: int, label_config: str) -> str:
        return self._version

    def hand_over(
        self, project: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        self.tasks += tasks
        return {}


@pytest.fixture
def project(studio: FakeLabelStudio, client: LabelStudio) -> int:
    """A project that is connected and goes by the old version, with the new one served."""
    studio.credentials = (OURS.user or "", OURS.password or "")
    number = studio.add_project()
    connect(client, number, OURS)
    studio.look(NEW)
    return number


@pytest.fixture
def scored(studio: FakeLabelStudio, project: int) -> Callable[..., int]:
    def add(score: float | None, version: str = OLD) -> int:
        task = studio.add_task(project, image="a.png")
        if score is not None:
            one = {"project": project, "task": task, "score": score, "model_version": version}
            studio.predictions.append({**one, "result": []})
        return task

    return add


def test_open_tasks_are_predicted_anew_the_least_certain_first(
    studio: FakeLabelStudio, client: LabelStudio, project: int, scored: Callable[..., int]
) -> None:
    sure, unsure, new, middle = scored(0.9), scored(0.1), scored(None), scored(0.5)
    studio.annotate(scored(0.2), [])  # labeled
    scored(0.3, NEW)  # has its prediction already
    backend = Serving()
    told = follow(client, backend, project)
    assert [task["id"] for task in backend.tasks] == [new, unsure, middle, sure]
    assert all(set(task) == {"id", "data"} for task in backend.tasks)
    assert "4 tasks" in told


def test_the_project_and_the_connection_move_to_the_new_version(
    studio: FakeLabelStudio, client: LabelStudio, project: int
) -> None:
    follow(client, Serving(), project)
    [backend] = studio.backends.values()
    assert backend["title"] == NEW
    assert (backend["url"], backend["basic_auth_pass"]) == (OURS.url, OURS.password)
    assert studio.projects[project]["model_version"] == NEW
    before = repr((studio.projects, studio.backends))
    follow(client, Serving(), project)
    assert repr((studio.projects, studio.backends)) == before


def test_a_project_that_waited_for_it_is_served_by_uncertainty_before_anything_is_predicted(
    studio: FakeLabelStudio, client: LabelStudio, project: int, scored: Callable[..., int]
) -> None:
    connect(client, project, OURS, "uncertainty")
    for _ in range(ENOUGH):
        studio.annotate(scored(None), [])
    scored(0.5)

    class Ordered(Serving):
        def hand_over(
            self, project: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
        ) -> dict[str, Any]:
            assert studio.projects[project]["sampling"] == UNCERTAINTY
            return super().hand_over(project, label_config, tasks)

    backend = Ordered()
    assert "served by uncertainty sampling from now on" in follow(client, backend, project)
    assert len(backend.tasks) == 1
    assert "from now on" not in follow(client, Serving(), project)


def test_a_connection_that_answers_with_another_version_is_left_alone_and_told(
    studio: FakeLabelStudio, client: LabelStudio, project: int, scored: Callable[..., int]
) -> None:
    scored(None)
    studio.look(OLD)
    backend = Serving()
    with pytest.raises(LabelStudioError, match=f"connect --project {project}"):
        follow(client, backend, project)
    assert len(backend.tasks) == 1
    assert [one["title"] for one in studio.backends.values()] == [OLD]


def test_a_project_without_a_connection_has_nothing_to_move(
    studio: FakeLabelStudio, client: LabelStudio
) -> None:
    number = studio.add_project()
    assert "no connection" in follow(client, Serving(), number)
