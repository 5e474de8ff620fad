from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.learning.lessons import Lesson, Lessons, Shelf
from models import Segmenter
from tests.backend.learning.school import sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "lessons"


def test_a_lesson_holds_each_view_with_its_masks(segmenter: Segmenter, folder: Path) -> None:
    made = Lessons(folder, "base", segmenter).make(sample(1))
    content = made.read()
    assert made.present == ("Bright",)
    assert made.absent == ("Missing",)
    assert content.targets.shape[:2] == (made.views, 1)
    assert content.targets.flatten(1).any(dim=1).all()
    assert {part.shape[0] for part in content.parts} == {made.views}
    plain, mirrored = content.targets[:2, 0]
    assert torch.equal(plain.flip(-1), mirrored)


def test_what_an_annotator_changed_is_kept_however_thin(segmenter: Segmenter, folder: Path) -> None:
    stroke = np.zeros((64, 64), bool)
    stroke[30, 10:50] = True
    one = sample(1)
    made = Lessons(folder, "base", segmenter).make(replace(one, corrected={"Missing": stroke}))
    assert made.corrected == ("Missing",)
    assert made.read().corrected[0, 0].any()
    assert made.path != Lessons(folder, "base", segmenter).make(one).path


def test_labels_may_change_places_in_the_labeling_configuration(
    segmenter: Segmenter, folder: Path
) -> None:
    left = np.zeros((64, 64), bool)
    left[10:30, 5:25] = True
    masks = {"Left": left, "Alone": left[:, ::-1]}
    turned = dict(reversed(masks.items()))
    first, other = (
        replace(sample(1), labels=tuple(shown), masks=shown, corrected=shown)
        for shown in (masks, turned)
    )
    maker = Lessons(folder, "base", segmenter)
    made, again = maker.make(first), maker.make(other)
    assert again == made
    content = again.read()
    for drawn in (content.targets, content.corrected):
        left_one = drawn[0, again.present.index("Left")].nonzero()[:, 1].float().mean()
        assert left_one < drawn.shape[-1] / 2


def test_a_lesson_is_made_once(segmenter: Segmenter, folder: Path) -> None:
    made = Lessons(folder, "base", segmenter).make(sample(1))
    written = made.path.stat().st_mtime_ns
    assert Lessons(folder, "base", segmenter).make(sample(1)) == made
    assert made.path.stat().st_mtime_ns == written


def test_lessons_are_the_same_however_often_their_making_was_stopped(
    segmenter: Segmenter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.learning.lessons.MOST_EXEMPLARS", 2)

    def shown(folder: Path, tasks: range) -> list[bool]:
        maker = Lessons(folder, "base", segmenter)
        made = [maker.make(sample(task)) for task in tasks]
        return [not one.read().exemplars.isnan().any() for one in made]

    assert shown(folder / "stopped", range(1, 3)) == [True, True]
    assert shown(folder / "stopped", range(1, 5)) == [True, True, False, False]
    assert shown(folder / "whole", range(1, 5)) == [True, True, False, False]
    # the first was deleted: another one is shown in its place
    assert shown(folder / "whole", range(2, 5)) == [True, True, False]


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_a_damaged_lesson_is_made_anew(
    segmenter: Segmenter, folder: Path, caplog: pytest.LogCaptureFixture, kept: int
) -> None:
    made = Lessons(folder, "base", segmenter).make(sample(1))
    whole = made.path.read_bytes()
    made.path.write_bytes(whole[:kept])
    assert Lessons(folder, "base", segmenter).make(sample(1)) == made
    assert made.path.read_bytes() == whole
    assert f"{made.path} is damaged" in caplog.text


@pytest.mark.usefixtures("full_disk")
def test_a_lesson_that_has_no_room_is_told_as_any_file(segmenter: Segmenter, folder: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: .*safetensors"):
        Lessons(folder, "base", segmenter).make(sample(1))


def test_features_are_what_the_segmenter_encodes(segmenter: Segmenter, folder: Path) -> None:
    one = sample(1)
    (fresh,) = segmenter.encode_image([one.image.image])
    kept = Lessons(folder, "base", segmenter).make(one).features(segmenter)
    assert kept.grid == fresh.grid
    for ours, theirs in zip(kept.parts, fresh.parts, strict=True):
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=5e-3)


def test_what_no_lesson_needs_is_deleted(segmenter: Segmenter, folder: Path) -> None:
    Lessons(folder, "another base", segmenter).make(sample(1))
    maker = Lessons(folder, "base", segmenter)
    kept, gone = maker.make(sample(1)), maker.make(sample(2))
    gone.path.with_suffix(".17").touch()
    foreign = folder / ".DS_Store"  # of somebody's file manager
    foreign.touch()
    maker.keep_only([kept])
    assert {path for path in folder.rglob("*") if path.is_file()} == {kept.path, foreign}
    assert {path.name for path in folder.iterdir()} == {"base", foreign.name}


def test_what_lessons_take_of_the_disk_is_told(
    segmenter: Segmenter, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = Lessons(folder, "base", segmenter)
    kept = [maker.make(sample(task)) for task in range(1, 5)]
    with caplog.at_level("INFO", "backend.learning.lessons"):
        maker.keep_only(kept[:3])
    taken = sum(path.stat().st_size for path in folder.rglob("*.safetensors")) / 2**20
    assert taken > 0.1
    assert f"3 encoded images take {taken:.1f} MB in {folder}" in caplog.text


def test_memory_holds_no_more_than_it_may(segmenter: Segmenter, folder: Path) -> None:
    maker = Lessons(folder, "base", segmenter)
    made = [maker.make(sample(task)) for task in range(1, 5)]
    size = made[0].read().nbytes
    shelf = Shelf(int(2.5 * size))
    for lesson in [*made, *made]:
        assert torch.equal(shelf.read(lesson).targets, lesson.read().targets)
        assert shelf.nbytes <= 2.5 * size


def test_what_was_read_last_is_not_read_again(
    segmenter: Segmenter, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Lessons(folder, "base", segmenter).make(sample(1))
    shelf = Shelf(2**30)
    first = shelf.read(made)
    monkeypatch.setattr(Lesson, "read", None)
    assert shelf.read(made) is first
