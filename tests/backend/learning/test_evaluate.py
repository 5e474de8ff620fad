"""How a candidate is judged beside what is served."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from backend.learning.evaluate import CONFIDENCE, LOOKS, Evaluation, Score, evaluate
from backend.learning.views import MOST, View, views
from backend.overlay import COLOURS
from backend.prompting import queries
from models import Segmenter
from tests.backend.learning.school import CONFIG, sample


def test_the_interval_is_that_of_a_paired_bootstrap_over_tasks() -> None:
    rng = np.random.default_rng(0)
    scores = [
        Score(
            task, label, bool(rng.random() < 0.7), float(rng.random()), float(rng.random() ** 0.8)
        )
        for task in range(40)
        for label in "abc"[: rng.integers(1, 4)]
    ]
    gains, weights = np.zeros(40), np.zeros(40)
    for score in scores:
        weight = 1 if score.present else 0.25
        gains[score.task] += weight * (score.candidate - score.active)
        weights[score.task] += weight
    expected = stats.bootstrap(
        (gains, weights),
        lambda gain, weight, axis: gain.sum(axis) / weight.sum(axis),
        paired=True,
        n_resamples=5000,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=1,
    )
    found = Evaluation(scores).difference()
    assert found.mean == pytest.approx(gains.sum() / weights.sum())
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.01)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.01)
    assert found.above == pytest.approx((expected.bootstrap_distribution > 0).mean(), abs=0.03)


ACCEPTED, CANDIDATE = COLOURS[:2]


@pytest.mark.parametrize(
    ("threshold", "label", "drawn", "other"),
    [(0.0, "Missing", CANDIDATE, ACCEPTED), (1.0, "Bright", ACCEPTED, CANDIDATE)],
)
def test_what_is_found_has_one_colour_and_what_is_accepted_another(
    segmenter: Segmenter,
    threshold: float,
    label: str,
    drawn: tuple[int, int, int],
    other: tuple[int, int, int],
) -> None:
    """All is found of a label that is not there, or nothing of one that is."""
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, threshold)
    found = evaluate(
        [sample(1)], segmenter, segmenter, segmenter, asked, asked, everyday, threshold
    )
    (case,) = (case for case in found.worst if case.score.label == label)
    image = Image.open(io.BytesIO(base64.b64decode(case.picture.partition(",")[2])))
    pixels = np.asarray(image).astype(int)
    near = {c: int((np.abs(pixels - c).max(axis=2) < 60).sum()) for c in (drawn, other)}
    assert near[drawn] > 50
    assert near[other] < 5


def test_masks_that_miss_the_thing_are_shown_before_those_where_nothing_is(
    segmenter: Segmenter,
) -> None:
    """All is found of both labels: of one it is too much by far, the other is not there."""
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, 0.0)
    held_out = [sample(task) for task in range(1, 8)]
    found = evaluate(held_out, segmenter, segmenter, segmenter, asked, asked, everyday, 0.5)
    assert [case.score.label for case in found.worst] == ["Bright"] * 6


def test_what_probabilities_mean_is_measured_on_every_pixel_of_every_label(
    segmenter: Segmenter,
) -> None:
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, 0.5)
    found = evaluate([sample(1)], segmenter, segmenter, segmenter, asked, asked, everyday, 0.5)
    active, candidate = (one.points() for one in found.calibration)
    assert active == candidate
    right = sum(share * pixels for _, share, pixels in active)
    bright, missing = (float(sample(1).mask(label).mean()) for label in ("Bright", "Missing"))
    assert right / sum(pixels for *_, pixels in active) == pytest.approx(
        (bright + missing) / 2, rel=0.1
    )


def test_few_images_are_looked_at_in_several_ways_and_many_in_one(segmenter: Segmenter) -> None:
    """All is found, so that an IoU is the share of the image that the label has."""
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, 0.0)
    one = sample(1)
    found = evaluate([one] * LOOKS, segmenter, segmenter, segmenter, asked, asked, everyday, 0.5)
    first, *_, last = (score for score in found.scores if score.label == "Bright")
    seen = views(one.image.image, one.masks, MOST, one.task)
    shares = [view.masks["Bright"].mean() for view in seen]
    assert np.ptp(shares) > 0.02
    assert first.active == first.candidate == pytest.approx(np.mean(shares))
    assert last.active == pytest.approx(shares[0])
    assert (found.worst[0].active, found.worst[0].candidate) == (shares[0], shares[0])


def test_a_look_in_which_a_label_is_out_of_sight_says_nothing_of_it(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = sample(1)
    nowhere = View(one.image.image, {"Bright": np.zeros_like(one.masks["Bright"])})
    monkeypatch.setattr("backend.learning.evaluate.views", lambda *_: [nowhere] * MOST)
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, 0.0)
    found = evaluate([one], segmenter, segmenter, segmenter, asked, asked, everyday, 0.5)
    (score,) = (score for score in found.scores if score.label == "Bright")
    assert score.active == pytest.approx(one.masks["Bright"].mean())


def test_a_candidate_is_asked_as_it_would_be_served(segmenter: Segmenter) -> None:
    everyday, asked = segmenter.encode_text(["a dog"]), queries(CONFIG, 0.0)
    then = [one for one in queries(CONFIG, 1.0) if one.label == "Bright"]
    found = evaluate([sample(1)], segmenter, segmenter, segmenter, asked, then, everyday, 0.5)
    (score,) = found.scores
    assert score.active > 0.1
    assert score.candidate == 0.0
