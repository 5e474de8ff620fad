"""The pusher on a real broker, with workers, askers and pushers that die at any step."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq.utils import as_text

from backend import journal, pusher
from backend.delivery import PUSHER, group_of
from backend.errors import LabelStudioUnavailable
from backend.labelstudio.studio import UNCERTAINTY
from backend.pusher import Pusher
from backend.queue import Asking, PredictionQueue
from backend.scripts import PREFIX
from tests.live.conftest import LABEL_CONFIG, wait_until
from tests.live.hand import (
    GROUP,
    VERSION,
    Hand,
    answer,
    ask,
    collect,
    lose_leases,
    payloads,
    pending,
    push_all,
)
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live


def test_answers_that_the_broker_evicted_are_not_on_their_way_for_good(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: "", 3: ""})
    queue.submit_background(payloads(1, 2, 3), GROUP)
    Hand(queue.connection).work()
    _, evicted, _ = queue.connection.lrange(f"{PREFIX}outbox", 0, -1)
    queue.connection.delete(f"{PREFIX}answer:{as_text(evicted)}")
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1, (3, VERSION): 1}
    assert queue.deliveries.unpushed() == pending(queue.connection) == 0
    queue.submit_background(payloads(2), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in (1, 2, 3)}


@pytest.mark.parametrize("sampling", ["Sequential sampling", UNCERTAINTY])
def test_clusters_are_sent_where_the_next_task_is_chosen_by_them(
    queue: PredictionQueue, sampling: str
) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 31), ""))
    studio.sampling = sampling
    queue.submit_background(payloads(*range(1, 31)), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in range(1, 31)}
    told = {one["task"]: one["cluster"] for one in studio.saved}
    chosen = sampling == UNCERTAINTY
    assert told == {task: task if chosen and task % 2 else None for task in range(1, 31)}
    assert pending(queue.connection) == 0


@pytest.mark.parametrize(("fitting", "saved"), [(2, [2, 4]), (0, [1, 2, 3, 4])])
def test_a_request_holds_what_its_bytes_allow_and_one_answer_at_least(
    queue: PredictionQueue, monkeypatch: pytest.MonkeyPatch, fitting: int, saved: list[int]
) -> None:
    monkeypatch.setattr(pusher, "MOST_BYTES", fitting * len(json.dumps(answer(2))))
    studio = Studio(LABEL_CONFIG, dict.fromkeys((2, 4, 6, 8), ""))
    queue.submit_background(payloads(2, 4, 6, 8), GROUP)
    Hand(queue.connection).work()
    after: list[int] = []
    studio.after_saving = lambda: after.append(len(studio.saved))
    push_all(queue, studio)
    assert after == saved


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


def test_a_pusher_that_was_suspended_does_not_save_what_another_saved_meanwhile(
    queue: PredictionQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container that is paused after it looked, for longer than the lock holds."""
    studio = Studio(LABEL_CONFIG, {1: "", 2: ""})
    queue.submit_background(payloads(1, 2), GROUP)
    Hand(queue.connection).work()
    look, woken = studio.tasks, threading.Event()

    def suspended(project: int, **wanted: Any) -> Iterator[dict[str, Any]]:
        seen = list(look(project, **wanted))
        if wanted.get("lacking") and not woken.is_set():
            woken.set()
            queue.connection.delete(PUSHER)
            push_all(queue, studio)
        return iter(seen)

    monkeypatch.setattr(studio, "tasks", suspended)
    Pusher(queue.connection, studio, woken.is_set).run()
    assert studio.copies() == {(1, VERSION): 1, (2, VERSION): 1}
    assert queue.deliveries.unpushed() == 0


def test_that_nobody_pushes_is_told_while_there_is_something_to_push(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: ""})
    assert queue.deliveries.trouble() is None
    queue.submit_background(payloads(1), GROUP)
    Hand(queue.connection).work()
    assert "No pusher runs" in (queue.progress(GROUP)["trouble"] or "")
    with queue.connection.lock(PUSHER, timeout=10):
        assert queue.deliveries.trouble() is None
    push_all(queue, studio)
    assert queue.deliveries.trouble() is None


def test_two_pushers_take_turns_and_label_studio_may_be_away(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 101), ""))
    studio.down = True
    queue.submit_background(payloads(*range(1, 101)), GROUP)
    Hand(queue.connection).work()
    ended = threading.Event()
    pushers = [Pusher(queue.connection, studio, ended.is_set) for _ in range(2)]
    threads = [threading.Thread(target=one.run) for one in pushers]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: "be reached" in (queue.deliveries.trouble() or ""))
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
    assert not queue.connection.exists(PUSHER)


def test_a_pusher_waits_as_long_as_label_studio_asks_for(
    queue: PredictionQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 600.0)
    studio = Studio(LABEL_CONFIG, {1: ""})
    studio.down, studio.busy = True, 0.5
    queue.submit_background(payloads(1), GROUP)
    Hand(queue.connection).work()
    ended = threading.Event()
    thread = threading.Thread(target=Pusher(queue.connection, studio, ended.is_set).run)
    thread.start()
    try:
        wait_until(lambda: "be reached" in (queue.deliveries.trouble() or ""))
        studio.down = False
        wait_until(lambda: len(studio.saved) == 1)
    finally:
        ended.set()
        thread.join(10)


def test_a_request_that_label_studio_may_still_carry_out_is_not_repeated_at_once(
    queue: PredictionQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a proxy in front of it gives up, and it saves what it was sent a little later."""
    monkeypatch.setattr(pusher, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(pusher, "IN_DOUBT", 2.0)
    studio = Studio(LABEL_CONFIG, {2: "", 4: ""})
    queue.submit_background(payloads(2, 4), GROUP)
    Hand(queue.connection).work()
    save, later = studio.create_predictions, list[threading.Timer]()

    def given_up(project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        if later:
            return save(project, predictions)
        later.append(threading.Timer(0.3, save, (project, list(predictions))))
        later[0].start()
        raise LabelStudioUnavailable("it took too long to answer")

    monkeypatch.setattr(studio, "create_predictions", given_up)
    Pusher(queue.connection, studio, lambda: pending(queue.connection) == 0).run()
    later[0].join()
    assert studio.copies() == {(2, VERSION): 1, (4, VERSION): 1}


def test_a_task_that_two_groups_ask_for_is_saved_once(queue: PredictionQueue) -> None:
    """As where another version was served between two requests, or none yet at the first."""
    studio = Studio(LABEL_CONFIG, {1: "", 2: "", 3: ""})
    queue.submit_background(payloads(1, 2), group_of(PROJECT, None))
    queue.submit_background(payloads(1, 2, 3), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in (1, 2, 3)}
    assert queue.deliveries.unpushed() == 0
    told = [(one["model_version"], one["pending"]) for one in queue.jobs()["projects"]]
    assert told == [(None, 0), (VERSION, 0)]


STEPS = ("work", "take", "give", "die", "ask", "open", "prelabel", "end", "crash", "push")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 12)), max_size=40),
    sampling=st.sampled_from(["Sequential sampling", UNCERTAINTY]),
)
def test_whatever_dies_every_task_reaches_label_studio_once(
    queue: PredictionQueue, steps: list[tuple[str, int]], sampling: str
) -> None:
    """Label Studio has what an asker sent and what was pushed; it asks only for what it lacks."""
    queue.connection.flushdb()
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 13), ""))
    studio.sampling = sampling
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
