import errno
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.errors import AlreadyTraining, BadPrompt, TooLittleData
from backend.inference.promptbook import Entry, PromptBook, Shown
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.starter import label_config
from backend.learning import forgetting, promotion
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.decisions import State
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.train import Source, Trained, train
from models import Segmenter
from tests.backend.learning.school import CONFIG, TASKS, sample, source

RECIPE = Recipe(steps=40, look=10, rows=4, rate=5e-3, others=0.4)
LONGER = replace(RECIPE, steps=60, rate=1e-2)  # for what has to be learnt, right or wrong
BASE = "b" * 64


def trained(
    segmenter: Segmenter,
    folder: Path,
    accepted: Source = source,
    recipe: Recipe = RECIPE,
    config: LabelConfig = CONFIG,
    book: PromptBook | None = None,
) -> Trained:
    return train(
        segmenter,
        BASE,
        Registry(folder),
        folder,
        7,
        config,
        accepted,
        threshold=0.4,
        recipe=recipe,
        book=book,
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
    assert len(figures["worst"]) == html.count('<img src="data:image/jpeg;base64,')
    assert {"task", "label", "candidate"} < figures["worst"][0].keys()


def test_a_versions_report_goes_with_it(segmenter: Segmenter, tmp_path: Path) -> None:
    few = replace(RECIPE, steps=1, look=1)
    one, other = (trained(segmenter, tmp_path, recipe=replace(few, seed=seed)) for seed in (0, 1))
    registry = Registry(tmp_path)
    registry.activate(7, other.version.id, "")
    registry.delete(7, one.version.id)
    left = {path.name for path in one.report.parent.iterdir()}
    assert left == {f"{other.version.id}.html", f"{other.version.id}.json"}


def test_a_report_is_there_whole_or_not_at_all(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, reports = replace(RECIPE, steps=1, look=1), tmp_path / "7" / "reports"

    def full(_: int) -> None:
        if reports.exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            trained(segmenter, tmp_path, recipe=few)
    assert not [path for path in reports.iterdir() if not path.name.startswith(".")]
    done = trained(segmenter, tmp_path, recipe=few)
    assert done.report.read_text().endswith("</html>\n")


def test_a_model_in_half_precision_learns_too(half: Segmenter, tmp_path: Path) -> None:
    done = trained(half, tmp_path)
    assert done.verdict.promoted, done.verdict.reason
    weights = Registry(tmp_path).weights(done.version)
    assert all(tensor.dtype == torch.float32 for tensor in weights.values())


def test_a_version_is_judged_as_the_book_would_serve_it(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    book = PromptBook(7).having(Entry("Bright").setting(threshold=1.0))  # few pixels reach that
    served = trained(segmenter, tmp_path / "served", book=book)
    by_itself = trained(segmenter, tmp_path / "by itself")
    found, all_of_it = (
        one.version.card.metrics["labels"]["Bright"]["iou"] for one in (served, by_itself)
    )
    assert found < all_of_it / 2


def test_a_label_that_controls_ask_for_in_two_ways_is_judged_once(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    twice = parse_label_config(
        """<View><Image name="image" value="$image"/>
          <BrushLabels name="brush" toName="image"><Label value="Bright"/>
            <Label value="Missing"/></BrushLabels>
          <PolygonLabels name="outline" toName="image" model_output="true"
            model_score_threshold="0.9"><Label value="Bright"/></PolygonLabels></View>"""
    )
    done = trained(segmenter, tmp_path, config=twice)
    held_out = [task for task in TASKS if part_of(task) is Part.HELD_OUT]
    assert done.version.card.metrics["labels"]["Bright"]["images"] == len(held_out)


def test_no_image_that_taught_judges_and_none_judges_twice(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    few = replace(RECIPE, steps=1, look=1)
    teacher, stopper = (
        next(task for task in TASKS if part_of(task) is part)
        for part in (Part.TRAINING, Part.VALIDATION)
    )
    judge, *others = (task for task in TASKS if part_of(task) is Part.HELD_OUT)
    equal = dict(zip(others, (teacher, stopper, judge), strict=False))

    def imported_twice(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        for one in source(parts, account):
            yield replace(one, image=sample(equal.get(one.task, one.task)).image)

    done = trained(segmenter, tmp_path, imported_twice, few)
    metrics = done.version.card.metrics
    assert metrics["held_out_tasks"] == metrics["data"]["images"]["held-out"] == len(others) - 2
    assert done.account.examples == {
        "it would judge, and an equal image is learnt from": sorted(others[:2]),
        "it would judge, and an equal image does so already": others[2:3],
    }
    looked_at = done.account.present + done.account.absent
    assert set(looked_at.values()) == {done.account.parts.total()}
    assert "an equal image is learnt from" in done.report.read_text()


def test_no_exemplar_judges_the_label_that_it_shows(segmenter: Segmenter, tmp_path: Path) -> None:
    few = replace(RECIPE, steps=1, look=1)
    shows, *others = (task for task in TASKS if part_of(task) is Part.HELD_OUT)
    book = PromptBook(7).having(Entry("Bright", exemplars=(Shown("aa", shows),)))
    done = trained(segmenter, tmp_path, recipe=few, book=book)
    metrics = done.version.card.metrics
    assert metrics["labels"]["Bright"]["images"] == len(others)
    assert metrics["absent"]["Missing"]["images"] == 1 + len(others)
    reason = "it would judge a label that it is an exemplar of"
    assert done.account.examples == {reason: [shows]}


ENDLESS = " ".join(["7"] * 100)
WITH_ENDLESS = parse_label_config(
    f"""<View><Image name="image" value="$image"/>
      <BrushLabels name="brush" toName="image"><Label value="Bright"/><Label value="Missing"/>
        <Label value="Endless" predicted_values="{ENDLESS}"/></BrushLabels></View>"""
)


def with_label(label: str) -> Source:
    """As the school has it, with one more label that is where bright things are."""

    def accepted(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        for one in source(parts, account):
            masks = {**one.masks, label: one.masks["Bright"]}
            corrected = {label: one.masks["Bright"]}
            yield replace(one, labels=(*one.labels, label), masks=masks, corrected=corrected)

    return accepted


@pytest.mark.parametrize(
    ("label", "config"), [("Endless", WITH_ENDLESS), ("Nowhere in it", CONFIG)]
)
def test_a_label_that_cannot_be_asked_for_keeps_no_other_from_being_trained(
    segmenter: Segmenter,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    label: str,
    config: LabelConfig,
) -> None:
    few = replace(RECIPE, steps=10)
    done = trained(segmenter, tmp_path / "one", with_label(label), few, config)
    assert done.version.card.metrics["labels"].keys() == {"Bright"}
    assert any(label in text and "left out" in text for text in caplog.messages)
    without = trained(segmenter, tmp_path / "two", recipe=few)
    assert done.version.card.metrics["labels"] == without.version.card.metrics["labels"]


def test_where_no_label_can_be_asked_for_that_is_told(segmenter: Segmenter, tmp_path: Path) -> None:
    only = parse_label_config(label_config(["Bright"]).replace('"Bright"', f'"{ENDLESS}"'))
    with pytest.raises(BadPrompt, match="100 tokens"):
        trained(segmenter, tmp_path, config=only)


def test_where_too_little_is_left_it_is_told_what_was_left_out(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    def out_of_reach(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        for one in source(parts, account):
            account.leave_out(one.task, "the image cannot be had (ImageMissing)")
        return iter(())

    with pytest.raises(TooLittleData, match=r"the image cannot be had \(ImageMissing\) \(15\)\.$"):
        trained(segmenter, tmp_path, out_of_reach)


def test_the_next_version_goes_on_from_the_active_one(segmenter: Segmenter, tmp_path: Path) -> None:
    first = trained(segmenter, tmp_path)
    second = trained(segmenter, tmp_path, recipe=replace(RECIPE, seed=1))
    assert second.version.card.parent == first.version.id
    before = second.version.card.metrics["active_iou"]
    assert before == pytest.approx(first.version.card.metrics["iou"])


def shuffled(parts: Collection[Part], account: Account) -> Iterator[Sample]:
    """Masks that belong to nothing, wherever one learns from them."""
    for one in source(parts, account):
        if part_of(one.task) is Part.HELD_OUT:
            yield one
        else:
            wrong = np.zeros(one.size, bool)
            wrong[:8, : 8 + one.task] = True
            yield replace(one, masks={"Bright": wrong})


def test_what_learnt_from_wrong_masks_is_kept_and_rejected(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    good = trained(segmenter, tmp_path, recipe=LONGER)
    bad = trained(segmenter, tmp_path, shuffled, LONGER)
    assert bad.version.state is State.REJECTED
    assert bad.version.reason == bad.verdict.reason
    active = Registry(tmp_path).active(7, BASE)
    assert active is not None
    assert active.id == good.version.id


PAIR = parse_label_config(label_config(["Bright", "Dark"]))
BOTH = ("Bright", "Dark")


def pair(parts: Collection[Part], account: Account) -> Iterator[Sample]:
    """Bright squares, and in every third image what is around them."""
    for one in source(parts, account):
        masks = dict(one.masks)
        if one.task % 3 == 0:
            masks["Dark"] = ~masks["Bright"]
        yield replace(one, labels=BOTH, masks=masks)


def half_wrong(wrong: str) -> Source:
    """As `pair`; but what one learns of a label is wrong."""

    def accepted(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        for one in pair(parts, account):
            masks = dict(one.masks)
            if wrong in masks and part_of(one.task) is not Part.HELD_OUT:
                masks[wrong] = np.zeros(one.size, bool)
                masks[wrong][:6, :6] = True
            yield replace(one, masks=masks)

    return accepted


def test_a_label_that_would_fall_is_protected(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a random checkpoint knows nothing worth keeping
    monkeypatch.setattr(forgetting, "WANTED_KEPT", 0.0)
    monkeypatch.setattr(promotion, "LEAST_KEPT", 0.0)
    first = trained(segmenter, tmp_path, half_wrong("Bright"), LONGER, PAIR)
    registry = Registry(tmp_path)
    registry.activate(7, first.version.id, "it knows what is dark")
    second = trained(segmenter, tmp_path, half_wrong("Dark"), LONGER, PAIR)
    assert second.version.card.metrics["difference"]["low"] > 0
    assert second.version.state is State.REJECTED
    assert 'the label "Dark" falls' in second.version.reason
    active = registry.active(7, BASE)
    assert active is not None
    assert active.id == first.version.id


def test_what_a_person_chose_during_a_training_goes_on_being_served(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    first, registry = trained(segmenter, tmp_path), Registry(tmp_path)

    def meanwhile(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        if Part.HELD_OUT in parts:
            registry.rollback(7, "bad masks")
        return source(parts, account)

    second = trained(segmenter, tmp_path, meanwhile, replace(RECIPE, rate=1e-2))
    assert second.version.card.metrics["difference"]["low"] > 0
    assert second.version.state is State.REJECTED
    assert "the base checkpoint is served meanwhile" in second.version.reason
    assert f"judged beside version {first.version.id}" in second.version.reason
    assert registry.active(7, BASE) is None


def test_what_the_data_no_longer_has_is_not_kept(segmenter: Segmenter, tmp_path: Path) -> None:
    trained(segmenter, tmp_path, recipe=replace(RECIPE, steps=1, look=1))
    lessons = tmp_path / "7" / ".training" / "lessons"
    before = {path.name for path in lessons.rglob("*.safetensors")}
    trained(segmenter, tmp_path, shuffled, replace(RECIPE, steps=1, look=1))
    after = {path.name for path in lessons.rglob("*.safetensors")}
    assert len(after) == len(before)
    assert not after & before


def test_a_project_is_trained_by_one_at_a_time(segmenter: Segmenter, tmp_path: Path) -> None:
    def nested(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        with pytest.raises(AlreadyTraining, match="wait for it"):
            trained(segmenter, tmp_path)
        return source(parts, account)

    trained(segmenter, tmp_path, nested, replace(RECIPE, steps=1, look=1))
