"""Accepted work held against what was predicted, with a key and without."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.inference.scores import ProjectScores
from backend.labelstudio import brush
from backend.labelstudio.origin import new_id
from backend.labelstudio.starter import label_config
from backend.learning.acceptance import (
    BY_HAND,
    FILE,
    Acceptance,
    Figures,
    Row,
    Work,
    measure,
)

PROJECT = 7
TUNED, BASE = "7be01c55", "1f0c93aa"
VERSION = f"clipseg-{BASE}-{TUNED}-aaaaaaaa"

Json = dict[str, Any]


class Studio:
    """A project's annotations; without its predictions it is what webhooks brought."""

    def __init__(self, *annotations: Json) -> None:
        self.annotations = list(annotations)
        self.labels = ["Car", "Dog"]
        self.predictions: dict[int, Json] = {}
        self.asked: list[int] = []

    def project(self, project: int) -> Json:
        return {"id": project, "label_config": label_config(self.labels)}

    def annotated_tasks(self, project: int) -> Iterator[Json]:
        for one in self.annotations:
            yield {"id": one["id"] + 100, "data": {"image": "u"}, "annotations": [one]}

    def began_with(self, _: int, annotation: Mapping[str, Any]) -> Json | None:
        parent = annotation["parent_prediction"]
        if parent is None:
            return None
        self.asked.append(parent)
        return self.predictions.get(parent)

    def predicts(self, number: int, *result: Json, version: str = VERSION) -> None:
        self.predictions[number] = {"model_version": version, "result": list(result)}


def region(label: str, columns: int, **rest: Any) -> Json:
    """The first columns of an image of ten."""
    mask = np.zeros((4, 10), bool)
    mask[:, :columns] = True
    return {
        "id": f"{TUNED}-0123456789",
        "origin": "prediction",
        "score": 0.8,
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": 4,
        "original_width": 10,
        "value": {"rle": list(brush.encode(mask)), "brushlabels": [label]},
        **rest,
    }


def by_hand(label: str, columns: int) -> Json:
    return region(label, columns, id="V1StGXR8_Z", origin="manual")


def asked_with(label: str) -> Json:
    """A rectangle of the tool that finds what is like its content."""
    box = {"x": 0, "y": 0, "width": 90, "height": 90, "rotation": 0, "rectanglelabels": [label]}
    return by_hand(label, 9) | {"type": "rectanglelabels", "from_name": "box", "value": box}


def annotation(number: int, *result: Json, parent: int | None = None, **rest: Any) -> Json:
    return {
        "id": number,
        "result": list(result),
        "updated_at": f"2026-01-01T00:00:{number:02}Z",
        "parent_prediction": parent,
        "lead_time": 10.0,
        **rest,
    }


def only(acceptance: Acceptance) -> tuple[str, Figures]:
    ((weights, figures),) = acceptance.figures().items()
    return weights, figures


def test_untouched_changed_removed_and_missed_masks_are_told_apart(tmp_path: Path) -> None:
    studio = Studio(
        annotation(1, region("Car", 5), parent=1),
        annotation(2, region("Car", 4, origin="prediction-changed"), parent=2),
        annotation(3, parent=3),
        annotation(4, region("Car", 5), by_hand("Dog", 2), parent=4),
    )
    for number in (1, 2, 3, 4):
        studio.predicts(number, region("Car", 5))
    weights, figures = only(measure(studio, PROJECT, tmp_path))
    assert weights == TUNED
    assert (figures.annotations, figures.predicted, figures.untouched) == (4, 4, 2)
    assert figures.missed == 1
    assert figures.share == 0.5
    assert figures.iou == pytest.approx((1 + 0.8 + 0 + 1 + 0) / 5)


def test_rows_pair_a_score_with_what_became_of_it(tmp_path: Path) -> None:
    studio = Studio(annotation(1, region("Car", 4), parent=1), annotation(2, parent=2))
    car, rest = region("Car", 5, score=0.9), region("Car", 2, score=0.4)
    studio.predicts(1, car, rest, region("Dog", 2, score=0.3))
    studio.predicts(2, region("Car", 5, score=0.6), version=f"clipseg-{BASE}-bbbbbbbb")
    measure(studio, PROJECT, tmp_path)
    acceptance = Acceptance.of(tmp_path, PROJECT)
    rows = [(row.label, row.score, row.iou, row.untouched) for row in acceptance.rows(TUNED)]
    assert rows == [("Car", 0.9, 0.8, False), ("Dog", 0.3, 0.0, False)]
    assert [row.score for row in acceptance.rows(BASE)] == [0.6]
    assert len(acceptance.rows()) == 3
    assert [work.prompts for work in acceptance.works] == ["aaaaaaaa", "bbbbbbbb"]


def test_without_a_key_regions_tell_what_was_left_as_it_was(tmp_path: Path) -> None:
    studio = Studio(
        annotation(1, region("Car", 5), by_hand("Dog", 2), asked_with("Car"), parent=1),
        annotation(2, region("Car", 4, origin="prediction-changed"), parent=2),
        annotation(3, region("Car", 5), by_hand("Car", 7), parent=3),
    )
    weights, figures = only(measure(studio, PROJECT, tmp_path))
    assert weights == TUNED
    assert (figures.predicted, figures.untouched, figures.missed) == (3, 1, 1)
    assert figures.iou is None
    kept = Acceptance.of(tmp_path, PROJECT)
    assert [row.iou for row in kept.rows()] == [1.0, None, None, None]
    assert [work.regions for work in kept.works] == [2, 1, 2]
    assert {work.prompts for work in kept.works} == {None}


def test_what_was_not_known_of_a_prediction_is_asked_for_again(tmp_path: Path) -> None:
    """As where a key is set later on."""
    studio = Studio(annotation(1, region("Car", 4), parent=1))
    assert [row.iou for row in measure(studio, PROJECT, tmp_path).rows()] == [1.0]
    studio.predicts(1, region("Car", 5), region("Dog", 2))
    rows = measure(studio, PROJECT, tmp_path).rows()
    assert [(row.label, row.iou) for row in rows] == [("Car", 0.8), ("Dog", 0.0)]


def test_what_others_predicted_proves_nothing_for_ours(tmp_path: Path) -> None:
    studio = Studio(
        annotation(1, region("Car", 5, id="x"), parent=1),
        annotation(2, region("Car", 5, id="y")),  # a suggestion: nobody knows what was refused
        annotation(3, region("Car", 5), was_cancelled=True, parent=1),
    )
    studio.predicts(1, region("Car", 5), version="yolo-v8")
    acceptance = measure(studio, PROJECT, tmp_path)
    assert acceptance.figures() == {}
    assert not any(work.by_hand for work in acceptance.works)


def test_time_saved_is_reckoned_from_this_projects_own_pace_by_hand(tmp_path: Path) -> None:
    studio = Studio(
        annotation(1, region("Car", 5), by_hand("Dog", 2), parent=1, lead_time=8.0),
        annotation(2, region("Car", 5), by_hand("Dog", 2), parent=1, lead_time=3600.0),  # lunch
        annotation(3, region("Car", 5), by_hand("Dog", 2), parent=1, lead_time=6.0),
    )
    studio.predicts(1, region("Car", 5))
    few = measure(studio, PROJECT, tmp_path)
    assert only(few)[1].seconds_saved == pytest.approx(6 * (BY_HAND - 4))
    assert "an assumption" in few.assumption
    for number, seconds in enumerate((20, 30, 40, 50, 900), start=4):
        studio.annotations.append(annotation(number, by_hand("Car", 3), lead_time=seconds))
    enough = measure(studio, PROJECT, tmp_path)
    assert only(enough)[1].seconds_saved == pytest.approx(6 * (40 - 4))
    assert "40 s" in enough.assumption


def test_annotations_that_took_no_time_tell_nothing_of_the_pace_by_hand(tmp_path: Path) -> None:
    studio = Studio(annotation(1, region("Car", 5), parent=1))
    studio.predicts(1, region("Car", 5))
    for number in range(2, 9):  # imported, say
        studio.annotations.append(annotation(number, by_hand("Car", 3), lead_time=0))
    measured = measure(studio, PROJECT, tmp_path)
    assert only(measured)[1].seconds_saved == pytest.approx(BY_HAND - 10)
    assert "an assumption" in measured.assumption


def test_without_lead_times_no_time_is_saved(tmp_path: Path) -> None:
    studio = Studio(annotation(1, region("Car", 5), parent=1, lead_time=None))
    studio.predicts(1, region("Car", 5))
    assert only(measure(studio, PROJECT, tmp_path))[1].seconds_saved is None


def test_what_was_measured_is_not_asked_for_again_until_it_changes(tmp_path: Path) -> None:
    studio = Studio(
        annotation(1, region("Car", 5), parent=1), annotation(2, region("Car", 5), parent=2)
    )
    studio.predicts(1, region("Car", 5))
    studio.predicts(2, region("Car", 5))
    first = measure(studio, PROJECT, tmp_path)
    studio.asked.clear()
    assert measure(studio, PROJECT, tmp_path).works == first.works
    assert studio.asked == []
    studio.annotations[1] |= {"result": [], "updated_at": "2026-01-01T00:01:00Z"}
    del studio.annotations[0]
    assert only(measure(studio, PROJECT, tmp_path))[1].untouched == 0
    assert studio.asked == [2]


def test_labels_that_come_and_go_are_measured_anew(tmp_path: Path) -> None:
    studio = Studio(annotation(1, region("Car", 5), parent=1))
    studio.predicts(1, region("Car", 5), region("Dog", 3))
    for labels in (["Car", "Dog"], ["Car"], ["Dog", "Car"]):
        studio.labels = labels
        rows = measure(studio, PROJECT, tmp_path).rows()
        assert [row.label for row in rows] == labels
    studio.asked.clear()
    measure(studio, PROJECT, tmp_path)
    assert studio.asked == []


def test_what_became_of_a_prediction_that_is_deleted_stays_known(tmp_path: Path) -> None:
    studio = Studio(annotation(1, parent=1))
    studio.predicts(1, region("Car", 5))
    rejected = measure(studio, PROJECT, tmp_path).rows()
    assert [(row.label, row.accepted) for row in rejected] == [("Car", False)]
    studio.predictions.clear()
    studio.annotations[0]["parent_prediction"] = None  # as Label Studio leaves it
    studio.labels = ["Car", "Dog", "Cat"]
    assert measure(studio, PROJECT, tmp_path).rows() == rejected


ENDLESS = "[" * 100_000
ROW = {"label": "Car", "predicted": True, "score": 0.8, "iou": 1.0, "untouched": True}


@pytest.mark.parametrize(
    "damage",
    [
        *("", "5", "[]", ENDLESS, '{"annotations": [{}]}', '{"annotations": [[]]}'),
        *({"seconds": "8"}, {"regions": None}, {"updated_at": 5}, {"by_hand": 0}, {"more": 1}),
        *(
            {"rows": 5},
            {"rows": [5]},
            {"rows": [ROW | {"iou": "1"}]},
            {"rows": [ROW | {"label": 5}]},
        ),
    ],
    ids=lambda damage: str(damage)[:30],
)
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str | Json) -> None:
    studio = Studio(annotation(1, region("Car", 5), parent=1))
    studio.predicts(1, region("Car", 5))
    made = measure(studio, PROJECT, tmp_path)
    path = tmp_path / str(PROJECT) / FILE
    if isinstance(damage, dict):
        told = json.loads(path.read_text())["annotations"][0]
        damage = json.dumps({"annotations": [told | damage]})
    path.write_text(damage)
    assert Acceptance.of(tmp_path, PROJECT).works == ()
    assert (
        measure(studio, PROJECT, tmp_path).works
        == made.works
        == tuple(Acceptance.of(tmp_path, PROJECT).works)
    )


def test_a_prediction_that_cannot_be_read_is_no_row(tmp_path: Path) -> None:
    broken = region("Car", 5) | {"value": {"rle": [1], "brushlabels": ["Car"]}}
    studio = Studio(annotation(1, region("Car", 5), parent=1))
    studio.predicts(1, broken)
    assert measure(studio, PROJECT, tmp_path).rows() == []


@pytest.mark.parametrize(
    "malformed",
    [
        {"value": None},
        {"value": {"rle": [1], "brushlabels": 5}},
        {"id": [1]},
        {"score": math.nan},
        {"original_width": 10**8, "original_height": 10**8},
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_region_that_cannot_be_read_leaves_the_others_measured(
    tmp_path: Path, malformed: Json, known: bool
) -> None:
    studio = Studio(
        annotation(1, region("Dog", 3) | malformed, region("Car", 5), parent=1),
        annotation(2, region("Car", 5), parent=2),
    )
    if known:
        studio.predicts(1, region("Dog", 3) | malformed, region("Car", 5))
        studio.predicts(2, region("Car", 5))
    rows = [row for row in measure(studio, PROJECT, tmp_path).rows(TUNED) if row.label == "Car"]
    assert [row.untouched for row in rows] == [True, True]
    assert all(row.score == 0.8 for row in rows)


@pytest.mark.parametrize("result", [None, 5, "[]", {"id": "r"}, [None, 5]])
def test_what_is_no_list_of_regions_holds_none(tmp_path: Path, result: object) -> None:
    studio = Studio(annotation(1, parent=1, result=result))
    studio.predicts(1)
    studio.predictions[1]["result"] = result
    (work,) = measure(studio, PROJECT, tmp_path).works
    assert (work.regions, work.rows) == (0, ())


@pytest.mark.parametrize("told", [0, math.nan, math.inf, -1, 10**400, True, "9", [9]])
def test_a_time_that_no_clock_tells_is_not_known(tmp_path: Path, told: object) -> None:
    studio = Studio(annotation(1, region("Car", 5), lead_time=told))
    (work,) = measure(studio, PROJECT, tmp_path).works
    assert work.seconds is None


def test_what_was_accepted_makes_scores_of_confidences(tmp_path: Path) -> None:
    annotations, studio = [], Studio()
    for number in range(1, 41):
        good = number % 4 == 0
        name = new_id(VERSION, 0.9 if good else 0.6)
        studio.predicts(number, region("Car", 5, id=name, score=0.1))
        drawn = region("Car", 5 if good else 1, id=name)
        annotations.append(annotation(number, drawn, parent=number))
    studio.annotations = annotations
    scores = measure(studio, PROJECT, tmp_path).scores()
    assert (scores.regions, scores.accepted) == (40, 10)
    assert scores.of(0.9) > 0.7
    assert scores.of(0.6) < 0.2
    assert ProjectScores(tmp_path).of(PROJECT) == scores
    assert "10 of 40" in str(scores)
    assert "needed" in str(Acceptance().scores())


def test_a_mask_that_was_hardly_changed_was_accepted(tmp_path: Path) -> None:
    rows = [Row("Car", True, 0.8, overlap, False) for overlap in (0.96, 0.5, None)]
    work = Work(1, 1, "", False, BASE, None, True, 3, None, tuple(rows))
    assert Acceptance([work]).scores().accepted == 1
