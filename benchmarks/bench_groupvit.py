"""What tuning a GroupViT on accepted tasks is worth, by the road that CLIPSeg takes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.train import train
from benchmarks.annotator import KNOWN, NEW, POOL, SPAN
from benchmarks.bench_learning import TASKS, THRESHOLD, Judge
from demo import GROUPVIT

SEEDS = (0, 1, 2)
ACCEPTED = (20, 50)  # tasks
SUBJECTS = {
    "new shapes and a new texture, names that mean nothing": NEW,
    "shapes and a texture that it knows by these names": KNOWN,
}


def tuned(judge: Judge, accepted: Sequence[Sample]) -> tuple[float, float, float, bool, float]:
    """Labels' IoU, wrong marks, what was known, whether it would be served, and seconds."""

    def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        return (one for one in accepted if part_of(one.task) in parts)

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(Path(folder))
        made = train(
            judge.base,
            "demo",
            registry,
            Path(folder),
            1,
            judge.config,
            source,
            threshold=THRESHOLD,
            recipe=Recipe(),
        )
        seconds = time.perf_counter() - began
        version = judge.base.with_decoder(registry.weights(made.version))
    seen = judge.new(version, judge.asked)
    return seen.iou, seen.false, judge.old(version), made.verdict.promoted, seconds


def table() -> str:
    """Markdown."""
    lines = [
        "| labels | accepted tasks | mean IoU | marked where nothing is | what it knew | promoted "
        "| seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    turns = len(SUBJECTS) * len(ACCEPTED) * len(SEEDS)
    with tqdm(total=turns, desc="trainings", disable=None) as bar:
        for told, subject in SUBJECTS.items():
            judge = Judge(GROUPVIT, subject)
            seen, old = judge.new(judge.base, judge.asked), judge.old(judge.base)
            lines.append(f"| {told} | 0 | {seen.iou:.3f} | {seen.false:.2f} | {old:.3f} | | |")
            for count in ACCEPTED:
                rows = []
                for seed in SEEDS:
                    drawn = np.random.default_rng(seed).permutation(TASKS)[:count] + 1
                    first = POOL + seed * SPAN
                    some = [subject.sample(int(task), first + int(task)) for task in drawn]
                    rows.append(tuned(judge, some))
                    bar.update()
                new, false, old, _, seconds = np.mean(rows, axis=0)
                won = sum(row[3] for row in rows)
                lines.append(
                    f"| {told} | {count} | {new:.3f} | {false:.2f} | {old:.3f} "
                    f"| {won} of {len(rows)} | {seconds:.0f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
