"""What Label Studio refuses to the pusher, or no longer has."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from backend.delivery import Answer, group_of
from backend.errors import LabelStudioRefused
from backend.queue import PredictionQueue
from backend.scripts import PREFIX
from tests.live.conftest import LABEL_CONFIG
from tests.live.hand import GROUP, VERSION, Hand, payloads, pending, push_all
from tests.live.studio import PROJECT, Studio

pytestmark = pytest.mark.live

OTHER = PROJECT + 1


def test_a_deleted_task_is_dropped_with_a_word(queue: PredictionQueue) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 3: ""})
    queue.submit_background(payloads(1, 2, 3), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1, (3, VERSION): 1}
    dropped = [entry for entry in queue.jobs()["ended"] if entry["outcome"] == "dropped"]
    assert [(entry["task"], entry["detail"]) for entry in dropped] == [(2, "the task was deleted")]
    assert pending(queue.connection) == 0


def test_tasks_that_are_deleted_while_they_are_saved_are_told_as_such(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, dict.fromkeys(range(1, 6), ""))
    queue.submit_background(payloads(1, 2, 3, 4, 5), GROUP)
    Hand(queue.connection).work()

    def delete() -> None:
        for task in (2, 4):
            studio.images.pop(task, None)

    studio.before_saving = delete
    push_all(queue, studio)
    assert studio.copies() == {(task, VERSION): 1 for task in (1, 3, 5)}
    assert queue.progress(GROUP)["reasons"] == dict.fromkeys((2, 4), "the task was deleted")


def test_a_project_that_the_tokens_user_may_not_write_to_stands_in_no_others_way(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: ""})
    studio.refusals[OTHER] = 403
    queue.submit_background(payloads(5, 6, project=OTHER), group_of(OTHER, VERSION))
    queue.submit_background(payloads(1, 2), GROUP)
    Hand(queue.connection).work()
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1, (2, VERSION): 1}
    reasons = queue.progress(group_of(OTHER, VERSION))["reasons"]
    assert sorted(reasons) == [5, 6]
    assert all("may not write" in reason for reason in reasons.values())
    assert queue.deliveries.unpushed() == 0


def test_what_waits_for_a_project_that_was_deleted_is_not_predicted(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: ""})
    deleted = group_of(PROJECT * 10, VERSION)
    queue.submit_background(payloads(*range(11, 41), project=PROJECT * 10), deleted)
    queue.submit_background(payloads(1, 2), GROUP)
    queue.submit_background(payloads(*range(41, 71), project=PROJECT * 10), deleted)
    hand = Hand(queue.connection)
    hand.work(1)
    push_all(queue, studio)
    hand.work()
    push_all(queue, studio)
    assert set(hand.worked) == {1, 2, 11, 12}  # what a worker was given already
    assert studio.copies() == {(1, VERSION): 1, (2, VERSION): 1}
    progress = queue.progress(deleted)
    assert (progress["pending"], progress["failed"]) == (0, 60)
    assert set(progress["reasons"].values()) == {"the project was deleted"}
    assert not queue.connection.keys("rq:job:*")
    assert not queue.connection.keys(f"{PREFIX}answer:*")


def test_a_user_who_may_do_nothing_or_a_token_that_is_not_known_loses_no_answer(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: ""})
    queue.submit_background(payloads(1), GROUP)
    Hand(queue.connection).work()
    for status, known in ((403, False), (401, True)):
        studio.refusals, studio.token_known = {PROJECT: status}, known
        with pytest.raises(LabelStudioRefused):
            push_all(queue, studio)
    studio.refusals, studio.token_known = {}, True
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1}


def test_a_token_that_is_withdrawn_before_anything_is_saved_loses_no_answer(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: ""})
    queue.submit_background(payloads(1, 2), GROUP)
    Hand(queue.connection).work()

    def withdrawn() -> None:
        raise LabelStudioRefused("it does not know the token", 401)

    studio.before_saving = withdrawn
    with pytest.raises(LabelStudioRefused):
        push_all(queue, studio)
    studio.before_saving = lambda: None
    push_all(queue, studio)
    assert studio.copies() == {(1, VERSION): 1, (2, VERSION): 1}


def test_what_label_studio_leaves_out_without_a_word_is_told(
    queue: PredictionQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = Studio(LABEL_CONFIG, {2: "", 4: "", 6: ""})
    queue.submit_background(payloads(2, 4, 6), GROUP)
    Hand(queue.connection).work()
    save = studio.create_predictions

    def fitting(project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        return save(project, [one for one in predictions if one["task"] != 4])

    monkeypatch.setattr(studio, "create_predictions", fitting)
    push_all(queue, studio)
    assert studio.copies() == {(2, VERSION): 1, (6, VERSION): 1}
    ((task, reason),) = queue.progress(GROUP)["reasons"].items()
    assert (task, "does not fit the labeling configuration" in reason) == (4, True)
    assert queue.deliveries.unpushed() == pending(queue.connection) == 0


def test_an_answer_of_another_promptbrush_is_told_and_stands_in_nobodys_way(
    queue: PredictionQueue,
) -> None:
    studio = Studio(LABEL_CONFIG, {1: "", 2: "", 3: ""})
    queue.submit_background(payloads(1, 2, 3), GROUP)
    hand = Hand(queue.connection)
    strangers: list[Answer] = [{"masks": []}, {"regions": None, "model_version": VERSION}]
    for strange in strangers:
        job = hand.take()
        assert job is not None
        with queue.connection.pipeline() as pipeline:
            hand.deliveries.deliver(pipeline, job, strange)
            pipeline.delete(f"rq:job:{job}")
            pipeline.execute()
    hand.work()
    push_all(queue, studio)
    assert studio.copies() == {(3, VERSION): 1}
    reasons = queue.progress(GROUP)["reasons"]
    assert sorted(reasons) == [1, 2]
    assert all("another version of promptbrush" in reason for reason in reasons.values())
    assert queue.deliveries.unpushed() == pending(queue.connection) == 0
