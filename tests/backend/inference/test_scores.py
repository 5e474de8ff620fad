from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.inference.scores import (
    EACH,
    ENOUGH,
    FILE,
    NEWEST,
    ProjectScores,
    Scores,
    error_of,
    fit,
    keep,
)


def drawn(count: int, seed: int = 0, generosity: float = 0.0) -> tuple[list[float], list[bool]]:
    """Confidences far too high, of which as many are accepted as their square says."""
    rng = np.random.default_rng(seed)
    confidences = rng.uniform(0.5, 1.0, count)
    chances = np.clip((2 * confidences - 1) ** 2 + generosity, 0, 1)
    return confidences.tolist(), (rng.uniform(size=count) < chances).tolist()


def test_scores_are_confidences_until_there_is_enough_evidence() -> None:
    for confidences, accepted in (
        ([], []),
        drawn(ENOUGH - 1),
        ([0.9] * 100, [True] * 100),
        ([0.9] * 100, [True] * (100 - EACH + 1) + [False] * (EACH - 1)),
    ):
        scores = fit(confidences, accepted)
        assert not scores.measured
        assert scores.regions == len(confidences)
        assert [scores.of(one) for one in (0.0, 0.7, 1.0)] == [0.0, 0.7, 1.0]


@pytest.mark.parametrize("accepted", [EACH, ENOUGH - EACH])
def test_as_much_evidence_as_people_are_told_is_needed_is_enough(accepted: int) -> None:
    scores = fit([0.9] * ENOUGH, [True] * accepted + [False] * (ENOUGH - accepted))
    assert scores.measured


def test_with_evidence_scores_are_the_share_that_is_accepted() -> None:
    scores = fit(*drawn(400))
    assert scores.measured
    confidences, accepted = drawn(4000, seed=1)
    said = np.array([scores.of(one) for one in confidences])
    assert error_of(said, np.array(accepted)) < 0.06
    assert error_of(np.array(confidences), np.array(accepted)) > 0.3
    assert scores.confidence_error == pytest.approx(0.42, abs=0.05)
    assert scores.error is not None
    assert scores.error < 0.15


def test_people_are_told_what_scores_are_and_what_they_stand_on() -> None:
    few = str(fit([0.9] * 30, [True] * 28 + [False] * 2))
    assert "the model's confidences: 28 of 30 predicted masks were accepted" in few
    assert f"{EACH} accepted and {EACH} others of {ENOUGH} are needed" in few
    scores = fit(*drawn(400))
    told = str(scores)
    assert f"chances of being accepted: {scores.accepted} of 400 predicted masks" in told
    assert f"is {scores.error:.3f}, that of the confidences {scores.confidence_error:.3f}" in told


@pytest.mark.parametrize("labels", range(2, 9))
def test_the_error_is_told_as_it_is_however_many_labels_a_task_has(labels: int) -> None:
    rng = np.random.default_rng(labels)

    def judged(count: int) -> tuple[list[float], list[bool]]:
        """Of regions that look alike, some labels' are nearly all accepted, the others' hardly."""
        chances = np.where(np.arange(count) % labels % 2, 0.95, 0.05)
        return rng.uniform(0.6, 0.8, count).tolist(), (rng.uniform(size=count) < chances).tolist()

    scores = fit(*judged(NEWEST))
    confidences, accepted = judged(4000)
    said = np.array([scores.of(one) for one in confidences])
    assert scores.error == pytest.approx(error_of(said, np.array(accepted)), abs=0.06)


@pytest.mark.parametrize(("low", "high"), [(0.25, 0.75), (0.85, 0.95)])
def test_errors_of_unlike_confidences_do_not_make_up_for_each_other(
    low: float, high: float
) -> None:
    said, accepted = np.repeat([low, high], 4), np.repeat([True, False], 4)
    assert error_of(said, accepted) == pytest.approx(((1 - low) + high) / 2)
    alike = np.array([high - 0.01, high + 0.01])
    assert error_of(alike, np.array([True, False])) == pytest.approx(abs(high - 0.5))


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=ENOUGH, max_size=80),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_more_confident_region_never_has_a_lower_score(
    evidence: list[tuple[float, bool]], one: float, other: float
) -> None:
    scores = fit([confidence for confidence, _ in evidence], [good for _, good in evidence])
    low, high = sorted((one, other))
    assert 0 <= scores.of(low) <= scores.of(high) <= 1


def test_the_newest_evidence_counts() -> None:
    old, new = drawn(NEWEST, generosity=1.0), drawn(NEWEST)
    assert fit(old[0] + new[0], old[1] + new[1]) == fit(*new)


def test_scores_on_disk_are_read_again_when_they_change(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    kept = ProjectScores(tmp_path)
    assert kept.of(3) == kept.of(None) == Scores()
    for scores in (fit(*drawn(100)), fit(*drawn(200))):
        keep(tmp_path / "3", scores)
        assert kept.of(3) == scores
    assert kept.of(4) == Scores()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"slope": "x"}',
        '{"slope": -1}',
        '{"slope": 0}',
        '{"offset": NaN}',
        '{"slope": Infinity}',
        '{"more": 1}',
    ],
)
def test_scores_that_cannot_be_read_are_confidences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3" / FILE).write_text(content)
    assert ProjectScores(tmp_path).of(3) == Scores()
    assert f"{FILE} cannot be read, scores are confidences" in caplog.text
