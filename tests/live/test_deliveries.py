"""The queue on a real broker, with workers and askers that die at any step."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from rq.utils import as_text

from backend import journal
from backend.delivery import Deliveries, group_of
from backend.pusher import LOCK, Pusher
from backend.queue import QUEUE, Asking, PredictionQueue
from backend.scripts import MOST_UNPUSHED, PREFIX
from tests.live.conftest import LABEL_CONFIG, wait_until
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live

VERSION = "v1"
GROUP = group_of(PROJECT, VERSION)
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


@pytest.fixture
def queue(redis: Redis) -> PredictionQueue:
    redis.flushdb()
    return PredictionQueue(redis)


def payloads(*tasks: int) -> list[dict[str, Any]]:
    return [
        {"task": {"id": task, "data": {}}, "label_config": LABEL_CONFIG, "project": PROJECT}
        for task in tasks
    ]


def answer(task: int) -> dict[str, Any]:
    return {"regions": [], "score": task / 10_000, "model_version": VERSION}


class Hand:
    """A worker without a model, one step at a time."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.deliveries = Deliveries(redis)
        self.worked: list[int] = []

    def take(self) -> str | None:
        self.deliveries.feed(2)
        raw = self.redis.lmove(f"rq:queue:{QUEUE}", "held")
        return as_text(raw) if raw else None

    def give(self, job: str, failing: frozenset[int] = frozenset()) -> None:
        task = int(self.redis.hget(f"rq:job:{job}", "pb_task") or 0)
        self.worked.append(task)
        told = {"error": "ImageMissing", "detail": "gone"} if task in failing else answer(task)
        with self.redis.pipeline() as pipeline:
            self.deliveries.deliver(pipeline, job, told)
            pipeline.delete(f"rq:job:{job}")
            pipeline.lrem("held", 1, job)
            pipeline.execute()

    def work(self, most: int = 10**9, failing: frozenset[int] = frozenset()) -> int:
        done = 0
        while done < most and (job := self.take()):
            self.give(job, failing)
            done += 1
        return done

    def die(self) -> None:
        """What is held goes back, as `backend.recovery` does it."""
        while self.redis.lmove("held", f"rq:queue:{QUEUE}", "RIGHT", "LEFT"):
            pass


def ask(queue: PredictionQueue, *tasks: int) -> Asking:
    urgent = len(tasks) == 1
    return queue.submit(payloads(*tasks), urgent=urgent, deadline=90, group=GROUP)


def collect(queue: PredictionQueue, asking: Asking, seconds: float = 0.0) -> list[bool]:
    """Whether there was an answer, per task."""
    answers = queue.wait(asking, time.monotonic() + seconds, NEVER)
    return [one is not None for one in answers]


def lose_leases(redis: Redis) -> None:
    """As if every asker had died some time ago."""
    for key in redis.keys(f"{PREFIX}lease:*"):
        redis.delete(key)


def pending(redis: Redis) -> int:
    return redis.hlen(f"{PREFIX}pending:{GROUP}")


def push_all(queue: PredictionQueue, studio: Studio) -> None:
    pusher = Pusher(queue.connection, studio)
    queue.deliveries.recover()
    while jobs := queue.deliveries.take(25, seconds=0) if unpushed(queue) else []:
        pusher.push(jobs)


def unpushed(queue: PredictionQueue) -> int:
    return queue.connection.llen(f"{PREFIX}outbox")


def test_what_is_late_is_pushed_and_what_was_in_time_is_not(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 7), ""))
    hand = Hand(queue.connection)
    asking = ask(queue, 1, 2, 3, 4, 5, 6)
    hand.work(2)
    assert collect(queue, asking, 1) == [True, True, False, False, False, False]
    queue.finish(asking)
    assert pending(queue.connection) == 4
    hand.work()
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in (3, 4, 5, 6)}
    assert pending(queue.connection) == 0
    (group,) = queue.jobs()["projects"]
    assert (group["answered"], group["pushed"], group["failed"]) == (2, 4, 0)


def test_an_answer_at_the_very_deadline_goes_one_way_only(queue: PredictionQueue) -> None:
    hand = Hand(queue.connection)
    asking = ask(queue, 1, 2)
    hand.work(1)  # ready, not collected when the deadline comes
    assert collect(queue, asking, -1) == [True, False]
    hand.work()
    assert unpushed(queue) == 1


def test_a_pending_task_is_not_worked_on_twice_and_the_last_asker_gets_it(
    queue: PredictionQueue,
) -> None:
    hand = Hand(queue.connection)
    first = ask(queue, 1, 2)
    second = ask(queue, 1, 2, 3)
    assert collect(queue, first, 5) == [False, False]  # told at once that others wait for them
    hand.work()
    assert collect(queue, second, 5) == [True, True, True]
    assert sorted(hand.worked) == [1, 2, 3]
    queue.finish(second)
    assert pending(queue.connection) == 0


def test_who_opens_a_task_that_waits_in_the_background_is_served_first(
    queue: PredictionQueue,
) -> None:
    queue.submit_background(payloads(*range(1, 30)), GROUP)
    hand = Hand(queue.connection)
    opened = ask(queue, 20)
    hand.work(1)
    assert hand.worked == [20]
    assert collect(queue, opened, 1) == [True]


def test_an_answer_that_waits_to_be_pushed_is_given_to_who_asks_for_it(
    queue: PredictionQueue,
) -> None:
    queue.submit_background(payloads(1, 2), GROUP)
    Hand(queue.connection).work()
    assert unpushed(queue) == 2
    assert collect(queue, ask(queue, 2), 1) == [True]
    assert unpushed(queue) == 1


def test_an_answer_on_its_way_is_not_asked_for_again(queue: PredictionQueue) -> None:
    queue.submit_background(payloads(1), GROUP)
    hand = Hand(queue.connection)
    hand.work()
    (job,) = queue.deliveries.take(5, seconds=1)
    asking = ask(queue, 1)
    assert asking.jobs == ("",)
    assert collect(queue, asking, 5) == [False]
    queue.deliveries.acknowledge([job], "pushed")
    assert hand.work() == 0


def test_a_request_made_up_before_a_push_is_not_worked_on_after_it(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: ""})
    hand = Hand(queue.connection)
    queue.submit_background(payloads(1), GROUP)
    chosen = [row["id"] for row in studio.tasks(PROJECT, lacking=VERSION)]
    hand.work()
    push_all(queue, studio)
    asking = ask(queue, *chosen)
    hand.work()
    assert collect(queue, asking, 1) == [False, True]
    assert hand.worked == [1, 2]


def test_what_an_asker_collected_before_it_died_is_pushed(queue: PredictionQueue) -> None:
    hand = Hand(queue.connection)
    asking = ask(queue, 1, 2, 3)
    hand.work(2)
    collect(queue, asking, 0.1)  # and never finishes
    lose_leases(queue.connection)
    queue.deliveries.sweep()
    hand.work()
    assert unpushed(queue) == 3
    studio = Studio(LABEL_CONFIG, {1: "", 2: "", 3: ""})
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in (1, 2, 3)}


def test_an_asker_taken_for_dead_answers_nothing(queue: PredictionQueue) -> None:
    asking = ask(queue, 1)
    Hand(queue.connection).work()
    lose_leases(queue.connection)
    queue.deliveries.sweep()
    assert collect(queue, asking, 0.1) == [False]
    assert unpushed(queue) == 1


def test_without_a_group_nothing_is_left_behind(queue: PredictionQueue) -> None:
    hand = Hand(queue.connection)
    asking = queue.submit(payloads(1, 2, 3), urgent=False, deadline=90)
    hand.work(1)
    assert collect(queue, asking, 0.1) == [True, False, False]
    queue.finish(asking)
    assert hand.work() == 1  # it was in the queue already
    assert unpushed(queue) == 0
    assert not queue.connection.keys(f"{PREFIX}answer:*")
    assert not queue.connection.keys(f"{PREFIX}a*r*")


def test_failures_are_counted_with_reasons_and_forgotten_once_they_work(
    queue: PredictionQueue,
) -> None:
    queue.submit_background(payloads(1, 2), GROUP)
    hand = Hand(queue.connection)
    hand.work(failing=frozenset({2}))
    (group,) = queue.jobs(PROJECT)["projects"]
    assert group["reasons"] == {2: "ImageMissing: gone"}
    assert group["pending"] == 1
    queue.submit_background(payloads(2), GROUP)
    hand.work()
    push_all(queue, Studio(LABEL_CONFIG, {1: "", 2: ""}))
    (group,) = queue.jobs(PROJECT)["projects"]
    assert (group["failed"], group["pushed"], group["pending"]) == (0, 2, 0)
    assert queue.jobs(8)["projects"] == []


def test_the_background_pauses_while_too_much_waits_to_be_pushed(queue: PredictionQueue) -> None:
    queue.submit_background(payloads(*range(1, MOST_UNPUSHED + 101)), GROUP)
    hand = Hand(queue.connection)
    worked = hand.work()
    assert MOST_UNPUSHED <= worked < MOST_UNPUSHED + 10
    asking = ask(queue, 9001, 9002)
    hand.work()
    assert collect(queue, asking, 1) == [True, True]  # those who wait are served all the same
    push_all(queue, Studio(LABEL_CONFIG, dict.fromkeys(range(1, 1000), "")))
    assert hand.work() > 0


def test_a_deleted_task_is_dropped_with_a_word(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 3: ""})
    queue.submit_background(payloads(1, 2, 3), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1, (3, VERSION): 1}
    dropped = [entry for entry in queue.jobs()["ended"] if entry["outcome"] == "dropped"]
    assert [(entry["task"], entry["detail"]) for entry in dropped] == [(2, "the task was deleted")]
    assert pending(queue.connection) == 0


def test_a_pusher_that_died_after_saving_does_not_save_twice(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 31), ""))
    queue.submit_background(payloads(*range(1, 31)), GROUP)
    Hand(queue.connection).work()

    def die() -> None:
        raise KeyboardInterrupt

    studio.after_saving = die
    with pytest.raises(KeyboardInterrupt):
        push_all(queue, studio)
    assert len(studio.saved) == 25
    studio.after_saving = lambda: None
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in range(1, 31)}


def test_two_pushers_take_turns_and_label_studio_may_be_away(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 101), ""))
    studio.down = True
    queue.submit_background(payloads(*range(1, 101)), GROUP)
    Hand(queue.connection).work()
    ended = threading.Event()
    pushers = [Pusher(queue.connection, studio, ended.is_set) for _ in range(2)]
    threads = [threading.Thread(target=pusher.run) for pusher in pushers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: queue.jobs()["unpushed"]["trouble"] is not None)
        assert not studio.saved
        studio.down = False
        wait_until(lambda: len(studio.saved) == 100)
        wait_until(lambda: pending(queue.connection) == 0)
        assert queue.jobs()["unpushed"] == {"count": 0, "trouble": None}
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)
    assert set(studio.copies().values()) == {1}
    assert not queue.connection.exists(LOCK)


STEPS = ("work", "take", "give", "die", "ask", "open", "prelabel", "end", "crash", "push")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 12)), max_size=40))
def test_whatever_dies_every_task_reaches_label_studio_once(
    queue: PredictionQueue, steps: list[tuple[str, int]]
) -> None:
    """Label Studio has what an asker sent and what was pushed; it asks only for what it lacks."""
    queue.connection.flushdb()
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 13), ""))
    hand = Hand(queue.connection)
    asked: set[int] = set()
    open_requests: list[tuple[list[int], Asking]] = []

    def lacking(*wanted: int) -> list[int]:
        there = {one["task"] for one in studio.saved}
        return [task for task in dict.fromkeys(wanted) if task not in there]

    def request(*wanted: int) -> None:
        tasks = lacking(*wanted)
        asked.update(tasks)
        if tasks:
            open_requests.append((tasks, ask(queue, *tasks)))

    def end_request(send: bool) -> None:
        if open_requests:
            tasks, asking = open_requests.pop(0)
            got = collect(queue, asking, 0)
            if send:
                studio.saved += [
                    {"task": task, "model_version": VERSION}
                    for task, there in zip(tasks, got, strict=True)
                    if there
                ]
                queue.finish(asking)

    for step, pick in steps:
        match step:
            case "work":
                hand.work(pick)
            case "take":
                hand.take()
            case "give":
                for held in queue.connection.lrange("held", 0, -1):
                    hand.give(as_text(held))
            case "die":
                hand.die()
            case "ask":
                request(*range(pick, 13, 2))
            case "open":
                request(pick)
            case "prelabel":
                tasks = lacking(*range(1, pick + 1))
                asked.update(tasks)
                queue.submit_background(payloads(*tasks), GROUP)
            case "end":
                end_request(send=True)
            case "crash":
                end_request(send=False)
            case "push":
                push_all(queue, studio)
    while open_requests:
        end_request(send=False)
    lose_leases(queue.connection)
    queue.deliveries.sweep()
    hand.die()
    hand.work()
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in asked}
    assert pending(queue.connection) == 0
    left = [
        key
        for key in map(as_text, queue.connection.keys("*"))
        if not key.startswith((journal.KEY, f"{PREFIX}counts", f"{PREFIX}pushed"))
    ]
    assert left == ([f"{PREFIX}groups"] if asked else [])


def test_two_thousand_tasks_survive_deaths_in_the_middle(queue: PredictionQueue) -> None:
    tasks = range(1, 2001)
    studio = Studio(LABEL_CONFIG, dict.fromkeys(tasks, ""))
    hand = Hand(queue.connection)
    queue.submit_background(payloads(*tasks[:900]), GROUP)  # the command dies here
    for _ in range(100):
        hand.work(7)
        hand.take()
        hand.die()
        push_all(queue, studio)
    saved = {one["task"] for one in studio.saved}
    queue.submit_background(payloads(*(set(tasks) - saved)), GROUP)  # and begins again
    while hand.work(50):
        jobs = queue.deliveries.take(25, seconds=1)
        assert jobs  # a pusher that dies with them
        push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in tasks}
    assert sorted(hand.worked) == list(tasks)
