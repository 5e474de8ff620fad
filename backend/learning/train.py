"""A project's accepted work in, a judged version out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from backend.durable import as_json, rewrite
from backend.errors import AlreadyTraining, TooLittleData
from backend.filelock import locked
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.promptbook import PromptBook
from backend.labelstudio.config import LabelConfig
from backend.learning.card import Card, Version, called
from backend.learning.dataset import Account, Part, Sample, digest
from backend.learning.evaluate import evaluate
from backend.learning.finetune import MEMORY, finetune
from backend.learning.forgetting import Everyday, settled
from backend.learning.lessons import Lessons
from backend.learning.page import page
from backend.learning.promotion import Verdict, decide
from backend.learning.recipe import Look, Recipe
from backend.learning.registry import Registry
from backend.learning.versions import REPORTS
from backend.prompting import Query, queries
from models import Segmenter

log = logging.getLogger(__name__)

WORK = ".training"  # in a project's folder: lessons, and the unfinished run

T = TypeVar("T")

Source = Callable[[Collection[Part], Account], Iterator[Sample]]
Rehearse = Callable[[Mapping[str, Tensor]], PromptBook]


class Stage(StrEnum):
    """What a training does at a time, in this order."""

    MEASURING = "measuring"  # what labels are best asked with; again before the candidate is judged
    IMAGES = "images"  # they are fetched and encoded
    TRAINING = "training"
    JUDGING = "judging"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training is; `images` is how many of its stage are done."""

    stage: Stage
    images: int = 0
    look: Look | None = None  # while it trains


Told = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A version that was published, and what became of it."""

    version: Version
    verdict: Verdict
    report: Path  # the page; its figures are in a JSON file beside it
    account: Account


def train(
    base: Segmenter,
    base_digest: str,
    registry: Registry,
    folder: Path,
    project: int,
    config: LabelConfig,
    source: Source,
    *,
    threshold: float,
    recipe: Recipe,
    book: PromptBook | None = None,
    rehearse: Rehearse | None = None,
    memory: int = MEMORY,
    told: Told = lambda _: None,
) -> Trained:
    """Train on from what is served, judge on held-out tasks, publish, and promote or reject.

    What is better than what was served then is rejected where another version is served by now.

    Args:
        base: The base checkpoint.
        base_digest: Of its files.
        registry: The versions in `folder`.
        folder: Of all projects' versions; reports and unfinished work go there too.
        project: The project's id.
        config: Its labeling configuration.
        source: Gives the samples of some parts, as often as it is asked.
        threshold: Where neither that nor the book says anything.
        recipe: How to train.
        book: What the project says of its labels: they are trained as they are served.
        rehearse: Gives what it would say of them with a candidate's weights, so that these are
            judged as they would be served; None where that is the same.
        memory: How many bytes of lessons are held in memory.
        told: Is called after each image and each step; what it raises ends the training, which
            the same call later goes on with.

    Raises:
        AlreadyTraining: another process trains this project.
        BadPrompt: no label can be asked for.
        TooLittleData: there is nothing to train on, or the model cannot be trained.
    """
    with alone(folder, project) as work:
        active = registry.active(project, base_digest)
        served = base if active is None else base.with_decoder(registry.weights(active))
        asked = _askable(served, queries(config, threshold, book))

        account, lessons = Account(), Lessons(work / "lessons", base_digest, base)
        found = _asked_of(source((Part.TRAINING, Part.VALIDATION), account), asked)
        made = [lessons.make(sample) for sample in counted(found, Stage.IMAGES, told)]
        lessons.keep_only(made)
        said = [text for query in asked for text in query.prompts]
        everyday = Everyday.of(base, said, recipe.seed)
        try:
            result = finetune(
                base,
                served,
                made,
                everyday.taught,
                asked,
                recipe,
                work,
                memory=memory,
                told=lambda look: told(Progress(Stage.TRAINING, look=look)),
            )
        except TooLittleData as error:
            reasons = [f"{reason} ({count})" for reason, count in account.left_out.most_common()]
            left = f" Left out is what cannot be used: {'; '.join(reasons)}." if reasons else ""
            raise TooLittleData(f"{error}{left}") from error
        weights, share = settled(base, served, result.weights, made, everyday.asked, threshold)
        candidate = base.with_decoder(weights)
        then = book if rehearse is None else rehearse(weights)
        shown = _shown(book) | _shown(then)
        held_out = counted(source((Part.HELD_OUT,), account), Stage.JUDGING, told)
        evaluation = evaluate(
            _judging(held_out, {lesson.image for lesson in made}, shown, account),
            base,
            served,
            candidate,
            asked,
            _askable(candidate, queries(config, threshold, then)),
            everyday.asked,
            threshold,
        )

        verdict = decide(evaluation)
        was, now = (called(one) for one in (active, registry.active(project, base_digest)))
        if verdict.promoted and now != was:  # somebody chose it, and nothing was held against it
            verdict = Verdict(
                False, f"{now} is served meanwhile, and it was judged beside {was}: train again"
            )
        card = Card(
            base=base_digest,
            parent=None if active is None else active.id,
            data=digest(lesson.path.stem for lesson in made),
            settings=asdict(recipe),
            metrics={
                **evaluation.to_json(),
                "step": result.step,
                "share": share,
                "data": account.to_json(),
            },
        )
        version = registry.publish(project, weights, card)
        title = f"Version {version.id} of project {project}"
        report = folder / str(project) / REPORTS / f"{version.id}.html"
        report.parent.mkdir(exist_ok=True)
        html = page(
            title,
            was,
            share,
            verdict,
            evaluation,
            result.history,
            account.to_json(),
            dict(card.settings),
        )
        rewrite(report, html.encode())
        figures = {
            **asdict(card),
            **asdict(verdict),
            "history": result.history,
            "worst": [asdict(case.score) for case in evaluation.worst],
        }
        rewrite(report.with_suffix(".json"), as_json(figures))
        if verdict.promoted:
            registry.activate(project, version.id, verdict.reason)
        elif active is None or version.id != active.id:
            registry.reject(project, version.id, verdict.reason)
        (work / "run.pt").unlink(missing_ok=True)
        return Trained(registry.version(project, version.id), verdict, report, account)


def _askable(segmenter: Segmenter, asked: Sequence[Query]) -> list[Query]:
    """The queries that a model can be asked; the log tells of the others.

    Raises:
        BadPrompt: there is none.
    """
    askings, _ = Predictor(segmenter, FeatureCache(0)).askings(asked)
    return list(askings)


def _asked_of(samples: Iterable[Sample], asked: Sequence[Query]) -> Iterator[Sample]:
    """Samples of the labels that are asked for; the log names the others, once each."""
    labels, told = {query.label for query in asked}, set[str]()
    for sample in samples:
        for label in {*sample.labels, *sample.masks} - labels - told:
            told.add(label)
            log.warning("masks of the label %r are left out: it is not asked for.", label)
        yield replace(
            sample,
            labels=tuple(label for label in sample.labels if label in labels),
            masks={label: mask for label, mask in sample.masks.items() if label in labels},
            corrected={label: mask for label, mask in sample.corrected.items() if label in labels},
        )


def _shown(book: PromptBook | None) -> set[tuple[int, str]]:
    """Tasks and the labels that they show as exemplars."""
    entries = book.entries if book else {}
    return {
        (one.task, label)
        for label, entry in entries.items()
        for one in entry.exemplars
        if one.used and not one.project
    }


def _judging(
    samples: Iterable[Sample],
    taught: Collection[str],
    shown: Collection[tuple[int, str]],
    account: Account,
) -> Iterator[Sample]:
    """Samples that can judge: their images taught nothing, by digest, and are of one task each.

    One that shows a label judges the others; few tasks may leave no other exemplar than that.
    """
    judges: dict[str, int] = {}
    for sample in samples:
        image = sample.image.digest
        if image in taught:
            account.take_back(sample, "it would judge, and an equal image is learnt from")
        elif judges.setdefault(image, sample.task) != sample.task:
            account.take_back(sample, "it would judge, and an equal image does so already")
        else:
            labels = tuple(one for one in sample.labels if (sample.task, one) not in shown)
            if labels != sample.labels:
                account.leave_out(sample.task, "it would judge a label that it is an exemplar of")
            yield replace(sample, labels=labels)


@contextmanager
def alone(folder: Path, project: int) -> Iterator[Path]:
    """The folder of a project's unfinished work while no other process trains the project.

    Raises:
        AlreadyTraining: one does.
    """
    work = folder / str(project) / WORK
    busy = AlreadyTraining(f"Project {project} is being trained by another process: wait for it.")
    with locked(work / ".lock", otherwise=busy):
        yield work


def counted(found: Iterable[T], stage: Stage, told: Told) -> Iterator[T]:
    """Samples and the like as they come, told of one by one."""
    told(Progress(stage))
    for count, one in enumerate(found, start=1):
        yield one
        told(Progress(stage, count))
