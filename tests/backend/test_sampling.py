"""When the least certain tasks come first."""

from collections.abc import Callable

import pytest

from backend.connect import connect
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.studio import UNCERTAINTY
from backend.labelstudio.wiring import Address
from backend.sampling import ENOUGH, UNIFORM, reconsider, waits
from tests.backend.fake_label_studio import FakeLabelStudio

OURS = Address("http://web:9090", "ml", "secret")


@pytest.fixture
def project(studio: FakeLabelStudio) -> int:
    studio.credentials = (OURS.user or "", OURS.password or "")
    return studio.add_project()


@pytest.fixture
def annotate(studio: FakeLabelStudio, project: int) -> Callable[[int], None]:
    def some(count: int) -> None:
        for _ in range(count):
            studio.annotate(studio.add_task(project, image="a.png"), [])

    return some


def later(studio: FakeLabelStudio, client: LabelStudio, project: int) -> bool:
    """A version is served anew; gives whether the order has changed."""
    (connection,) = studio.backends.values()
    return reconsider(client, client.project(project), connection, OURS)


def test_the_least_certain_come_first_once_enough_is_annotated(
    studio: FakeLabelStudio,
    client: LabelStudio,
    project: int,
    annotate: Callable[[int], None],
) -> None:
    annotate(ENOUGH - 2)
    told = connect(client, project, OURS, "uncertainty")
    assert f"uniform sampling, and by uncertainty sampling once {ENOUGH}" in told[-1]
    assert studio.projects[project]["sampling"] == UNIFORM
    annotate(1)
    assert not later(studio, client, project)
    assert studio.projects[project]["sampling"] == UNIFORM
    annotate(1)
    assert later(studio, client, project)
    assert studio.projects[project]["sampling"] == UNCERTAINTY
    assert not later(studio, client, project)
    (connection,) = studio.backends.values()
    assert connection["extra_params"] is None
    assert connection["basic_auth_pass"] == OURS.password


def test_connecting_again_brings_the_order_that_was_to_come(
    studio: FakeLabelStudio,
    client: LabelStudio,
    project: int,
    annotate: Callable[[int], None],
) -> None:
    connect(client, project, OURS, "uncertainty")
    annotate(ENOUGH)
    assert "uncertainty sampling from now on" in connect(client, project, OURS)[-1]
    assert studio.projects[project]["sampling"] == UNCERTAINTY


def test_where_enough_is_annotated_they_come_first_at_once(
    studio: FakeLabelStudio,
    client: LabelStudio,
    project: int,
    annotate: Callable[[int], None],
) -> None:
    annotate(ENOUGH)
    told = connect(client, project, OURS, "uncertainty")
    assert told[-1] == "Tasks are served by uncertainty sampling."
    assert studio.projects[project]["sampling"] == UNCERTAINTY
    (connection,) = studio.backends.values()
    assert not waits(connection)


@pytest.mark.parametrize("by_command", [True, False])
def test_who_chooses_another_order_meanwhile_keeps_it(
    studio: FakeLabelStudio,
    client: LabelStudio,
    project: int,
    annotate: Callable[[int], None],
    by_command: bool,
) -> None:
    connect(client, project, OURS, "uncertainty")
    if by_command:
        connect(client, project, OURS, "sequential")
    else:
        client.update_project(project, sampling="Sequential sampling")
    annotate(ENOUGH)
    assert not later(studio, client, project)
    assert studio.projects[project]["sampling"] == "Sequential sampling"
    (connection,) = studio.backends.values()
    assert not waits(connection)


def test_connecting_again_changes_neither_order_nor_wish(
    studio: FakeLabelStudio, client: LabelStudio, project: int
) -> None:
    connect(client, project, OURS, "uncertainty")
    before = repr((studio.projects, studio.backends))
    connect(client, project, OURS)
    assert repr((studio.projects, studio.backends)) == before


@pytest.mark.parametrize("extra", [{"k": [1, 2]}, [1], None])
def test_other_extra_parameters_of_a_connection_stay(
    studio: FakeLabelStudio,
    client: LabelStudio,
    project: int,
    annotate: Callable[[int], None],
    extra: object,
) -> None:
    connect(client, project, OURS)
    (connection,) = studio.backends.values()
    connection["extra_params"] = extra
    connect(client, project, OURS, "uncertainty")
    assert waits(connection)
    annotate(ENOUGH)
    assert later(studio, client, project)
    assert connection["extra_params"] == (extra if isinstance(extra, dict) else None)
