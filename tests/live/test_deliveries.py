"""The queue on a real broker: who is answered, what is pushed, what waits."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict

import pytest
from rq import Queue

from backend.delivery import Answer
from backend.queue import (
    LISTED,
    PREDICT,
    PULSE,
    QUEUE,
    SERVING,
    WORKERS,
    PredictionQueue,
    WorkerPulse,
)
from backend.scripts import MOST_UNPUSHED, PREFIX
from backend.worker.jobs import BatchWorker
from tests.live.conftest import LABEL_CONFIG
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
    unpushed,
)
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live


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


def test_one_that_was_taken_for_dead_gets_none_of_what_is_pushed(queue: PredictionQueue) -> None:
    asking = ask(queue, 1, 2)
    Hand(queue.connection).work()
    lose_leases(queue.connection)
    assert collect(queue, asking, -1) == [False, False]
    queue.deliveries.sweep()
    assert unpushed(queue) == 2


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


def test_a_reason_that_quotes_half_a_character_is_given_all_the_same(
    queue: PredictionQueue,
) -> None:
    queue.submit_background(payloads(1), GROUP)
    job = Hand(queue.connection).take()
    assert job is not None
    with queue.connection.pipeline() as pipeline:
        told = {"error": "ImageMissing", "detail": "a\ud800.png"}
        queue.deliveries.deliver(pipeline, job, told)
        pipeline.delete(f"rq:job:{job}")
        pipeline.execute()
    (group,) = queue.jobs(PROJECT)["projects"]
    assert group["reasons"] == {1: "ImageMissing: a?.png"}


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


def test_a_job_is_its_workers_for_as_long_as_it_may_take(queue: PredictionQueue) -> None:
    """Else it would be given to another meanwhile, and no death be counted."""
    redis, held = queue.connection, list[tuple[int, int]]()

    def answerer(payloads: Sequence[Answer]) -> list[tuple[Answer, float]]:
        (key,) = redis.keys("rq:execution:*")
        over = redis.zcount("rq:wip:predictions", time.time() + 600, "+inf")
        held.append((redis.ttl(key), over))
        return [(answer(1), 0.1) for _ in payloads]

    pulse = WorkerPulse("w", "h", 1, "m", "c", "d", "cpu")
    worker = BatchWorker(redis, pulse, {PREDICT: answerer}, batch_size=4, job_timeout=600)
    queue.submit_background(payloads(1), GROUP)
    taken = worker.dequeue_job_and_maintain_ttl(1)
    assert taken is not None
    worker.execute_job(*taken)
    ((seconds, over),) = held
    assert seconds > 600
    assert over == 1
    assert unpushed(queue) == 1
    assert not redis.keys("rq:execution*")


def test_a_group_is_forgotten_with_what_is_known_of_it(queue: PredictionQueue) -> None:
    """Every version of every project is one: they would be listed for ever."""
    queue.submit_background(payloads(1), GROUP)
    queue.deliveries.sweep()
    assert [one["pending"] for one in queue.jobs()["projects"]] == [1]
    Hand(queue.connection).work()
    push_all(queue, Studio(LABEL_CONFIG, {1: ""}))
    queue.deliveries.sweep()
    assert [one["pushed"] for one in queue.jobs()["projects"]] == [1]
    queue.connection.delete(f"{PREFIX}counts:{GROUP}")  # as after a month
    queue.deliveries.sweep()
    assert queue.jobs()["projects"] == []


def test_workers_of_another_version_are_known_by_what_they_share(queue: PredictionQueue) -> None:
    pulse = WorkerPulse("w", "h", 1, "m", "c", "d", "cpu")
    told = {**asdict(pulse), "said since": 1}
    for newer, known in ((told, pulse), ({"name": "w", "device": "cpu"}, None)):
        queue.connection.sadd(WORKERS, "w")
        queue.connection.mset({PULSE + "w": json.dumps(newer), SERVING: json.dumps(newer)})
        assert queue.serving() == known
        assert queue.workers() == ([known] if known else [])


def test_a_task_that_is_in_a_request_twice_is_answered_twice(queue: PredictionQueue) -> None:
    hand = Hand(queue.connection)
    asking = ask(queue, 1, 2, 1)
    working = threading.Timer(1.5, hand.work)  # after the asker has looked
    working.start()
    assert collect(queue, asking, 5) == [True, True, True]
    working.join()
    assert sorted(hand.worked) == [1, 2]
    queue.finish(asking)
    assert pending(queue.connection) == 0


def test_a_job_that_somebody_else_put_into_the_queue_hides_no_other(queue: PredictionQueue) -> None:
    strangers = Queue(QUEUE, connection=queue.connection)  # with RQ's own serializer
    strangers.enqueue("subprocess.getoutput", "true", meta={"project": PROJECT})
    queue.submit_background(payloads(1), GROUP)
    told = queue.jobs()["queued"]
    assert told["count"] == 2
    assert [job["task"] for job in told["jobs"]] == [1]


def test_a_projects_jobs_are_told_in_their_turn_whatever_line_they_are_in(
    queue: PredictionQueue,
) -> None:
    others = payloads(*range(500, 500 + LISTED + 5))
    queue.submit_background([{**one, "project": 8} for one in others], "8:other")
    queue.submit_background(payloads(3, 4), GROUP)
    ask(queue, 1, 2)
    told = queue.jobs(PROJECT)["queued"]
    assert told["count"] == 4
    assert [job["task"] for job in told["jobs"]] == [1, 2, 3, 4]
    assert all(job["enqueued_at"] for job in told["jobs"])
    every = queue.jobs()["queued"]
    assert every["count"] == 4 + len(others)
    assert len(every["jobs"]) == LISTED
    # one was let into the queue before the others came
    assert [job["task"] for job in every["jobs"][:4]] == [500, 1, 2, 501]
