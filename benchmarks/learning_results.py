"""What `make bench-learning` found, as a section of the results and as a plot."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch

from backend.learning.chart import COLOURS, GREY, Series, chart, standalone
from backend.sampling import ENOUGH

STAGES = (5, 10, 20, 50)  # accepted tasks
AT = 20  # of them, that are judged by GAIN, LOSS and SECONDS
GAIN, LOSS, SECONDS = 0.25, 0.02, 180

HEADING = "## Learning from accepted annotations"
ORDERS = "### The least certain tasks first"
RESULTS = Path(__file__).with_name("RESULTS.md")
PLOT = Path(__file__).with_name("learning.svg")


class Life(StrEnum):
    """How a project lives."""

    RANDOM = "random"
    WORDS = "words"  # in random order; exemplars are left out of the prompt book by hand
    UNCERTAIN = "uncertain"


@dataclass(frozen=True, slots=True)
class Step:
    """What there was to see at a number of accepted tasks; means of IoU."""

    seed: int
    life: Life
    accepted: int  # tasks
    masks: int  # of labels on them
    shown: float  # new labels by exemplars, with the checkpoint that nobody trained
    made: float  # by the version that was made, asked as the prompt book says
    served: float  # by the version that is active, which may be another, asked so
    false: float  # share of the images without a label in which that marks something
    overall: float  # mean IoU of it over all images, as the verdict on a version has it
    old: float  # what the checkpoint knew, by the version that was made
    seconds: float  # that the training took
    outcome: str  # promoted, rejected or why there is no version


@dataclass(frozen=True, slots=True)
class Before:
    """The same of the checkpoint that nobody trained, asked with the labels' names."""

    new: float
    false: float
    old: float


def means(done: Sequence[Step], life: Life, figure: str) -> dict[int, float]:
    """A figure's mean over the rounds, by accepted tasks."""
    return {
        stage: float(np.mean(list(rounds(done, life, figure, stage).values()))) for stage in STAGES
    }


def rounds(done: Sequence[Step], life: Life, figure: str, stage: int) -> dict[int, float]:
    """A figure by rounds, at a number of tasks; the orders' first tasks are the same."""
    lived = Life.RANDOM if life is Life.UNCERTAIN and stage <= ENOUGH else life
    return {s.seed: getattr(s, figure) for s in done if (s.life, s.accepted) == (lived, stage)}


def section(done: Sequence[Step], before: Before, scenes: int, old_scenes: int) -> str:
    """The part of the results, in Markdown."""
    words = means(done, Life.WORDS, "made")
    shown, made, served, marked, kept, seconds = (
        means(done, Life.RANDOM, figure)
        for figure in ("shown", "made", "served", "false", "old", "seconds")
    )
    new = f"{before.new:.3f}"
    lines = [
        "| accepted tasks | fine-tuned | exemplars | both | marked where nothing is | what it knew "
        "| promoted | seconds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| 0 | {new} | {new} | {new} | {before.false:.2f} | {before.old:.3f} | | |",
    ]
    for stage in STAGES:
        ended = [s.outcome for s in done if s.accepted == stage]
        told = " | ".join(f"{curve[stage]:.3f}" for curve in (words, shown, served))
        lines.append(
            f"| {stage} | {told} | {marked[stage]:.2f} | {kept[stage]:.3f} "
            f"| {ended.count('promoted')} of {len(ended)} | {seconds[stage]:.0f} |"
        )
    seeds, wordy = (len(rounds(done, life, "made", AT)) for life in (Life.RANDOM, Life.WORDS))
    gain, loss = served[AT] - before.new, before.old - kept[AT]
    longest = max(s.seconds for s in done if s.accepted == AT)
    return "\n\n".join(
        [
            HEADING,
            "An annotator accepts scenes with two shapes and a texture that the demo checkpoint "
            "never saw, under names that mean nothing to it: webhooks, `/train` and `/predict` of "
            f"a `promptbrush up`, the mean of {seeds} rounds, of fine-tuned alone {wordy}. Mean "
            f"IoU where a label is, on {scenes} other scenes. Both: as is served after a "
            "training, by the version that it made if that was promoted, else by the one before, "
            "asked as the prompt book then says (exemplars, weight, threshold, confidence and "
            "probe as they were measured). Fine-tuned alone leaves exemplars out of the book, "
            "promoted or not; exemplars alone are asked of the demo checkpoint, half and half with "
            "the name. "
            "Marked where nothing is: the share of images without a label in which what is served "
            "with both marks something. What it knew is the mean over the kinds of phrases of "
            f"`promptbrush evaluate`, on {old_scenes} scenes, for what was made, promoted or not. "
            "Promoted counts all projects. Seconds are from the request to the verdict. "
            "(`make bench-learning`, "
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {torch.get_num_threads()} of "
            f"{os.cpu_count()} cores.)",
            "\n".join(lines),
            "![IoU by accepted tasks](learning.svg)",
            f"{AT} accepted tasks: new labels {gain:+.3f} as served, {made[AT] - before.new:+.3f} "
            f"by what was made (wanted: {GAIN:+.2f} or more), what it knew {-loss:+.3f} (wanted: "
            f"{-LOSS:+.2f} or more), {seconds[AT]:.0f} s in the mean and {longest:.0f} s at most "
            f"(wanted: {SECONDS} s or less).",
            ORDERS,
            f"The first {ENOUGH} tasks of either order are drawn at random. From there on a copy "
            "of the project goes on with the least certain tasks first, as it would be served. "
            "IoU is where a label is; with as many masks, that of a random order is taken between "
            "its stages. All images: the mean in which an image without a label weighs a quarter "
            "and counts 1 where nothing is marked, as the verdict on a version has it. The "
            f"difference is the mean of {seeds} rounds with its standard error.",
            "\n".join(_orders(done)),
        ]
    )


def _orders(done: Sequence[Step]) -> Iterator[str]:
    """The two orders of tasks side by side, once they differ."""
    yield "| accepted tasks | | random order | least certain first | difference |"
    yield "|---:|---|---:|---:|---:|"
    for stage in (one for one in STAGES if one > ENOUGH):
        masks = rounds(done, Life.UNCERTAIN, "masks", stage)
        for figure, name, places in (
            ("masks", "their masks", 1),
            ("made", "IoU of what was made", 3),
            ("served", "IoU of what is served", 3),
            ("overall", "all images, of what is served", 3),
            ("false", "marked where nothing is", 3),
        ):
            random, uncertain = (
                rounds(done, life, figure, stage) for life in (Life.RANDOM, Life.UNCERTAIN)
            )
            yield _beside(stage, name, random, uncertain, places)
            if figure in {"made", "served"}:
                random = {seed: _at(done, figure, seed, masks[seed]) for seed in masks}
                yield _beside(stage, f"{name}, with as many masks", random, uncertain, places)


def _at(done: Sequence[Step], figure: str, seed: int, masks: float) -> float:
    """What a random order reaches in a round with so many masks, between what was measured."""
    lived = [s for s in done if (s.life, s.seed) == (Life.RANDOM, seed)]
    return float(np.interp(masks, [s.masks for s in lived], [getattr(s, figure) for s in lived]))


def _beside(
    stage: int, name: str, random: dict[int, float], uncertain: dict[int, float], places: int
) -> str:
    """A row: means, and how far they are apart within a round."""
    gains = [uncertain[seed] - random[seed] for seed in uncertain]
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    cells = [f"{np.mean(list(some.values())):.{places}f}" for some in (random, uncertain)]
    told = f"{np.mean(gains):+.{places}f} ± {error:.{places}f}"
    return f"| {stage} | {name} | {' | '.join(cells)} | {told} |"


def plot(done: Sequence[Step], before: Before) -> str:
    """The curves."""
    named = (
        ("fine-tuned", Life.WORDS, "made", False),
        ("exemplars", Life.RANDOM, "shown", False),
        ("both", Life.RANDOM, "served", False),
        ("both, uncertain first", Life.UNCERTAIN, "served", False),
        ("what it knew", Life.RANDOM, "old", True),
    )
    drawn = [
        Series(
            name,
            [
                (0, before.old if figure == "old" else before.new),
                *means(done, life, figure).items(),
            ],
            GREY if dashed else colour,
            dashed,
        )
        for (name, life, figure, dashed), colour in zip(named, COLOURS, strict=False)
    ]
    return standalone(chart("IoU by accepted tasks", drawn, "accepted tasks", low=0, high=1))


def kept() -> str:
    """The section as it stands in the results, for `make bench`."""
    found = re.search(rf"^{HEADING}$.*?(?=^## |\Z)", RESULTS.read_text(), re.DOTALL | re.MULTILINE)
    return found.group().strip() if found else f"{HEADING}\n\nSee `make bench-learning`."


def write(told: str, drawing: str) -> None:
    """Put the section and the plot in the place of those that were there."""
    text = RESULTS.read_text(encoding="utf-8")
    text = text.replace(kept(), told) if HEADING in text else f"{text}\n{told}\n"
    RESULTS.write_text(text, encoding="utf-8")
    PLOT.write_text(drawing, encoding="utf-8")
