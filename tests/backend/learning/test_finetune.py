from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.errors import TooLittleData
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.learning import finetune as finetuning
from backend.learning.dataset import Part
from backend.learning.finetune import finetune
from backend.learning.forgetting import Everyday
from backend.learning.lessons import Lesson, Lessons
from backend.learning.recipe import Look, Recipe, Result
from backend.learning.rows import conditions
from backend.prompting import Query
from models import Segmenter
from tests.backend.learning.school import sample

ASKED = [
    Query("image", "Bright", ("a bright thing",), 0.4, ()),
    Query("image", "Missing", ("a ring",), 0.4, ()),
]
RECIPE = Recipe(steps=40, look=10, rows=4, rate=5e-3)


def run(
    segmenter: Segmenter,
    lessons: list[Lesson],
    folder: Path,
    recipe: Recipe = RECIPE,
    told: Callable[[Look], None] = lambda _: None,
    memory: int = 2**20,
) -> Result:
    taught = Everyday.of(segmenter, [], 0).taught
    return finetune(
        segmenter,
        segmenter,
        lessons,
        taught,
        ASKED,
        recipe,
        folder,
        memory=memory,
        told=told,
    )


def test_a_label_is_trained_as_it_is_served_and_in_other_words(segmenter: Segmenter) -> None:
    predictor = Predictor(segmenter, FeatureCache(0))
    (width,) = predictor.condition(ASKED[0].prompts).shape
    shown = np.ones(width, np.float32)
    seen = replace(ASKED[0], exemplars=("one",), weights=((0.5, 0.1), (0.75, 0.0)), shown=shown)
    said = conditions(predictor, [seen, ASKED[1]])
    assert torch.equal(said["Bright"][0], predictor.asking(seen).conditions[1])
    assert torch.equal(said["Bright"][1], predictor.condition(["a bright thing"]))
    assert torch.equal(said["Missing"][0], predictor.condition(["a ring"]))
    assert torch.equal(said["Missing"][1], predictor.condition(["a photo of a a ring"]))


def text_of(segmenter: Segmenter, tokens: int) -> str:
    """A text of so many tokens, start and end of text not among them."""
    text = " ".join(["7"] * tokens)
    assert len(segmenter.tokenizer.encode([text])[0]) == tokens + 2
    return text


@pytest.mark.parametrize(("tokens", "rows"), [(70, 3), (72, 2), (75, 1)])
def test_words_that_a_text_leaves_no_room_for_are_left_out(
    segmenter: Segmenter, tokens: int, rows: int
) -> None:
    predictor = Predictor(segmenter, FeatureCache(0))
    long = text_of(segmenter, tokens)
    said = conditions(predictor, [replace(ASKED[0], prompts=(long,)), ASKED[1]])
    assert len(said["Bright"]) == rows
    assert torch.equal(said["Bright"][0], predictor.condition([long]))
    assert len(said["Missing"]) == 3
    both = conditions(predictor, [replace(ASKED[0], prompts=(long, "a ring"))])["Bright"]
    assert len(both) == 3
    if rows == 1:
        assert torch.equal(both[1], predictor.condition(["a photo of a a ring"]))


def same(one: Result, other: Result) -> bool:
    return one.history == other.history and all(
        torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items()
    )


def test_training_finds_what_was_accepted_and_is_the_same_again(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    first = run(segmenter, lessons, tmp_path / "1")
    (_, _, before), *_, (_, _, after) = first.history
    assert after > before + 0.2
    assert same(first, run(segmenter, lessons[::-1], tmp_path / "2"))


def test_what_features_and_conditions_depend_on_stays_as_it_is(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    weights = run(segmenter, lessons, tmp_path, replace(RECIPE, steps=10)).weights
    assert weights
    assert all(name.startswith("decoder.") and ".reduces." not in name for name in weights)
    assert segmenter.encodes_like(segmenter.with_decoder(weights))


def test_a_task_that_says_nothing_of_any_label_stops_no_training(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=1)
    known = run(segmenter, lessons, tmp_path / "1", recipe)
    for part in (Part.TRAINING, Part.VALIDATION):
        silent = next(one for one in lessons if one.part is part)
        others = [one for one in lessons if one is not silent]
        lacking = [*others, replace(silent, present=(), absent=())]
        assert run(segmenter, lacking, tmp_path / part, recipe).step == known.step


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", [5, 10, 27])
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path, at: int
) -> None:
    def kill(look: Look) -> None:
        if look.step == at:
            raise Killed

    with pytest.raises(Killed):
        run(segmenter, lessons, tmp_path / "killed", told=kill)
    looks: list[Look] = []
    resumed = run(segmenter, lessons, tmp_path / "killed", told=looks.append)
    assert looks[0].step == at // 10 * 10 + 1
    assert same(resumed, run(segmenter, lessons, tmp_path / "whole"))


def test_a_run_goes_on_where_its_device_is_no_more(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(look: Look) -> None:
        if look.step == 10:
            raise Killed

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("torch.serialization.location_tag", lambda _: "cuda:99")
        with pytest.raises(Killed):
            run(segmenter, lessons, tmp_path, told=kill)
    looks: list[Look] = []
    run(segmenter, lessons, tmp_path, told=looks.append)
    assert looks[0].step == 11


def test_another_run_does_not_go_on_from_it(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    run(segmenter, lessons, tmp_path, replace(RECIPE, steps=20))
    other = replace(RECIPE, seed=1, steps=20)
    fresh = run(segmenter, lessons, tmp_path / "fresh", other)
    assert same(run(segmenter, lessons, tmp_path, other), fresh)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"[]", None])
def test_an_unfinished_run_that_is_damaged_begins_anew(
    segmenter: Segmenter,
    lessons: list[Lesson],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
) -> None:
    few = replace(RECIPE, steps=10)
    fresh = run(segmenter, lessons, tmp_path / "fresh", few)
    assert not caplog.text
    path = tmp_path / "damaged" / "run.pt"
    path.parent.mkdir()
    if content is None:
        torch.save([], path)
    else:
        path.write_bytes(content)
    assert same(run(segmenter, lessons, path.parent, few), fresh)
    assert f"{path} cannot be read" in caplog.text


@pytest.mark.usefixtures("full_disk")
def test_a_run_that_cannot_be_kept_is_told_as_any_file(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=r"No space left on device: .*run\.pt"):
        run(segmenter, lessons, tmp_path)


def test_what_a_killed_run_was_writing_does_not_pile_up(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    for number in (17, 18):
        with monkeypatch.context() as killing:
            killing.setattr("os.getpid", lambda number=number: number)
            killing.setattr(Path, "replace", kill)
            with pytest.raises(Killed):
                run(segmenter, lessons, tmp_path)
    run(segmenter, lessons, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_it_stops_when_it_gets_no_better(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    result = run(segmenter, lessons, tmp_path, replace(RECIPE, rate=0.0, look=1, patience=3))
    assert [step for step, _, _ in result.history] == [0, 1, 2, 3, 4]
    assert result.step == 1


def test_however_many_tasks_there_are_a_look_takes_no_longer(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation = [lesson for lesson in lessons if lesson.part is Part.VALIDATION]
    _, *others = sorted(validation, key=lambda lesson: lesson.path.name)
    fewer = [lesson for lesson in lessons if lesson not in others]
    once = replace(RECIPE, steps=1)
    alone = run(segmenter, fewer, tmp_path / "alone", once)
    assert run(segmenter, lessons, tmp_path / "all", once).history[0] != alone.history[0]
    monkeypatch.setattr(finetuning, "LOOKED_AT", 1)
    assert run(segmenter, lessons, tmp_path / "one", once).history[0] == alone.history[0]


def test_where_chance_leaves_no_task_to_stop_by_some_to_train_on_do_it(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    training = [lesson for lesson in lessons if lesson.part is Part.TRAINING]
    (task, *_) = (lesson.task for lesson in lessons if lesson.part is Part.VALIDATION)
    without_labels = replace(sample(task), masks={})
    absent = Lessons(tmp_path / "absent", "base", segmenter).make(without_labels)
    for few in (training, [*training, absent]):
        assert run(segmenter, few, tmp_path / str(len(few))).step > 0
    with pytest.raises(TooLittleData, match="train on: 1, to stop by: 0"):
        run(segmenter, training[:1], tmp_path)


def test_both_images_of_a_task_are_to_train_on_or_to_stop_by(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    task = next(one for one in lessons if one.part is Part.TRAINING)
    second = replace(sample(task.task), image_key="other")
    both = [task, Lessons(tmp_path / "second", "base", segmenter).make(second)]
    with pytest.raises(TooLittleData, match="to stop by: 0"):
        run(segmenter, both, tmp_path)


def test_no_image_tells_when_to_stop_learning_from_itself(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    first, second, *_ = (one for one in lessons if one.part is Part.TRAINING)
    stopper = next(one for one in lessons if one.part is Part.VALIDATION)
    for one in (first, stopper):  # of training and validation, or both of training
        copy = replace(one, image=second.image)
        with pytest.raises(TooLittleData, match="train on: 0, to stop by: 2"):
            run(segmenter, [second, copy], tmp_path)


def test_too_little_to_learn_from_is_told(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    with pytest.raises(TooLittleData, match="accept some more tasks"):
        run(segmenter, lessons[:2], tmp_path)


def test_how_much_is_held_in_memory_changes_nothing(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, steps=10)
    roomy = run(segmenter, lessons, tmp_path / "1", recipe)
    assert same(roomy, run(segmenter, lessons, tmp_path / "2", recipe, memory=0))


def test_what_nobody_labeled_is_held_to_what_the_base_says(
    segmenter: Segmenter, lessons: list[Lesson], tmp_path: Path
) -> None:
    everyday = Everyday.of(segmenter, [], 0)
    images = [lesson.features(segmenter) for lesson in lessons[:6]]

    def drift(recipe: Recipe, folder: Path) -> float:
        tuned = segmenter.with_decoder(run(segmenter, lessons, folder, recipe).weights)
        moved = [
            (tuned.probabilities(one, asked) - segmenter.probabilities(one, asked)).abs().mean()
            for one in images
            for asked in everyday.asked[:20]
        ]
        return float(torch.stack(moved).mean())

    without = drift(replace(RECIPE, others=0.0), tmp_path / "without")
    assert drift(replace(RECIPE, others=0.7), tmp_path / "with") < 0.7 * without
