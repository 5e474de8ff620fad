"""Which accepted tasks prompts are measured on, and whose images are fetched for that."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pytest

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.labelstudio.shapes import Mask
from backend.learning import evidence
from backend.learning.dataset import Part, Sample, part_of
from backend.learning.evidence import Evidence, gather
from backend.prompting import queries
from models import Segmenter
from tests.backend.learning.school import CONFIG, sample

MOST, EXEMPLARS, RESERVE = 8, 3, 2
TASKS = range(1, 81)
RARE = range(10, 81, 10)  # tasks that have the rare label, too


@dataclass(frozen=True)
class Unseen:
    """An accepted task whose image was not fetched; who fetches it is told of it."""

    sample: Sample
    seen: list[int]
    there: bool = True

    @property
    def task(self) -> int:
        return self.sample.task

    @property
    def image_key(self) -> str:
        return self.sample.image_key

    @property
    def typed(self) -> tuple[str, ...]:
        return (f"lamp {self.task % 3}",)

    @property
    def suggested(self) -> Collection[str]:
        return ()

    @property
    def masks(self) -> Mapping[str, Mask]:
        mask = self.sample.masks["Bright"]
        return {"Bright": mask, "Missing": mask} if self.task in RARE else {"Bright": mask}

    def see(self) -> Sample | None:
        self.seen.append(self.task)
        if not self.there:
            return None
        one = self.sample
        return Sample(one.task, one.image_key, one.image, one.labels, self.masks)


@pytest.fixture
def gathered(
    segmenter: Segmenter, books: Books, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Evidence, list[int]]]:
    """Gathers from tasks, with some images away; gives the tasks whose images were asked for."""
    monkeypatch.setattr(evidence, "MOST_TASKS", MOST)
    monkeypatch.setattr(evidence, "MOST_EXEMPLARS", EXEMPLARS)
    predictor = Predictor(segmenter, FeatureCache(0))

    def gathered(
        tasks: Sequence[int] = TASKS, away: Collection[int] = ()
    ) -> tuple[Evidence, list[int]]:
        seen: list[int] = []
        accepted = [Unseen(sample(task), seen, task not in away) for task in tasks]
        found = gather(predictor, books, 7, "base", queries(CONFIG, 0.4), accepted)
        return found, seen

    return gathered


def with_all_images(tasks: Sequence[int]) -> tuple[list[int], dict[str, list[int]]]:
    """What is measured on, and what shows each label, where every image is looked at in turn."""
    first: list[int] = []
    shots: dict[str, list[int]] = {"Bright": [], "Missing": []}
    reserve: dict[str, list[int]] = {"Bright": [], "Missing": []}
    for task in tasks:
        if len(first) == MOST and evidence._rank(task) > evidence._rank(first[-1]):
            continue
        first = sorted([*first, task], key=evidence._rank)[:MOST]
        held_out = part_of(task) is Part.HELD_OUT
        for label in ("Bright", "Missing") if task in RARE else ("Bright",):
            held = (reserve if held_out else shots)[label]
            if len(held) < (RESERVE if held_out else EXEMPLARS):
                held.append(task)
    few = sum(part_of(task) is Part.HELD_OUT for task in first) <= RESERVE
    for label, held in reserve.items():
        if few:
            shots[label] += held[: EXEMPLARS - len(shots[label])]
        elif not shots[label]:
            shots[label] += held[:1]
    return first, {label: held for label, held in shots.items() if held}


@pytest.mark.parametrize("count", [3, MOST, MOST + 1, 20, 40, 80])
def test_the_same_is_measured_on_as_if_every_image_were_looked_at(
    gathered: Callable[..., tuple[Evidence, list[int]]], count: int
) -> None:
    found, _ = gathered(TASKS[:count])
    measured_on, shots = with_all_images(TASKS[:count])
    assert sorted(one.task for one in found.seen) == sorted(measured_on)
    assert {label: [s.task for s in held] for label, held in found.shots.items()} == shots


def test_images_that_nothing_is_measured_on_are_not_asked_for(
    gathered: Callable[..., tuple[Evidence, list[int]]],
) -> None:
    found, seen = gathered()
    shown = {shot.task for held in found.shots.values() for shot in held}
    assert len(seen) == len(set(seen))  # nor any twice
    assert {one.task for one in found.seen} | shown <= set(seen)
    assert len(seen) <= MOST + 2 * (EXEMPLARS + RESERVE) < len(TASKS)


def test_phrases_count_whether_or_not_their_image_is_asked_for(
    gathered: Callable[..., tuple[Evidence, list[int]]],
) -> None:
    found, _ = gathered(away=TASKS[:20])
    assert sum(texts.total() for texts in found.typed.values()) == len(TASKS)


def test_others_take_the_place_of_images_that_cannot_be_had(
    gathered: Callable[..., tuple[Evidence, list[int]]],
) -> None:
    first, _ = with_all_images(TASKS)
    away = first[: MOST // 2]
    found, _ = gathered(away=away)
    assert len(found.seen) == MOST
    assert not {one.task for one in found.seen} & set(away)
