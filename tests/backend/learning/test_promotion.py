from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from backend.learning.evaluate import Evaluation, Score
from backend.learning.forgetting import LEAST_KEPT, Kept
from backend.learning.promotion import Verdict, decide

scores = st.floats(0, 1)


def evaluation(pairs: Sequence[tuple[float, float]], label: str = "Car") -> Evaluation:
    return Evaluation([Score(task, label, True, *pair) for task, pair in enumerate(pairs)])


def test_a_candidate_that_is_surely_better_is_promoted() -> None:
    verdict = decide(evaluation([(0.2, 0.7), (0.3, 0.8), (0.1, 0.5), (0.4, 0.7)]))
    assert verdict.promoted
    assert "4 held-out tasks" in verdict.reason


def test_masks_that_were_missed_weigh_more_than_masks_where_nothing_is() -> None:
    """Two of three labels are absent from each image: found nowhere before, anywhere after."""
    rows = [
        score
        for task in range(6)
        for score in (
            Score(task, "Car", True, 0.1, 0.5),
            Score(task, "Dog", False, 1.0, 0.7),
            Score(task, "Cat", False, 1.0, 0.7),
        )
    ]
    assert decide(Evaluation(rows)).promoted
    without = [score for score in rows if not score.present]
    assert not decide(Evaluation(without)).promoted


def test_four_tasks_are_enough_where_most_of_them_say_clearly_better() -> None:
    verdict = decide(evaluation([(0.1, 0.5), (0.3, 0.2), (0.2, 0.5), (0.4, 0.35)]))
    assert verdict.promoted, verdict.reason


@given(st.floats(0, 1), st.integers(3, 30))
def test_luck_on_one_task_is_never_enough(lucky: float, tasks: int) -> None:
    verdict = decide(evaluation([(0.0, lucky), *[(0.5, 0.499)] * (tasks - 1)]))
    assert not verdict.promoted


def test_luck_on_one_task_is_not_enough() -> None:
    verdict = decide(evaluation([(0.1, 0.9), (0.5, 0.45), (0.6, 0.6), (0.5, 0.48), (0.4, 0.4)]))
    assert not verdict.promoted
    assert verdict.reason.startswith("not surely better")


def test_a_label_that_turns_the_text_around_leaves_the_reason_readable() -> None:
    better = [Score(task, "Car", True, 0.1, 0.9) for task in range(5)]
    worse = [Score(task, "a\u202e\nb", True, 0.5, 0.4) for task in range(5)]
    reason = decide(Evaluation([*better, *worse])).reason
    assert reason == 'the label "a??b" falls from 0.500 to 0.400 (5 images)'


def test_two_tasks_are_too_few_to_tell_and_three_that_agree_are_enough() -> None:
    assert "2 held-out tasks are too few" in decide(evaluation([(0.0, 1.0)] * 2)).reason
    assert decide(evaluation([(0.0, 1.0)] * 3)).promoted
    nobody = decide(Evaluation())
    assert not nobody.promoted
    assert nobody.reason == "no held-out task judges it, where 3 have to"


def test_a_label_that_would_fall_is_protected_and_one_that_hardly_does_is_not() -> None:
    better = evaluation([(0.1, 0.9)] * 9)

    def falling(by: float) -> Verdict:
        fallen = [Score(task, "Dog", True, 0.8, 0.8 - by) for task in range(9)]
        return decide(Evaluation([*better.scores, *fallen]))

    assert falling(0.04).promoted
    assert not falling(0.06).promoted
    assert 'the label "Dog" falls' in falling(0.06).reason


def test_one_that_forgets_is_rejected() -> None:
    better = evaluation([(0.1, 0.9)] * 9)
    better.kept = (Kept(1.0, 40), Kept(LEAST_KEPT - 0.01, 40))
    verdict = decide(better)
    assert not verdict.promoted
    assert verdict.reason.startswith("it forgets")


def test_one_that_forgot_no_more_than_what_is_served_may_be_promoted() -> None:
    better = evaluation([(0.1, 0.9)] * 9)
    better.kept = (Kept(LEAST_KEPT - 0.2, 40), Kept(LEAST_KEPT - 0.1, 40))
    assert decide(better).promoted


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=12))
def test_what_is_promoted_is_better_and_the_reverse_is_not_promoted(
    pairs: list[tuple[float, float]],
) -> None:
    forth, back = evaluation(pairs), evaluation([pair[::-1] for pair in pairs])
    gain = forth.difference()
    assert gain.low <= gain.mean + 1e-9
    assert gain.mean <= gain.high + 1e-9
    assert not (decide(forth).promoted and decide(back).promoted)
    if decide(forth).promoted:
        active, candidate = forth.means()
        assert candidate > active
