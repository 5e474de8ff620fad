"""The training lane on a real broker."""

import json
import time
from typing import Any

import pytest
from redis import Redis

from backend import training, trainscripts
from backend.training import Run, TrainingLane
from backend.trainscripts import Word
from tests.live.conftest import wait_until

pytestmark = pytest.mark.live

ONE, OTHER = "trainer-1", "trainer-2"


@pytest.fixture
def lane(redis: Redis) -> TrainingLane:
    redis.flushdb()
    return TrainingLane(redis)


def news(lane: TrainingLane, redis: Redis, count: int, after: int = 5, quiet: float = 60.0) -> None:
    before = int(redis.hget("promptbrush:training:told", "7") or 0)
    with redis.pipeline() as pipeline:
        lane.news(pipeline, 7, before, before + count, after, quiet)
        assert pipeline.execute() == [count]


def state(lane: TrainingLane) -> dict[str, Any]:
    (project,) = lane.overview()["projects"]
    return dict(project)


def taken(lane: TrainingLane, trainer: str = ONE) -> Run:
    run = lane.take(trainer)
    assert run is not None
    return run


def test_requests_that_wait_are_one_and_one_during_a_run_gives_one_more(
    lane: TrainingLane,
) -> None:
    assert [lane.request(7) for _ in range(3)] == ["train-7-1"] * 3
    first = taken(lane)
    assert (first.project, first.name, first.deaths) == (7, "train-7-1", 0)
    assert [lane.request(7) for _ in range(3)] == ["train-7-2"] * 3
    assert lane.take(OTHER) is None  # one run of a project at a time
    lane.end(first, ONE, "done")
    assert taken(lane, OTHER).name == "train-7-2"
    assert lane.take(ONE) is None
    assert lane.request(8) == "train-8-1"
    assert taken(lane).project == 8  # while 7 is trained by the other


def test_what_a_dead_trainer_held_is_taken_up_again_and_counted(
    lane: TrainingLane, redis: Redis
) -> None:
    lane.request(7)
    run = taken(lane)
    assert 0 < redis.ttl("promptbrush:training:lease:7") <= trainscripts.LEASE
    assert lane.give_back(OTHER) == 0
    assert lane.give_back(ONE) == 1
    assert state(lane)["state"] == "waiting"
    again = taken(lane, OTHER)
    assert (again.name, again.deaths) == (run.name, 1)
    assert lane.renew(run, ONE) is Word.LOST
    lane.end(run, ONE, "done")  # too late
    lane.pause(run, ONE, 60, "too late")
    assert lane.renew(again, OTHER) is Word.GO_ON
    lane.end(again, OTHER, "done")
    lane.request(7)
    assert taken(lane).deaths == 0


def test_a_pause_ends_by_itself_or_by_a_request_and_is_no_death(lane: TrainingLane) -> None:
    lane.request(7)
    run = taken(lane)
    lane.pause(run, ONE, 60, "Label Studio is away")
    assert lane.take(ONE) is None
    assert (state(lane)["state"], state(lane)["reason"]) == ("waiting", "Label Studio is away")
    assert lane.request(7) == run.name  # which goes on now
    assert taken(lane, OTHER) == run
    lane.pause(run, OTHER, 0, "stopped")
    assert taken(lane) == run
    lane.pause(run, ONE, 1, "a moment")
    wait_until(lambda: lane.take(OTHER) == run, 5)


def test_who_holds_a_run_starts_it_until_there_is_something_to_tell(lane: TrainingLane) -> None:
    lane.request(7)
    assert state(lane)["state"] == "waiting"
    run = taken(lane)
    assert state(lane)["state"] == "starting"
    lane.tell(run, state="training", step=20)
    assert (state(lane)["state"], state(lane)["step"]) == ("training", 20)
    lane.give_back(ONE)
    assert (state(lane)["state"], state(lane)["reason"]) == ("waiting", training.LEFT)
    assert "step" not in state(lane)
    run = taken(lane, OTHER)
    assert (state(lane)["state"], state(lane).get("reason")) == ("starting", None)
    assert "step" not in state(lane)  # the one before it was there
    lane.pause(run, OTHER, 0, "Label Studio is away")
    assert (state(lane)["state"], state(lane)["reason"]) == ("waiting", "Label Studio is away")
    taken(lane)
    assert (state(lane)["state"], state(lane).get("reason")) == ("starting", None)


def test_news_that_a_run_is_taken_up_again_with_make_no_other_one_due(
    lane: TrainingLane, redis: Redis
) -> None:
    lane.request(7)
    lane.tell(taken(lane), state="training", step=20)
    lane.give_back(ONE)
    run = taken(lane, OTHER)
    news(lane, redis, 28)  # it reads all that is accepted, as it would have at first
    assert (state(lane)["news"], state(lane)["next"]) == (0, None)
    lane.tell(run, state="measuring")
    news(lane, redis, 28)
    assert state(lane)["next"]["job"] == "train-7-2"


def test_news_make_a_training_due_after_a_quiet_time(lane: TrainingLane, redis: Redis) -> None:
    news(lane, redis, 4)
    assert state(lane)["news"] == 4
    assert state(lane)["next"] is None
    news(lane, redis, 1)
    asked = state(lane)["next"]
    assert asked["job"] == "train-7-1"
    assert 50 < asked["in_seconds"] <= 60
    assert lane.take(ONE) is None
    news(lane, redis, 5)  # twice as many: nobody waits for quiet any more
    taken(lane)
    assert state(lane)["news"] == 0


def test_news_are_what_was_not_told_before(lane: TrainingLane, redis: Redis) -> None:
    def counted(before: int, total: int) -> int:
        with redis.pipeline() as pipeline:
            lane.news(pipeline, 7, before, total, after=0, quiet=60.0)
            (count,) = pipeline.execute()
        return int(count)

    assert counted(500, 502) == 2  # of a project that the lane does not know yet
    assert counted(502, 502) == 0
    assert counted(505, 506) == 4  # three were kept, and then the broker was away
    assert counted(0, 1) == 1  # what had happened was lost, and begins anew
    assert state(lane)["news"] == 7


def test_more_news_put_a_training_off_but_never_one_that_was_asked_for(
    lane: TrainingLane, redis: Redis
) -> None:
    news(lane, redis, 5, quiet=30)
    news(lane, redis, 1, quiet=90)
    assert state(lane)["next"]["in_seconds"] > 80
    lane.request(7)
    news(lane, redis, 1, quiet=90)
    run = taken(lane)
    assert run.name == "train-7-1"
    lane.tell(run, state="measuring")
    news(lane, redis, 5)  # during the run: one more, later
    assert state(lane)["next"]["job"] == "train-7-2"


def test_news_that_a_run_begins_with_make_no_other_one_due(
    lane: TrainingLane, redis: Redis
) -> None:
    for _ in range(2):
        lane.request(7)
        run = taken(lane)
        news(lane, redis, 28)
        assert (state(lane)["news"], state(lane)["next"]) == (0, None)
        lane.tell(run, state="measuring")
        news(lane, redis, 3)
        assert (state(lane)["news"], state(lane)["next"]) == (3, None)
        lane.end(run, ONE, "done")
    news(lane, redis, 2)
    assert state(lane)["news"] == 5
    assert state(lane)["next"]["job"] == "train-7-3"


def test_with_zero_news_are_counted_only(lane: TrainingLane, redis: Redis) -> None:
    news(lane, redis, 100, after=0)
    assert (state(lane)["news"], state(lane)["next"]) == (100, None)


def test_a_run_that_is_stopped_hears_of_it(lane: TrainingLane) -> None:
    assert not lane.stop(7)
    lane.request(7)
    assert lane.stop(7)
    assert lane.take(ONE) is None
    lane.request(7)
    run = taken(lane)
    lane.request(7)
    assert lane.stop(7)
    assert lane.renew(run, ONE) is Word.STOP
    lane.end(run, ONE, "stopped", reason="by hand")
    assert (state(lane)["state"], state(lane)["next"]) == ("stopped", None)
    lane.request(7)
    assert lane.renew(taken(lane), ONE) is Word.GO_ON


def test_a_run_that_nobody_works_on_is_stopped_at_once(lane: TrainingLane) -> None:
    for let_go in (
        lambda run: lane.pause(run, ONE, 60, "away"),
        lambda run: lane.give_back(ONE),
    ):
        job = lane.request(7)
        let_go(taken(lane))
        assert lane.stop(7)
        assert (state(lane)["state"], state(lane)["job"]) == ("stopped", job)
        assert lane.take(ONE) is None
    lane.request(7)
    again = taken(lane)
    assert state(lane)["last"]["job"] == job
    lane.end(again, ONE, "failed")
    assert state(lane)["last"]["job"] == again.name


def test_how_far_a_run_is_and_how_it_ended_is_told(lane: TrainingLane) -> None:
    lane.request(7)
    assert (state(lane)["state"], state(lane)["job"]) == ("waiting", "train-7-1")
    run = taken(lane)
    lane.tell(run, state="training", step=3, steps=9)
    told = state(lane)
    assert (told["state"], told["step"], told["steps"]) == ("training", 3, 9)
    lane.end(run, ONE, "done", version="abc", outcome="promoted", promoted="abc")
    told = state(lane)
    assert (told["state"], told["version"], told["to_follow"]) == ("done", "abc", "abc")
    assert json.loads(json.dumps(told)) == told
    assert lane.overview(8)["projects"] == []


def test_what_is_promoted_meanwhile_is_not_taken_for_what_was_followed(lane: TrainingLane) -> None:
    for version in ("one", "two"):
        lane.request(7)
        lane.end(taken(lane), ONE, "done", promoted=version)
    lane.followed(7, "one")
    assert lane.to_follow() == [(7, "two")]
    lane.followed(7, "two")
    assert lane.to_follow() == []


def test_trainers_are_counted_while_they_live(lane: TrainingLane, redis: Redis) -> None:
    lane.pulse(ONE)
    lane.pulse(OTHER)
    assert lane.overview()["trainers"] == 2
    lane.end_pulse(OTHER)
    redis.zadd("promptbrush:training:trainers", {"dead": time.time() - 2 * trainscripts.LEASE})
    assert lane.overview()["trainers"] == 1


def test_of_many_projects_that_wait_is_told_with_as_many_questions_as_of_one(
    lane: TrainingLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    execute: Any = Redis.execute_command

    def counted(*given: Any, **options: Any) -> Any:
        asked.append(given)
        return execute(*given, **options)

    monkeypatch.setattr(Redis, "execute_command", counted)
    counts = []
    for last in (1, 30):
        for project in range(1, last + 1):
            lane.request(project)
        asked.clear()
        assert len(lane.overview()["projects"]) == last
        counts.append(len(asked))
    assert counts[0] == counts[1]
