"""What accepted work is worth, over HTTP and the queue: `make bench-learning`.

An annotator accepts generated scenes one by one; at some numbers of them a training is asked for,
and what it makes is judged on other scenes. A project does that in a random order, in the order of
uncertainty, or in the random one and asked with words alone, so that nothing but training helps; in
several rounds with other scenes. Where the order of uncertainty begins, the random one's project is
copied and goes on in it. What was done stays in `out/bench-learning`: a run that was interrupted
goes on.
"""

from __future__ import annotations

import json
import shutil
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
from backend.inference.promptbook import Entry
from backend.inference.scores import ABSENT
from backend.labelstudio.config import parse_label_config
from backend.learning.dataset import Sample
from backend.learning.drawn import iou
from backend.learning.registry import Registry
from backend.prompting import Query, queries
from backend.sampling import ENOUGH
from backend.showcase import serving
from benchmarks.annotator import JUDGED, NEW, POOL, SPAN, Subject, picture, submitted
from benchmarks.learning_results import STAGES, Before, Life, Step, plot, section, write
from demo import CHECKPOINT
from demo.evaluate import EXEMPLAR
from demo.evaluate import evaluate as known
from models import Exemplar, Segmenter

ROUNDS = 6
WORDY = 3  # of them have a project that is asked with words alone, too
TASKS = 120  # of a project
SCENES = 120  # that judge new concepts
OLD_SCENES = 60  # and what was known
THRESHOLD = 0.4
SHOWN, WEIGHT = 8, 0.5  # exemplars of a label at most, and their share beside its name
PROJECT = 1
LIMIT = 600.0  # seconds for a training
DONE = Path("out/bench-learning/rounds.json")


@dataclass(frozen=True, slots=True)
class Seen:
    """How labels are found."""

    iou: float  # where they are, in the mean of the labels
    false: float  # share of the images without a label in which something is marked
    overall: float  # of all images, as the verdict on a version has it


class Judge:
    """Scores segmenters on scenes that nobody accepted."""

    def __init__(self, checkpoint: Path = CHECKPOINT, subject: Subject = NEW) -> None:
        self.base = Segmenter.from_pretrained(checkpoint, device="cpu")
        self.subject, self.config = subject, parse_label_config(subject.xml)
        self.asked = queries(self.config, THRESHOLD)

    @cached_property
    def _scenes(self) -> list[tuple[Sample, Any]]:
        judge, samples = Predictor(self.base, FeatureCache(0)), []
        for number in range(SCENES):
            one = self.subject.sample(number, JUDGED + number)
            samples.append((one, judge.encode([(one.image.digest, one.image.image)])[0]))
        return samples

    def new(self, segmenter: Segmenter, asked: Sequence[Query]) -> Seen:
        """What is found of the labels, and where they are not."""
        judge = Predictor(segmenter, FeatureCache(0))
        rows = {query: judge.asking(query) for query in asked}
        scores: dict[str, list[float]] = {label: [] for label in self.subject.labels}
        marked = []
        for one, features in self._scenes:
            for answer in judge.find(features, rows):
                label = answer.query.label
                if label in one.masks:
                    scores[label].append(iou(answer.mask, one.masks[label]))
                else:
                    marked.append(answer.mask is not None)
        every = np.concatenate([*scores.values(), np.logical_not(marked)])
        weights = np.full(len(every), ABSENT)
        weights[: len(every) - len(marked)] = 1
        return Seen(
            float(np.mean([np.mean(found) for found in scores.values()])),
            float(np.mean(marked)),
            float(np.average(every, weights=weights)),
        )

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
        return replace(query, exemplars=names, weights=((WEIGHT, 0.0),), shown=mean)


class Project:
    """A project, and its annotator."""

    def __init__(self, images: Path, seed: int) -> None:
        self.images, self.seed = images, seed
        self.url = ""  # of the promptbrush that serves it
        self.samples = {
            task: NEW.sample(task, POOL + seed * SPAN + task) for task in range(1, TASKS + 1)
        }
        for task, one in self.samples.items():
            (images / f"{task}.png").write_bytes(picture(one))
        self.accepted: list[int] = []
        drawn = np.random.default_rng(seed).permutation(TASKS) + 1
        self._random = [int(task) for task in drawn]

    def accept(self, number: int, life: Life) -> None:
        """Accept tasks until there are so many."""
        left = [task for task in self._random if task not in self.accepted]
        if life is Life.UNCERTAIN:
            scores = self._scores(left)
            left.sort(key=lambda task: scores.get(task, 0.0))
        for task in left[: number - len(self.accepted)]:
            event = submitted(PROJECT, self.samples[task], _url(task))
            requests.post(f"{self.url}/webhook", json=event, timeout=30).raise_for_status()
            self.accepted.append(task)

    def _scores(self, tasks: Sequence[int]) -> dict[int, float]:
        """How certain predictions are, as Label Studio is told."""
        found = {}
        for start in range(0, len(tasks), 20):
            some = tasks[start : start + 20]
            body = {
                "tasks": [{"id": task, "data": {"image": _url(task)}} for task in some],
                "label_config": NEW.xml,
                "project": f"{PROJECT}.1",
            }
            answer = requests.post(f"{self.url}/predict", json=body, timeout=300).json()
            for task, entry in zip(some, answer["results"], strict=True):
                if entry:
                    found[task] = float(entry["score"])
        return found

    def train(self) -> dict[str, Any]:
        """Ask for a training and wait for it; how it ended."""
        asked = requests.post(f"{self.url}/train", json={"project": PROJECT}, timeout=30).json()
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            told = requests.get(f"{self.url}/jobs?project={PROJECT}", timeout=30).json()
            for one in told["training"]["projects"]:
                if one["job"] == asked["job"] and one["state"] in {"done", "failed", "stopped"}:
                    return dict(one)
            time.sleep(0.2)
        raise SystemExit(f"{asked['job']} did not end within {LIMIT:.0f} seconds.")


def _url(task: int) -> str:
    return f"/data/local-files/?d={task}.png"


def steps(judge: Judge, seed: int, life: Life, bar: tqdm[None]) -> Iterator[Step]:
    """What there is to see of a project; of one in random order, also of its copy."""
    with tempfile.TemporaryDirectory() as folder:
        images, models = Path(folder) / "images", Path(folder) / "models"
        images.mkdir()
        project = Project(images, seed)
        if life is Life.WORDS:
            yield from _lived(judge, project, models, life, STAGES, bar)
            return
        first = [stage for stage in STAGES if stage <= ENOUGH]
        yield from _lived(judge, project, models, life, first, bar)
        accepted, copied = list(project.accepted), Path(folder) / "copied"
        shutil.copytree(models, copied)
        yield from _lived(judge, project, models, life, STAGES[len(first) :], bar)
        project.accepted = accepted
        yield from _lived(judge, project, copied, Life.UNCERTAIN, STAGES[len(first) :], bar)


def _lived(
    judge: Judge,
    project: Project,
    models: Path,
    life: Life,
    stages: Sequence[int],
    bar: tqdm[None],
) -> Iterator[Step]:
    """Some of a project's stages, with what it learnt so far in a folder."""
    settings = {
        "LOCAL_FILES_DOCUMENT_ROOT": str(project.images),
        "MODEL_DIR": str(models),
        "PROMPTS_AFTER": "0",
        "TRAIN_AFTER": "0",
        "LABEL_STUDIO_URL": "",
        "LABEL_STUDIO_API_KEY": "",
    }
    registry, books, made = Registry(models), Books(models), judge.base
    with serving(settings) as project.url:
        if life is Life.WORDS:
            wordy = [Entry(label).setting(exemplars=()) for label in NEW.labels]
            books.put(PROJECT, "words alone", *wordy)
        for number in stages:
            project.accept(number, life)
            began = time.perf_counter()
            ended = project.train()
            seconds = time.perf_counter() - began
            if ended.get("version"):
                version = registry.version(PROJECT, ended["version"])
                made = judge.base.with_decoder(registry.weights(version))
            active = registry.active(PROJECT)
            served = judge.base
            if active is not None:
                served = judge.base.with_decoder(registry.weights(active))
            shown = judge.shown([project.samples[task] for task in project.accepted])
            book = books.serving(PROJECT, books.book(PROJECT).note.base)
            asked = queries(judge.config, THRESHOLD, book)
            found = judge.new(served, asked)
            yield Step(
                project.seed,
                life,
                number,
                sum(len(project.samples[task].masks) for task in project.accepted),
                judge.new(judge.base, shown).iou,
                judge.new(made, asked).iou,
                found.iou,
                found.false,
                found.overall,
                judge.old(made),
                seconds,
                str(ended.get("outcome") or ended.get("error")),
            )
            bar.update()


def measure(judge: Judge) -> list[Step]:
    """Every project, from where an interrupted run was."""
    kept = json.loads(DONE.read_text()) if DONE.exists() else []
    done = [Step(**{**row, "life": Life(row["life"])}) for row in kept]
    lives = [(seed, Life.RANDOM) for seed in range(ROUNDS)]
    lives += [(seed, Life.WORDS) for seed in range(WORDY)]
    again = ROUNDS * sum(stage > ENOUGH for stage in STAGES)  # by copies
    total = len(lives) * len(STAGES) + again
    with tqdm(total=total, unit="training", initial=len(done)) as bar:
        for seed, life in lives:
            if not any((one.seed, one.life) == (seed, life) for one in done):
                done.extend(steps(judge, seed, life, bar))
                DONE.parent.mkdir(parents=True, exist_ok=True)
                DONE.write_text(json.dumps([asdict(one) for one in done]), encoding="utf-8")
    return done


def main() -> None:
    """Measure, and put what was found into the results."""
    judge = Judge()
    done = measure(judge)
    seen = judge.new(judge.base, judge.asked)
    before = Before(seen.iou, seen.false, judge.old(judge.base))
    told = section(done, before, SCENES, OLD_SCENES)
    write(told, plot(done, before))
    DONE.unlink()
    sys.stdout.write(told + "\n")


if __name__ == "__main__":
    main()
