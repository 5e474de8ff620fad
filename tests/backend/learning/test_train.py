import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.errors import AlreadyTraining
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.decisions import State
from backend.learning.finetune import Recipe
from backend.learning.registry import Registry
from backend.learning.train import Source, Trained, train
from models import Segmenter
from tests.backend.learning.school import CONFIG, source

RECIPE = Recipe(steps=40, look=10, rows=4, rate=5e-3)
BASE = "b" * 64


def trained(
    segmenter: Segmenter, folder: Path, accepted: Source = source, recipe: Recipe = RECIPE
) -> Trained:
    return train(
        segmenter, BASE, Registry(folder), folder, 7, CONFIG, accepted, threshold=0.4, recipe=recipe
    )


def test_a_better_version_is_served_and_reported(segmenter: Segmenter, tmp_path: Path) -> None:
    done = trained(segmenter, tmp_path)
    assert done.verdict.promoted, done.verdict.reason
    assert done.version.state is State.ACTIVE
    active = Registry(tmp_path).active(7, BASE)
    assert active is not None
    assert active.id == done.version.id
    assert done.version.card.metrics["iou"] > done.version.card.metrics["active_iou"]
    html = done.report.read_text()
    assert "Promoted" in html
    assert html.count('<img src="data:image/jpeg;base64,') > 0
    assert "http" not in html
    figures = json.loads(done.report.with_suffix(".json").read_text())
    assert figures["base"] == BASE


def test_the_next_version_goes_on_from_the_active_one(segmenter: Segmenter, tmp_path: Path) -> None:
    first = trained(segmenter, tmp_path)
    second = trained(segmenter, tmp_path, recipe=replace(RECIPE, seed=1))
    assert second.version.card.parent == first.version.id
    before = second.version.card.metrics["active_iou"]
    assert before == pytest.approx(first.version.card.metrics["iou"])


def shuffled(parts: Collection[Part], account: Account) -> Iterator[Sample]:
    """Masks that belong to nothing, wherever one learns from them."""
    for sample in source(parts, account):
        if part_of(sample.task) is Part.HELD_OUT:
            yield sample
        else:
            wrong = np.zeros(sample.size, bool)
            wrong[:8, : 8 + sample.task] = True
            yield replace(sample, masks={"Bright": wrong})


def test_what_learnt_from_wrong_masks_is_kept_and_rejected(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    good = trained(segmenter, tmp_path)
    bad = trained(segmenter, tmp_path, shuffled)
    assert bad.version.state is State.REJECTED
    assert bad.version.reason == bad.verdict.reason
    active = Registry(tmp_path).active(7, BASE)
    assert active is not None
    assert active.id == good.version.id


def test_a_project_is_trained_by_one_at_a_time(segmenter: Segmenter, tmp_path: Path) -> None:
    def nested(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        with pytest.raises(AlreadyTraining, match="wait for it"):
            trained(segmenter, tmp_path)
        return source(parts, account)

    trained(segmenter, tmp_path, nested, replace(RECIPE, steps=1, look=1))
