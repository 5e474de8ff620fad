"""What a trainer makes of what keeps a training from going on."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import pytest

from backend.errors import AlreadyTraining, BackendError, LabelStudioUnavailable
from backend.learning.gauge import Gauge
from backend.reader import Reader
from backend.trainer import MOST_DEATHS, Trainer
from backend.training import Run, TrainingLane
from backend.trainscripts import Word


class Lane:
    """One project that is due whenever somebody asks, and how long its runs pause."""

    def __init__(self) -> None:
        self.pauses: list[int] = []
        self.deaths = 0
        self.ended: list[tuple[str, str]] = []

    def take(self, trainer: str) -> Run:
        return Run(7, 1, self.deaths)

    def pause(self, run: Run, trainer: str, seconds: int, reason: str) -> None:
        self.pauses.append(seconds)

    def renew(self, run: Run, trainer: str) -> Word:
        return Word.GO_ON

    def to_follow(self) -> list[tuple[int, str]]:
        return []

    def pulse(self, trainer: str) -> None:
        pass

    end_pulse = pulse

    def end(self, run: Run, trainer: str, state: str, **told: str) -> None:
        self.ended.append((state, told["reason"]))


class NoEvents:
    def read(self) -> bool:
        return False


def work(
    lane: object,
    reader: object,
    learn: Callable[..., Any],
    gauges: Sequence[Gauge],
    stopping: Callable[[], bool],
) -> None:
    """A trainer's life, until it is to stop."""
    trainer = Trainer(
        cast(TrainingLane, lane),
        "one",
        cast(Reader, reader),
        learn,
        lambda _: "",
        gauges,
        stopping,
    )
    trainer.run()


@pytest.mark.parametrize(
    ("errors", "pauses"),
    [
        ([LabelStudioUnavailable("away")] * 3, [5, 10, 20]),
        ([AlreadyTraining("busy")] * 2, [5, 10]),
        (
            [
                LabelStudioUnavailable("away"),
                LabelStudioUnavailable("busy", 42.0),
                LabelStudioUnavailable("busy", 1.0),
                LabelStudioUnavailable("away"),
            ],
            [5, 42, 1, 10],
        ),
    ],
)
def test_a_training_waits_as_long_as_label_studio_asks_for_or_ever_longer(
    errors: list[BackendError], pauses: list[int]
) -> None:
    lane, left = Lane(), list(errors)

    def learn(*_: Any) -> NoReturn:
        raise left.pop(0)

    work(lane, NoEvents(), learn, [], lambda: not left)
    assert lane.pauses == pauses


def test_a_run_in_which_trainers_keep_dying_is_given_up_and_what_to_do_is_told() -> None:
    lane = Lane()
    lane.deaths = MOST_DEATHS

    def learn(*_: object) -> NoReturn:
        raise AssertionError

    work(lane, NoEvents(), learn, [], lambda: bool(lane.ended))
    ((state, reason),) = lane.ended
    assert state == "failed"
    for part in ("died 3 times", "project 7", "given up", "TRAIN_MEMORY_MB", "ask for a training"):
        assert part in reason


def test_what_was_accepted_before_a_training_was_asked_for_is_read_before_it_begins() -> None:
    waiting: list[str] = []
    learnt: list[list[str]] = []

    class Asked(Lane):
        """A training is asked for right after the trainer has looked for events."""

        def take(self, trainer: str) -> Run:
            waiting.append("accepted")
            return super().take(trainer)

    class Events:
        def read(self) -> bool:
            waiting.clear()
            return False

    def learn(*_: Any) -> NoReturn:
        learnt.append([*waiting])
        raise LabelStudioUnavailable("away")

    work(Asked(), Events(), learn, [], lambda: bool(learnt))
    assert learnt == [[]]


def test_events_are_read_while_something_is_measured() -> None:
    reads: list[str] = []
    measured: list[bool] = []

    class Idle(Lane):
        def take(self, trainer: str) -> None:  # type: ignore[override]
            return None

    class Events:
        def read(self) -> bool:
            reads.append("some")
            return False

    class Slow:
        def catch_up(self) -> bool:
            before, end = len(reads), time.monotonic() + 10
            while len(reads) == before and time.monotonic() < end:
                time.sleep(0.01)
            measured.append(len(reads) > before)
            return True

    work(
        Idle(), Events(), lambda *_: cast(Any, None), [cast(Gauge, Slow())], lambda: bool(measured)
    )
    assert measured == [True]


def test_a_training_that_is_asked_for_waits_for_one_measurement_at_most() -> None:
    done: list[str] = []

    class Asked(Lane):
        """A training is asked for while the first of two projects is measured."""

        def take(self, trainer: str) -> Run | None:  # type: ignore[override]
            return super().take(trainer) if done else None

    def learn(*_: Any) -> NoReturn:
        done.append("trained")
        raise LabelStudioUnavailable("away")

    gauge = Gauge(lambda project: done.append(f"measured {project}"), "it", quiet=0.0)
    gauge.news(1)
    gauge.news(2)
    work(Asked(), NoEvents(), learn, [gauge], lambda: "trained" in done)
    assert done == ["measured 1", "trained"]
