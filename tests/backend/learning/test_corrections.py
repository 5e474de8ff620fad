"""What annotators changed of predictions, as training weighs it."""

from dataclasses import replace
from typing import Any

from backend.learning.dataset import Account
from tests.backend.learning.strokes import CONFIG, Images, annotation, mask, read, samples, stroke


def corrected(predicted: list[dict[str, Any]], *accepted: dict[str, Any]) -> dict[str, Any]:
    """What is told to be changed where an annotation began with a prediction."""
    task = {
        "id": 1,
        "data": {"image": "u"},
        "annotations": [annotation(1, *accepted, parent_prediction=5)],
    }
    began_with = {(1, 5): {"id": 5, "result": predicted}}
    (sample,) = samples(
        [task],
        CONFIG,
        Images(),
        Account(),
        began_with=lambda task, saved: began_with[task, saved["parent_prediction"]],
    )
    return dict(sample.corrected)


def test_pixels_that_were_added_and_taken_away_are_corrected() -> None:
    found = corrected([stroke("Car", mask((0, 0), (0, 1)))], stroke("Car", mask((0, 1), (3, 3))))
    assert found.keys() == {"Car"}
    assert (found["Car"] == mask((0, 0), (3, 3))).all()


def test_a_label_that_was_taken_away_and_one_that_was_missed_are_corrected() -> None:
    found = corrected([stroke("Car", mask((0, 0)))], stroke("Dog", mask((1, 1))))
    assert (found["Car"] == mask((0, 0))).all()
    assert (found["Dog"] == mask((1, 1))).all()


def test_what_was_accepted_untouched_is_not_corrected() -> None:
    assert corrected([stroke("Car", mask((0, 0)))], stroke("Car", mask((0, 0)))) == {}


def test_a_prediction_that_is_gone_or_unreadable_corrects_nothing() -> None:
    (sample,), _ = read(annotation(1, stroke("Car", mask((0, 0))), parent_prediction=5))
    assert not sample.corrected
    broken = stroke("Car", mask()) | {"value": {"rle": [1], "brushlabels": ["Car"]}}
    assert corrected([broken], stroke("Car", mask((0, 0)))) == {}


def test_what_an_annotator_changed_is_of_a_samples_name() -> None:
    (plain,), _ = read(annotation(1, stroke("Car", mask((0, 0)))))
    changed = replace(plain, corrected={"Car": mask((3, 3))})
    assert plain.digest() != changed.digest()
    assert plain.digest() == replace(plain, corrected={}).digest()
