"""What accepted work is worth, over HTTP and the queue: `make bench-learning`.

An annotator accepts generated scenes one by one; at some numbers of them a training is asked for,
and what it makes is judged on other scenes. That is done in a random order and in the order of
uncertainty, in several rounds with other scenes. Rounds that were done stay in
`out/bench-learning`: a run that was interrupted goes on.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import requests
from tqdm import tqdm

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.labelstudio.config import parse_label_config
from backend.learning.chart import COLOURS, GREY, Series, chart
from backend.learning.dataset import Sample
from backend.learning.drawn import iou
from backend.learning.registry import Registry
from backend.prompting import Query, queries
from backend.showcase import serving
from benchmarks.annotator import JUDGED, LABELS, POOL, SPAN, XML, picture, sample, submitted
from demo import CHECKPOINT
from demo.evaluate import EXEMPLAR
from demo.evaluate import evaluate as known
from models import Exemplar, Segmenter

ROUNDS = 3
STAGES = (5, 10, 20, 50)  # accepted tasks
ORDERS = ("random", "uncertainty")
TASKS = 120  # of a project
SCENES = 60  # that judge new concepts
OLD_SCENES = 60  # and what was known
THRESHOLD = 0.4
SHOWN, WEIGHT = 8, 0.5  # exemplars of a label at most, and their share beside its name
PROJECT = 1
LIMIT = 600.0  # seconds for a training
AT = 20  # accepted tasks that are judged by GAIN, LOSS and SECONDS
GAIN, LOSS, SECONDS = 0.25, 0.02, 180

HEADING = "## Learning from accepted annotations"
RESULTS = Path(__file__).with_name("RESULTS.md")
PLOT = Path(__file__).with_name("learning.svg")
DONE = Path("out/bench-learning/rounds.json")


@dataclass(frozen=True, slots=True)
class Step:
    """What there was to see at a number of accepted tasks; means of IoU."""

    seed: int
    order: str
    accepted: int
    named: float  # new labels by the version that was made, asked with their names alone
    shown: float  # by exemplars, with the checkpoint that nobody trained
    served: float  # by the version, asked as the prompt book says
    false: float  # share of the images without a label in which that marks something
    old: float  # what the checkpoint knew, by the version
    seconds: float  # that the training took
    outcome: str  # promoted, rejected or why there is no version


class Judge:
    """Scores segmenters on scenes that nobody accepted."""

    def __init__(self) -> None:
        self.base = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
        self.config = parse_label_config(XML)
        self.asked = queries(self.config, THRESHOLD)

    @cached_property
    def _scenes(self) -> list[tuple[Sample, Any]]:
        judge, samples = Predictor(self.base, FeatureCache(0)), []
        for number in range(SCENES):
            one = sample(number, JUDGED + number)
            samples.append((one, judge.encode([(one.image.digest, one.image.image)])[0]))
        return samples

    def new(self, segmenter: Segmenter, asked: Sequence[Query]) -> tuple[float, float]:
        """Mean IoU of the labels where they are; how often something is marked where they are not.

        The latter is a share of the images without a label.
        """
        judge = Predictor(segmenter, FeatureCache(0))
        rows = {query: judge.asking(query) for query in asked}
        scores: dict[str, list[float]] = {label: [] for label in LABELS}
        marked = []
        for one, features in self._scenes:
            for answer in judge.find(features, rows):
                label = answer.query.label
                if label in one.masks:
                    scores[label].append(iou(answer.mask, one.masks[label]))
                else:
                    marked.append(answer.mask is not None)
        means = [np.mean(found) for found in scores.values()]
        return float(np.mean(means)), float(np.mean(marked))

    def old(self, segmenter: Segmenter) -> float:
        """Mean score of the kinds of phrases that the checkpoint was made for."""
        rows = known(segmenter, OLD_SCENES, progress=False)
        return float(np.mean([row.score for row in rows if row.kind not in {"absent", EXEMPLAR}]))

    def shown(self, accepted: Sequence[Sample]) -> list[Query]:
        """The labels with exemplars beside their names."""
        return [self._showing(query, accepted) for query in self.asked]

    def _showing(self, query: Query, accepted: Sequence[Sample]) -> Query:
        having = [one for one in accepted if query.label in one.masks][:SHOWN]
        if not having:
            return query
        seen = self.base.encode_exemplar(
            [Exemplar(one.image.image, one.masks[query.label]) for one in having]
        )
        names = tuple(str(one.task) for one in having)
        mean = seen.float().mean(dim=0).numpy()
        return replace(query, exemplars=names, weight=WEIGHT, shown=mean)


class Project:
    """A project of a running promptbrush, and its annotator."""

    def __init__(self, url: str, images: Path, seed: int) -> None:
        self._url = url
        self.samples = {
            task: sample(task, POOL + seed * SPAN + task) for task in range(1, TASKS + 1)
        }
        for task, one in self.samples.items():
            (images / f"{task}.png").write_bytes(picture(one))
        self.accepted: list[int] = []
        drawn = np.random.default_rng(seed).permutation(TASKS) + 1
        self._random = [int(task) for task in drawn]

    def accept(self, number: int, order: str) -> None:
        """Accept tasks until there are so many."""
        left = [task for task in self._random if task not in self.accepted]
        if order == "uncertainty" and self.accepted:  # nothing can be uncertain of what is unknown
            scores = self._scores(left)
            left.sort(key=lambda task: scores.get(task, 0.0))
        for task in left[: number - len(self.accepted)]:
            event = submitted(PROJECT, self.samples[task], _url(task))
            requests.post(f"{self._url}/webhook", json=event, timeout=30).raise_for_status()
            self.accepted.append(task)

    def _scores(self, tasks: Sequence[int]) -> dict[int, float]:
        """How certain predictions are, as Label Studio is told."""
        found = {}
        for start in range(0, len(tasks), 20):
            some = tasks[start : start + 20]
            body = {
                "tasks": [{"id": task, "data": {"image": _url(task)}} for task in some],
                "label_config": XML,
                "project": f"{PROJECT}.1",
            }
            answer = requests.post(f"{self._url}/predict", json=body, timeout=300).json()
            for task, entry in zip(some, answer["results"], strict=True):
                if entry:
                    found[task] = float(entry["score"])
        return found

    def train(self) -> dict[str, Any]:
        """Ask for a training and wait for it; how it ended."""
        asked = requests.post(f"{self._url}/train", json={"project": PROJECT}, timeout=30).json()
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            told = requests.get(f"{self._url}/jobs?project={PROJECT}", timeout=30).json()
            for one in told["training"]["projects"]:
                if one["job"] == asked["job"] and one["state"] in {"done", "failed", "stopped"}:
                    return dict(one)
            time.sleep(0.2)
        raise SystemExit(f"{asked['job']} did not end within {LIMIT:.0f} seconds.")


def _url(task: int) -> str:
    return f"/data/local-files/?d={task}.png"


def steps(judge: Judge, seed: int, order: str, bar: tqdm[None]) -> Iterator[Step]:
    """One project's life."""
    with tempfile.TemporaryDirectory() as folder:
        images, models = Path(folder) / "images", Path(folder) / "models"
        images.mkdir()
        settings = {
            "LOCAL_FILES_DOCUMENT_ROOT": str(images),
            "MODEL_DIR": str(models),
            "TRAIN_AFTER": "0",
            "LABEL_STUDIO_URL": "",
            "LABEL_STUDIO_API_KEY": "",
        }
        with serving(settings) as url:
            project, registry, tuned = Project(url, images, seed), Registry(models), judge.base
            for number in STAGES:
                project.accept(number, order)
                began = time.perf_counter()
                ended = project.train()
                seconds = time.perf_counter() - began
                if ended.get("version"):
                    made = registry.version(PROJECT, ended["version"])
                    tuned = judge.base.with_decoder(registry.weights(made))
                shown = judge.shown([project.samples[task] for task in project.accepted])
                books = Books(models)
                book = books.serving(PROJECT, books.book(PROJECT).note.base)
                served = judge.new(tuned, queries(judge.config, THRESHOLD, book))
                yield Step(
                    seed,
                    order,
                    number,
                    judge.new(tuned, judge.asked)[0],
                    judge.new(judge.base, shown)[0],
                    *served,
                    judge.old(tuned),
                    seconds,
                    str(ended.get("outcome") or ended.get("error")),
                )
                bar.update()


def measure(judge: Judge) -> list[Step]:
    """Every round, from where an interrupted run was."""
    done = [Step(**row) for row in json.loads(DONE.read_text())] if DONE.exists() else []
    rounds = [(seed, order) for seed in range(ROUNDS) for order in ORDERS]
    with tqdm(total=len(rounds) * len(STAGES), unit="training", initial=len(done)) as bar:
        for seed, order in rounds:
            if not any((one.seed, one.order) == (seed, order) for one in done):
                done.extend(steps(judge, seed, order, bar))
                DONE.parent.mkdir(parents=True, exist_ok=True)
                DONE.write_text(json.dumps([asdict(one) for one in done]), encoding="utf-8")
    return done


def means(done: Sequence[Step], order: str, figure: str) -> dict[int, float]:
    """A figure's mean over the rounds, by accepted tasks."""
    return {
        stage: float(
            np.mean([getattr(s, figure) for s in done if (s.order, s.accepted) == (order, stage)])
        )
        for stage in STAGES
    }


def section(done: Sequence[Step], new: float, false: float, old: float) -> str:
    """The part of the results, in Markdown."""
    random, uncertain = (means(done, order, "served") for order in ORDERS)
    named, shown, marked, kept, seconds = (
        means(done, "random", figure) for figure in ("named", "shown", "false", "old", "seconds")
    )
    lines = [
        "| accepted tasks | trained, by name | exemplars | trained, as served "
        "| the same, uncertain first | marked where nothing is | what it knew | promoted "
        "| seconds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| 0 | {new:.3f} | {new:.3f} | {new:.3f} | {new:.3f} | {false:.2f} | {old:.3f} | | |",
    ]
    for stage in STAGES:
        won = sum(s.outcome == "promoted" for s in done if s.accepted == stage)
        of = sum(s.accepted == stage for s in done)
        cells = [named[stage], shown[stage], random[stage], uncertain[stage]]
        told = " | ".join(f"{value:.3f}" for value in cells)
        told += f" | {marked[stage]:.2f} | {kept[stage]:.3f}"
        lines.append(f"| {stage} | {told} | {won} of {of} | {seconds[stage]:.0f} |")
    gain, loss = random[AT] - new, old - kept[AT]
    ahead = [stage for stage in STAGES if uncertain[stage] >= random[stage]]
    return "\n\n".join(
        [
            HEADING,
            "Written by `make bench-learning`. An annotator accepts scenes with two shapes and a "
            "texture that the demo checkpoint never saw, under names that mean nothing to it: "
            "webhooks, `/train` and `/predict` of a `promptbrush up`, the mean of "
            f"{ROUNDS} rounds. Mean IoU where a label is, on {SCENES} other scenes, for what a "
            "training made, promoted or not: asked with the label's name alone, and as the prompt "
            "book has it (exemplars, weight and threshold as they were measured). "
            "Exemplars alone are asked of the demo checkpoint, half and half with the name. "
            "Marked where nothing is: the share of images without a label in which the version "
            "marks something as served. What it knew is the mean over the kinds of phrases of "
            f"`promptbrush evaluate`, on {OLD_SCENES} scenes. Seconds are from the request to the "
            "verdict.",
            "\n".join(lines),
            "![IoU by accepted tasks](learning.svg)",
            "\n".join(
                [
                    f"- {AT} accepted tasks: new labels {gain:+.3f} (wanted: {GAIN:+.2f} or more), "
                    f"what it knew {-loss:+.3f} (wanted: {-LOSS:+.2f} or more), "
                    f"{seconds[AT]:.0f} s (wanted: {SECONDS} s or less)",
                    f"- uncertain first is at least as good as random at {_list(ahead)} of "
                    f"{_list(STAGES)} tasks",
                ]
            ),
        ]
    )


def _list(stages: Sequence[int]) -> str:
    return ", ".join(map(str, stages)) or "none"


def plot(done: Sequence[Step], new: float, old: float) -> str:
    """The curves."""
    named = (
        ("trained, by name", "random", "named", False),
        ("exemplars", "random", "shown", False),
        ("trained, as served", "random", "served", False),
        ("uncertain first", "uncertainty", "served", False),
        ("what it knew", "random", "old", True),
    )
    drawn = [
        Series(
            name,
            [(0, old if figure == "old" else new), *means(done, order, figure).items()],
            GREY if dashed else colour,
            dashed,
        )
        for (name, order, figure, dashed), colour in zip(named, COLOURS, strict=False)
    ]
    drawing = chart("IoU by accepted tasks", drawn, "accepted tasks", low=0, high=1)
    return drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def kept() -> str:
    """The section as it stands in the results, for `make bench`."""
    found = re.search(rf"^{HEADING}$.*?(?=^## |\Z)", RESULTS.read_text(), re.DOTALL | re.MULTILINE)
    return found.group().strip() if found else f"{HEADING}\n\nSee `make bench-learning`."


def main() -> None:
    """Measure, and put the section into the results."""
    judge = Judge()
    done = measure(judge)
    (new, false), old = judge.new(judge.base, judge.asked), judge.old(judge.base)
    told = section(done, new, false, old)
    text = RESULTS.read_text(encoding="utf-8")
    RESULTS.write_text(
        text.replace(kept(), told) if HEADING in text else f"{text}\n{told}\n", encoding="utf-8"
    )
    PLOT.write_text(plot(done, new, old), encoding="utf-8")
    DONE.unlink()
    sys.stdout.write(told + "\n")


if __name__ == "__main__":
    main()
