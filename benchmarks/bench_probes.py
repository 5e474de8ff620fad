"""What a second look at the parts of masks is worth, by how much the labels' words tell.

Tasks of generated scenes are accepted, `prompts measure` fills the book, and other scenes are asked
as it says, with its probes and without.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.learning.acceptance import Acceptance
from backend.learning.dataset import Account, Sample
from backend.learning.measure import measure
from backend.prompting import queries
from benchmarks.annotator import KNOWN, NEW, POOL, SPAN, VAGUE
from benchmarks.bench_learning import TASKS, THRESHOLD, Judge, Seen

SEEDS = range(20, 26)  # what probes are made of was chosen on others
ACCEPTED = (5, 10, 20, 40)  # tasks
SUBJECTS = {
    "mean nothing": NEW,
    "say too little": VAGUE,
    "say it": KNOWN,
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a book finds on other scenes, without probes and with them."""

    without: Seen
    looked: Seen
    probes: int  # of labels


def found(judge: Judge, predictor: Predictor, accepted: Sequence[Sample]) -> Found:
    """Measure on accepted tasks, and ask other scenes."""

    def marked(account: Account) -> Iterator[Sample]:
        for one in accepted:
            account.use(one)
            yield one

    with tempfile.TemporaryDirectory() as folder:
        books = Books(Path(folder))
        nobody, config = Acceptance(), judge.config
        figures = measure(predictor, "demo", books, 1, config, marked, threshold=THRESHOLD)
        figures.write(books, 1, config, nobody, threshold=THRESHOLD)
        asked = queries(judge.config, THRESHOLD, books.serving(1, "demo"))
    all_parts = [
        replace(query.showing_all(), confidence=query.confidence) if query.probed else query
        for query in asked
    ]
    probes = sum(bool(query.probed) for query in asked)
    without = judge.new(judge.base, all_parts)
    return Found(without, judge.new(judge.base, asked) if probes else without, probes)


def table() -> str:
    """Markdown."""
    lines = [
        "| the labels' names | accepted tasks | labels with a probe | IoU without | with it | "
        "marked where nothing is, without | with it |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    with tqdm(total=len(SUBJECTS) * len(SEEDS) * len(ACCEPTED), unit="book", disable=None) as bar:
        for name, subject in SUBJECTS.items():
            judge = Judge(subject=subject)
            predictor = Predictor(judge.base, FeatureCache(10**9))
            rows: dict[int, list[Found]] = {count: [] for count in ACCEPTED}
            for seed in SEEDS:
                order = np.random.default_rng(seed).permutation(TASKS)[: max(ACCEPTED)] + 1
                tasks = [subject.sample(int(t), POOL + seed * SPAN + int(t)) for t in order]
                for count in ACCEPTED:
                    rows[count].append(found(judge, predictor, tasks[:count]))
                    bar.update()
            for count, some in rows.items():
                labels = f"{sum(one.probes for one in some)} of {len(SEEDS) * len(subject.labels)}"
                both = [[(s.iou, s.false) for s in (one.without, one.looked)] for one in some]
                iou, marked = np.mean(both, axis=0).T
                cells = [name, str(count), labels, *(f"{figure:.3f}" for figure in iou)]
                lines.append(f"| {' | '.join([*cells, *(f'{share:.2f}' for share in marked)])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
