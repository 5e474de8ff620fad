"""How often a verdict on a version is right, by how those who judge are looked at.

Projects accept tasks of generated scenes, and train. What was made is judged on the project's few
held-out tasks, looked at once or in several ways, and asked as the prompt book of before says or as
one that was measured with it. So is what is no better: from the base checkpoint three tenths as
far, the other way. Many other scenes tell how good both are.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from torch import Tensor
from tqdm import tqdm

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.learning.acceptance import Acceptance
from backend.learning.dataset import Account, Part, Sample, of_parts
from backend.learning.evaluate import LOOKS, evaluate
from backend.learning.forgetting import Everyday
from backend.learning.measure import measure
from backend.learning.promotion import decide
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.train import train
from backend.prompting import Query, queries
from benchmarks.annotator import POOL, SPAN
from benchmarks.bench_learning import ROUNDS, TASKS, THRESHOLD, Judge

ACCEPTED = (20, 50)  # tasks
# of the way from the base checkpoint to what was made
SHARES = {"made": 1.0, "the other way": -0.3}
OFTEN = {"once": 0, "in several ways": LOOKS}
BOOKS = ("of before", "measured")  # that a candidate is asked by


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate."""

    kind: str
    gain: float  # of IoU beside the base checkpoint, over all images of many other scenes
    promoted: Mapping[tuple[str, str], bool]  # by how often judges are looked at, and by the book


class Project:
    """A project with accepted tasks."""

    def __init__(self, judge: Judge, seed: int, count: int, folder: Path) -> None:
        drawn = np.random.default_rng(seed).permutation(TASKS)[:count] + 1
        first = POOL + seed * SPAN
        self.accepted = [judge.subject.sample(int(task), first + int(task)) for task in drawn]
        self.judge, self.folder = judge, folder
        self.books, self.features = Books(folder), FeatureCache(10**9)

    def source(self, parts: Collection[Part], account: Account) -> Iterator[Sample]:
        """Samples of some parts."""
        for one in of_parts(self.accepted, parts, lambda sample: sample.task):
            account.use(one)
            yield one

    def marked(self, account: Account) -> Iterator[Sample]:
        """All of them."""
        return self.source(tuple(Part), account)

    def cases(self) -> list[Case]:
        """What comes of a training, judged in all ways."""
        judge, base, nobody = self.judge, self.judge.base, Acceptance()
        known = "demo", self.books, 1, judge.config, self.marked
        figures = measure(Predictor(base, self.features), *known, threshold=THRESHOLD)
        figures.write(self.books, 1, judge.config, nobody, threshold=THRESHOLD)
        book = self.books.serving(1, "demo")
        asked = queries(judge.config, THRESHOLD, book)
        registry = Registry(self.folder)
        trained = train(
            base,
            "demo",
            registry,
            self.folder,
            1,
            judge.config,
            self.source,
            threshold=THRESHOLD,
            recipe=Recipe(),
            book=book,
        )
        made, own = registry.weights(trained.version), base.model.state_dict()
        before, cases = judge.new(base, asked).overall, list[Case]()
        for kind, share in SHARES.items():
            weights = {name: own[name].float().lerp(one, share) for name, one in made.items()}
            tuned = Predictor.tuned(base, weights, kind, self.features)
            figures = measure(tuned, *known, threshold=THRESHOLD)
            then = self.books.showing(figures.over(self.books.book(1)))
            new = queries(judge.config, THRESHOLD, then)
            promoted = {
                (often, book): self._promotes(weights, looks, asked, queried)
                for often, looks in OFTEN.items()
                for book, queried in zip(BOOKS, (asked, new), strict=True)
            }
            after = judge.new(base.with_decoder(weights), new).overall
            cases.append(Case(kind, after - before, promoted))
        return cases

    def _promotes(
        self,
        weights: Mapping[str, Tensor],
        looks: int,
        asked: Sequence[Query],
        then: Sequence[Query],
    ) -> bool:
        base, held_out = self.judge.base, self.source((Part.HELD_OUT,), Account())
        said = [text for query in asked for text in query.prompts]
        everyday, candidate = Everyday.of(base, said, 0).asked, base.with_decoder(weights)
        with mock.patch("backend.learning.evaluate.LOOKS", looks):
            found = evaluate(held_out, base, base, candidate, asked, then, everyday, THRESHOLD)
        return decide(found).promoted


def cases() -> list[Case]:
    """What comes of every training."""
    judge, found = Judge(), list[Case]()
    with tqdm(total=ROUNDS * len(ACCEPTED), unit="training", disable=None) as bar:
        for seed in range(ROUNDS):
            for count in ACCEPTED:
                with tempfile.TemporaryDirectory() as folder:
                    found += Project(judge, seed, count, Path(folder)).cases()
                bar.update()
    return found


def table() -> str:
    """Markdown."""
    lines = [
        "| candidates | how many | gain elsewhere | looked at | promoted, asked as before | "
        "promoted, as measured with it |",
        "|---|---:|---|---|---:|---:|",
    ]
    judged = cases()
    for kind in SHARES:
        some = [case for case in judged if case.kind == kind]
        gains = [case.gain for case in some]
        spread = f"{min(gains):+.3f} to {max(gains):+.3f}"
        for often in OFTEN:
            won = [sum(case.promoted[often, book] for case in some) for book in BOOKS]
            lines.append(f"| {kind} | {len(some)} | {spread} | {often} | {won[0]} | {won[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
