"""Accepted scenes with a purple dotted ring in them, a label that means it, and their measuring."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.promptbook import Entry, PromptBook
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.acceptance import Acceptance
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.measure import Measured, measure
from demo.scenes import Look, generate
from models import Segmenter

WIDGET = Look("ring", "purple", "dotted")
XML = label_config(["Widget", "Gone"])
BASE = "b" * 64


def sample(task: int, typed: tuple[str, ...] = ()) -> Sample:
    """A scene with a widget in it, and nothing of the other label."""
    scene = generate(task, 128, include=[WIDGET], count=(3, 3))
    mask = np.logical_or.reduce([one.mask for one in scene.objects if one.look == WIDGET])
    image = TaskImage(scene.image, f"scene {task}")
    return Sample(task, "image", image, ("Widget", "Gone"), {"Widget": mask}, typed=typed)


def tasks(part: Part, count: int) -> list[int]:
    return [task for task in range(1, 200) if part_of(task) is part][:count]


def run(
    demo: Segmenter,
    books: Books,
    accepted: Sequence[Sample],
    xml: str = XML,
    base: str = BASE,
    unseen: Collection[int] = (),
) -> Measured:
    def marked(account: Account) -> Iterator[Sample]:
        account.unseen.update(unseen)
        for one in accepted:
            if one.task not in unseen:
                account.use(one)
                yield one

    config = parse_label_config(xml)
    predictor = Predictor(demo, FeatureCache(0))
    found = measure(predictor, base, books, 7, config, marked, threshold=0.4)
    return found.write(books, 7, config, Acceptance(), threshold=0.4)


def accepted(training: int, judging: int = 0) -> list[Sample]:
    found = [*tasks(Part.TRAINING, training), *tasks(Part.HELD_OUT, judging)]
    return [sample(task) for task in found]


def widget(book: PromptBook) -> Entry:
    return book.entry("Widget")
