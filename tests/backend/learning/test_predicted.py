"""What annotations began with, as this backend remembers to have answered."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.diskcache import DiskCache
from backend.labelstudio.origin import new_id
from backend.learning.predicted import FOLDER, MOST, Predicted
from backend.settings import Settings

VERSION = "clipseg-1f0c93aa-7be01c55-aaaaaaaa"
OTHER = "clipseg-1f0c93aa-bbbbbbbb"

Json = dict[str, Any]


@pytest.fixture
def predicted(tmp_path: Path) -> Predicted:
    return Predicted.of(replace(Settings(), model_dir=tmp_path))


def region(version: str = VERSION, origin: str = "prediction") -> Json:
    return {"id": new_id(version), "origin": origin, "value": {"rle": [1, 2], "brushlabels": []}}


def prediction(*regions: Json, version: str = VERSION) -> Json:
    return {"result": list(regions), "score": 0.5, "model_version": version}


def annotation(*regions: Json, parent: int | None = 5) -> Json:
    return {"id": 9, "result": list(regions), "parent_prediction": parent}


def ids(found: Json | None) -> list[str] | None:
    return None if found is None else [one["id"] for one in found["result"]]


def test_a_region_that_is_left_tells_which_prediction_it_was(predicted: Predicted) -> None:
    kept, deleted, later = region(), region(), region(OTHER)
    predicted.keep(1, prediction(kept, deleted))
    predicted.keep(1, prediction(later, version=OTHER))
    found = predicted.began_with(1, annotation({**kept, "origin": "prediction-changed"}))
    assert found is not None
    assert ids(found) == [kept["id"], deleted["id"]]
    assert found["model_version"] == VERSION
    assert found["result"][0]["value"]["rle"] == "AQI="


def test_where_all_regions_were_deleted_it_was_the_newest_of_the_only_version(
    predicted: Predicted,
) -> None:
    first, second = region(), region()
    predicted.keep(1, prediction(first))
    predicted.keep(1, prediction(second))
    assert ids(predicted.began_with(1, annotation())) == [second["id"]]
    by_hand = {"id": "V1StGXR8_Z", "origin": "manual"}
    assert ids(predicted.began_with(1, annotation(by_hand))) == [second["id"]]
    predicted.keep(1, prediction(region(OTHER), version=OTHER))
    assert predicted.began_with(1, annotation()) is None


def test_a_prediction_without_regions_is_known_as_such(predicted: Predicted) -> None:
    predicted.keep(1, prediction())
    assert ids(predicted.began_with(1, annotation())) == []


def test_what_did_not_begin_with_ours_is_not_known(predicted: Predicted) -> None:
    mine = region()
    predicted.keep(1, prediction(mine))
    assert predicted.began_with(1, annotation(mine, parent=None)) is None
    assert predicted.began_with(2, annotation(mine)) is None
    assert predicted.began_with(1, annotation({"id": "x", "origin": "prediction"})) is None


def test_ids_that_are_no_text_are_nobodys(predicted: Predicted) -> None:
    mine = region()
    predicted.keep(1, prediction(mine))
    assert ids(predicted.began_with(1, annotation({"id": [1]}, mine))) == [mine["id"]]
    assert ids(predicted.began_with(1, {**annotation(), "result": 5})) == [mine["id"]]


def test_a_task_has_its_newest_predictions_and_no_more(predicted: Predicted) -> None:
    given = [region() for _ in range(MOST + 1)]
    for one in given:
        predicted.keep(1, prediction(one, version=OTHER))
    predicted.keep(1, prediction(region()))
    found = [ids(predicted.began_with(1, annotation(one))) for one in given]
    assert found == [None, None, [given[2]["id"]], [given[3]["id"]]]


def test_what_is_damaged_or_has_no_room_is_not_known(predicted: Predicted, tmp_path: Path) -> None:
    mine = region()
    predicted.keep(1, prediction(mine))
    (path,) = (tmp_path / FOLDER).iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert predicted.began_with(1, annotation(mine)) is None
    predicted.keep(1, prediction(mine))
    assert ids(predicted.began_with(1, annotation(mine))) == [mine["id"]]
    none = Predicted(DiskCache(tmp_path / "none", 0))
    none.keep(1, prediction(mine))
    assert none.began_with(1, annotation(mine)) is None
