from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from backend.errors import AlreadyTraining, OutOfMemory
from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.learning.acceptance import Acceptance
from backend.learning.commands import Accepted, Learner, progress_bar
from backend.learning.dataset import Account, Part, Sample
from backend.learning.decisions import State
from backend.learning.evaluate import Evaluation
from backend.learning.measure import Figures, Measured
from backend.learning.promotion import Verdict
from backend.learning.recipe import Recipe
from backend.learning.train import Stage, alone
from backend.settings import Settings
from models import ImageFeatures, Segmenter
from tests.backend.learning.school import XML, source

BASE = "b" * 64


class Watched(FeatureCache):
    """Counts the images that had to be encoded."""

    def __init__(self) -> None:
        super().__init__(10**9)
        self.encoded = 0

    def put(self, digest: str, features: ImageFeatures) -> None:
        self.encoded += 1
        super().put(digest, features)


@pytest.fixture
def read() -> list[int]:
    """The tasks whose images were asked for."""
    return []


@pytest.fixture
def learner(segmenter: Segmenter, tmp_path: Path, read: list[int]) -> Learner:
    settings = Settings.from_environment({"MODEL_DIR": str(tmp_path)})

    def watched(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        for one in source(parts, account):
            read.append(one.task)
            yield one

    accepted = Accepted(XML, watched, partial(watched, tuple(Part)), Acceptance)
    return Learner(settings, segmenter, BASE, Watched(), 7, accepted)


def test_nothing_is_measured_for_a_training_that_has_to_wait(
    learner: Learner, tmp_path: Path, read: list[int]
) -> None:
    with alone(tmp_path, 7), pytest.raises(AlreadyTraining, match="Project 7"):
        learner.learn(Recipe(), lambda _: None)
    assert not read


def test_images_that_were_encoded_once_are_not_encoded_to_be_measured_on(
    learner: Learner, read: list[int]
) -> None:
    cache = learner.features
    assert isinstance(cache, Watched)
    learner.measure()
    first = cache.encoded
    assert first == len(set(read))
    learner.measure()
    assert len(read) == 2 * first
    assert cache.encoded == first


@pytest.mark.parametrize(
    ("lack", "advice"),
    [
        (MemoryError(), "TRAIN_MEMORY_MB"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "WORKERS"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), "another DEVICE"),
    ],
)
def test_a_training_that_needs_more_memory_than_there_is_says_what_to_do(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, lack: Exception, advice: str
) -> None:
    def short_of_memory(*_: object, **__: object) -> NoReturn:
        raise lack

    monkeypatch.setattr("backend.learning.commands.train", short_of_memory)
    with pytest.raises(OutOfMemory, match=advice):
        learner.learn(Recipe(), lambda _: None)


@pytest.mark.parametrize("tokens", [73, 100])
def test_a_label_of_many_words_keeps_no_other_from_being_learnt(
    learner: Learner, caplog: pytest.LogCaptureFixture, tokens: int
) -> None:
    label = f'<Label value="Long" predicted_values="{" ".join(["7"] * tokens)}"/>'
    xml = XML.replace("</BrushLabels>", f"{label}</BrushLabels>")
    accepted = replace(learner.accepted, label_config=xml)
    trained = replace(learner, accepted=accepted).learn(Recipe(steps=2), lambda _: None)
    assert "Bright" in trained.version.card.metrics["labels"]
    told = [text for text in caplog.messages if "Long" in text]
    assert bool(told) is (tokens > 75)


class Terminal(StringIO):
    """Shows progress bars."""

    def isatty(self) -> bool:
        return True


def test_each_stage_of_a_training_shows_its_own_progress(
    learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    with progress_bar() as bar:
        learner.learn(Recipe(steps=2), bar)
    shown = [line for line in terminal.getvalue().split("\r") if "image" in line or "step" in line]
    assert {line.partition(":")[0] for line in shown} <= {"", *Stage}
    judged = [line for line in shown if line.startswith(Stage.JUDGING)]
    assert judged
    assert not [line for line in judged if "left" in line]


@pytest.mark.parametrize("promoted", [True, False])
def test_what_a_version_was_judged_with_is_asked_once_it_is_promoted_and_not_before(
    learner: Learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promoted: bool
) -> None:
    looked, books = list[Predictor](), Books(tmp_path)

    def measure(predictor: Predictor, *_: object, **__: object) -> Figures:
        entry = books.book(7).entry("Bright")
        now = replace(entry, threshold=0.3 + 0.1 * len(looked))
        looked.append(predictor)
        return Figures(BASE, [(entry, now)], 1, Account())

    monkeypatch.setattr("backend.learning.commands.measure", measure)
    judged = list[float]()

    def judge(*arguments: Any) -> Evaluation:
        for asked in arguments[4:6]:
            judged.append(next(one.threshold for one in asked if one.label == "Bright"))
        return Evaluation()

    monkeypatch.setattr("backend.learning.train.evaluate", judge)
    monkeypatch.setattr("backend.learning.train.decide", lambda _: Verdict(promoted, "as told"))
    trained = learner.learn(Recipe(steps=2), lambda _: None)
    assert judged == pytest.approx([0.3, 0.4])
    assert [one.segmenter is learner.base for one in looked] == [True, False]
    book = books.book(7)
    assert book.entry("Bright").threshold == pytest.approx(0.4 if promoted else 0.3)
    assert book.note.tuned == (trained.version.id if promoted else None)


def test_a_version_is_served_though_what_was_measured_with_it_cannot_be_written(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Figures.write

    def full(self: Figures, *arguments: Any, tuned: str | None, **others: Any) -> Measured:
        if tuned is not None:
            raise OSError("No space left on device")
        return write(self, *arguments, tuned=tuned, **others)

    monkeypatch.setattr(Figures, "write", full)
    monkeypatch.setattr("backend.learning.train.decide", lambda _: Verdict(True, "as told"))
    assert learner.learn(Recipe(steps=2), lambda _: None).version.state is State.ACTIVE
    assert "prompts of project 7 are as before: No space left on device" in caplog.text
