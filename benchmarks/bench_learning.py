"""What training is worth: labels whose names mean nothing to the demo checkpoint.

Generated scenes are accepted as annotators would, and labels are given names that are no words of
the checkpoint's. Scores are on other scenes, and those of what it knew before on the ones that
`promptbrush evaluate` takes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.drawn import iou
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.train import train
from backend.prompting import queries
from demo import CHECKPOINT
from demo.evaluate import EXEMPLAR
from demo.evaluate import evaluate as known
from demo.scenes import SceneObject, generate
from models import Segmenter, checkpoint

ACCEPTED = (20, 50)
JUDGED = 100  # scenes
THRESHOLD = 0.4
FIRST, OTHERS = 5_000_000, 6_000_000  # seeds


def means(label: str, thing: SceneObject) -> bool:
    """What each label stands for."""
    match label:
        case "Widget":
            return thing.shape == "star"
        case "Gasket":
            return thing.shape == "ring"
        case _:
            return thing.texture == "dotted"


LABELS = ("Widget", "Gasket", "Pox")


def sample(task: int, seed: int) -> Sample:
    """A scene as an accepted task."""
    scene = generate(seed)
    masks = {
        label: np.logical_or.reduce([o.mask for o in scene.objects if means(label, o)])
        for label in LABELS
        if any(means(label, o) for o in scene.objects)
    }
    return Sample(task, "image", TaskImage(scene.image, f"scene {seed}"), LABELS, masks)


def accept(tasks: int, parts: Collection[Part], account: Account) -> Iterator[Sample]:
    """The first tasks of a project."""
    for task in range(1, tasks + 1):
        if part_of(task) in parts:
            one = sample(task, FIRST + task)
            account.use(one)
            yield one


def score(segmenter: Segmenter, config: LabelConfig) -> Mapping[str, float]:
    """Mean IoU by label, where it is there, on scenes that nobody accepted."""
    judge, asked = Predictor(segmenter, FeatureCache(0)), queries(config, THRESHOLD)
    rows = {query: judge.condition(query.prompts) for query in asked}
    found: dict[str, list[float]] = {label: [] for label in LABELS}
    for number in range(JUDGED):
        one = sample(number, OTHERS + number)
        (features,) = judge.encode([(one.image.digest, one.image.image)])
        for answer in judge.find(features, rows):
            if answer.query.label in one.masks:
                found[answer.query.label].append(iou(answer.mask, one.mask(answer.query.label)))
    return {label: float(np.mean(scores)) for label, scores in found.items()}


def old(segmenter: Segmenter) -> float:
    """Mean score of the prompts that the checkpoint was made for."""
    rows = known(segmenter, 60, progress=False)
    return float(np.mean([row.score for row in rows if row.kind not in {"absent", EXEMPLAR}]))


def table() -> str:
    """The rows, in Markdown."""
    base, digest = (
        Segmenter.from_pretrained(CHECKPOINT, device="cpu"),
        checkpoint.digest(CHECKPOINT),
    )
    config = parse_label_config(label_config(LABELS))
    lines = [
        f"| accepted tasks | seconds | {' | '.join(LABELS)} | mean | what it knew | verdict |",
        f"|---|---|{'---|' * len(LABELS)}---|---|---|",
    ]

    def row(name: str, seconds: float, segmenter: Segmenter, verdict: str) -> None:
        scores = score(segmenter, config)
        cells = [f"{value:.3f}" for value in (*scores.values(), np.mean(list(scores.values())))]
        told = [name, f"{seconds:.0f}", *cells, f"{old(segmenter):.3f}", verdict]
        lines.append(f"| {' | '.join(told)} |")

    row("0", 0, base, "")
    for accepted in ACCEPTED:
        with tempfile.TemporaryDirectory() as folder:
            registry, start = Registry(Path(folder)), time.perf_counter()
            done = train(
                base,
                digest,
                registry,
                Path(folder),
                1,
                config,
                partial(accept, accepted),
                threshold=THRESHOLD,
                recipe=Recipe(),
            )
            seconds = time.perf_counter() - start
            tuned = base.with_decoder(registry.weights(done.version))
            row(str(accepted), seconds, tuned, "promoted" if done.verdict.promoted else "rejected")
            sys.stderr.write(f"{accepted}: {done.verdict.reason}\n")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
