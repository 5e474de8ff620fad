from itertools import pairwise

import pytest

from backend.errors import LabelStudioUnavailable
from backend.learning import gauge as module
from backend.learning.gauge import Gauge


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_project_is_measured_once_when_its_news_have_ended(clock: Clock) -> None:
    measured: list[int] = []
    gauge = Gauge(measured.append, "it", quiet=5.0)
    for now in (0.0, 3.0, 6.0):
        clock.now = now
        gauge.news(1)
        gauge.catch_up()
    assert measured == []
    clock.now = 11.0
    gauge.catch_up()
    gauge.catch_up()
    assert measured == [1]


def test_what_cannot_be_measured_costs_the_others_nothing(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    measured: list[int] = []

    def measure(project: int) -> None:
        if project == 1:
            raise LabelStudioUnavailable("it does not answer")
        measured.append(project)

    gauge = Gauge(measure, "it", quiet=5.0)
    gauge.news(1)
    gauge.news(2)
    clock.now = 9.0
    while gauge.catch_up():
        pass
    assert measured == [2]
    assert "project 1 is not measured: it does not answer" in caplog.text


def test_projects_are_measured_one_at_a_time(clock: Clock) -> None:
    measured: list[int] = []
    gauge = Gauge(measured.append, "it", quiet=5.0)
    gauge.news(1)
    gauge.news(2)
    clock.now = 9.0
    assert gauge.catch_up()
    assert measured == [1]
    assert gauge.catch_up()
    assert measured == [1, 2]
    assert not gauge.catch_up()


def test_news_while_it_measures_count_again(clock: Clock) -> None:
    measured: list[int] = []

    def measure(project: int) -> None:
        measured.append(project)
        if len(measured) == 1:
            gauge.news(project)

    gauge = Gauge(measure, "it", quiet=5.0)
    gauge.news(1)
    clock.now = 6.0
    gauge.catch_up()
    clock.now = 12.0
    gauge.catch_up()
    assert measured == [1, 1]


def test_a_project_that_takes_long_is_measured_seldom(clock: Clock) -> None:
    measured: list[float] = []

    def measure(_: int) -> None:
        measured.append(clock.now)
        clock.now += 30.0

    gauge = Gauge(measure, "it", quiet=5.0)
    for _ in range(140):
        gauge.news(1)
        clock.now += 10.0
        gauge.catch_up()
    assert [later - before for before, later in pairwise(measured)] == [600.0, 600.0]


def test_news_without_an_end_are_measured_all_the_same(clock: Clock) -> None:
    measured: list[float] = []
    gauge = Gauge(lambda _: measured.append(clock.now), "it", quiet=5.0)
    for _ in range(50):
        gauge.news(1)
        clock.now += 3.0
        gauge.catch_up()
    assert measured == [60.0, 120.0]


def test_it_takes_twice_as_many_news_each_time_unless_they_are_pressing(clock: Clock) -> None:
    measured: list[int] = []
    gauge = Gauge(lambda _: measured.append(came), "it", quiet=5.0, growth=2)
    for came in range(1, 21):
        gauge.news(1, pressing=came == 5)
        clock.now += 6.0
        gauge.catch_up()
    assert measured == [1, 3, 5, 9, 17]


def test_pressing_news_put_off_no_others(clock: Clock) -> None:
    measured: list[int] = []
    gauge = Gauge(lambda _: measured.append(came), "it", quiet=5.0, growth=2)
    for came in range(1, 81):
        gauge.news(1, pressing=came <= 20)  # who begins types something else each time
        clock.now += 6.0
        gauge.catch_up()
    assert [came for came in measured if came > 20] == [22, 26, 34, 50]


def test_what_could_not_be_measured_is_with_the_next_news(clock: Clock) -> None:
    tried: list[int] = []

    def measure(_: int) -> None:
        tried.append(int(clock.now // 100))
        if tried[-1] == 15:
            raise LabelStudioUnavailable("it does not answer")

    gauge = Gauge(measure, "it", quiet=5.0, growth=2)
    for came in range(1, 21):
        clock.now = 100.0 * came
        gauge.news(1)
        for _ in range(3):  # however long nothing comes
            clock.now += 6.0
            gauge.catch_up()
    assert tried == [1, 3, 7, 15, 16]


def test_a_defect_costs_the_figures_only(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    gauge = Gauge(lambda _: [][1], "the length", quiet=5.0)
    gauge.news(1)
    clock.now = 6.0
    gauge.catch_up()
    assert "the length of project 1 is not measured: a defect" in caplog.text
