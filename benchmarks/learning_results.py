"""What `make bench-learning` found, as a section of the results and as a plot."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from backend.learning.chart import COLOURS, GREY, Series, chart, standalone
from backend.sampling import ENOUGH

STAGES = (5, 10, 20, 50)  # accepted tasks
AT = 20  # of them, that are judged by GAIN, LOSS and SECONDS
GAIN, LOSS, SECONDS = 0.25, 0.02, 180

HEADING = "## Learning from accepted annotations"
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
        stage: float(
            np.mean([getattr(s, figure) for s in done if (s.life, s.accepted) == (life, stage)])
        )
        for stage in STAGES
    }


def needed(curve: Sequence[tuple[float, float]], wanted: float) -> float | None:
    """The first place at which a curve of (x, y) is as high as wanted; None: nowhere."""
    for (left, low), (right, high) in pairwise(curve):
        if low >= wanted:
            return left
        if high >= wanted:
            return left + (wanted - low) / (high - low) * (right - left)
    return None


def section(done: Sequence[Step], before: Before, scenes: int, old_scenes: int) -> str:
    """The part of the results, in Markdown."""
    words = means(done, Life.WORDS, "made")
    both, uncertain = (means(done, life, "served") for life in (Life.RANDOM, Life.UNCERTAIN))
    shown, made, marked, kept, seconds = (
        means(done, Life.RANDOM, figure) for figure in ("shown", "made", "false", "old", "seconds")
    )
    drawn, asked = (means(done, life, "masks") for life in (Life.RANDOM, Life.UNCERTAIN))
    new = f"{before.new:.3f}"
    lines = [
        "| accepted tasks | their masks | uncertain first | fine-tuned | exemplars | both "
        "| both, uncertain first | marked where nothing is | what it knew | promoted | seconds |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        f"| 0 | 0 | 0 | {new} | {new} | {new} | {new} | {before.false:.2f} | {before.old:.3f} "
        "| | |",
    ]
    for stage in STAGES:
        ended = [s.outcome for s in done if s.accepted == stage]
        cells = [words[stage], shown[stage], both[stage], uncertain[stage]]
        told = " | ".join(f"{value:.3f}" for value in cells)
        told += f" | {marked[stage]:.2f} | {kept[stage]:.3f}"
        won = f"{ended.count('promoted')} of {len(ended)}"
        masks = f"{drawn[stage]:.0f} | {asked[stage]:.0f}"
        lines.append(f"| {stage} | {masks} | {told} | {won} | {seconds[stage]:.0f} |")
    rounds, wordy = (
        len({s.seed for s in done if s.life is life}) for life in (Life.RANDOM, Life.WORDS)
    )
    gain, loss = both[AT] - before.new, before.old - kept[AT]
    longest = max(s.seconds for s in done if s.accepted == AT)
    return "\n\n".join(
        [
            HEADING,
            "An annotator accepts scenes with two shapes and a texture that the demo checkpoint "
            "never saw, under names that mean nothing to it: webhooks, `/train` and `/predict` of "
            f"a `promptbrush up`, the mean of {rounds} rounds, of fine-tuned alone {wordy}. Mean "
            f"IoU where a label is, on {scenes} other scenes. Both: as is served after a "
            "training, by the version that it made if that was promoted, else by the one before, "
            "asked as the prompt book then says (exemplars, weight, threshold, confidence and "
            "probe as they were measured). Fine-tuned alone leaves exemplars out of the book, "
            "promoted or not; exemplars alone are asked of the demo checkpoint, half and half with "
            "the name. "
            "Marked where nothing is: the share of images without a label in which what is served "
            "with both marks something. What it knew is the mean over the kinds of phrases of "
            f"`promptbrush evaluate`, on {old_scenes} scenes, for what was made, promoted or not. "
            "Promoted counts all three kinds of projects. Seconds are from the request to the "
            "verdict. (`make bench-learning`, "
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {torch.get_num_threads()} of "
            f"{os.cpu_count()} cores.)",
            "\n".join(lines),
            "![IoU by accepted tasks](learning.svg)",
            "\n".join(
                [
                    f"- {AT} accepted tasks: new labels {gain:+.3f} as served, "
                    f"{made[AT] - before.new:+.3f} by what was made (wanted: {GAIN:+.2f} or more), "
                    f"what it knew {-loss:+.3f} (wanted: {-LOSS:+.2f} or more), "
                    f"{seconds[AT]:.0f} s in the mean and {longest:.0f} s at most (wanted: "
                    f"{SECONDS} s or less)",
                    f"- the first {ENOUGH} tasks of either order are drawn at random; for the IoU "
                    "of the random order, the order of uncertainty needs "
                    + _beside("tasks", STAGES, both, STAGES, uncertain, before.new)
                    + "; "
                    + _beside("masks", drawn.values(), both, asked.values(), uncertain, before.new),
                    "- uncertain first less random order, mean and standard error over rounds: "
                    + _apart(done, "served"),
                    "- the same of what is marked where nothing is: " + _apart(done, "false"),
                ]
            ),
        ]
    )


def _beside(
    unit: str,
    spent: Iterable[float],
    random: dict[int, float],
    asked: Iterable[float],
    uncertain: dict[int, float],
    begun: float,
) -> str:
    """How much of a unit uncertain tasks first need for what a random order reaches with so much.

    What a stage costs in that unit is in `spent` in a random order, in `asked` in the other.
    """
    curve = [(0.0, begun), *zip(asked, uncertain.values(), strict=True)]
    told = []
    for cost, reached in zip(spent, random.values(), strict=True):
        enough = needed(curve, reached)
        found = f"more than {curve[-1][0]:.0f}" if enough is None else f"{enough:.0f}"
        told.append(f"{found} for {cost:.0f}")
    return f"{', '.join(told)} {unit}"


def _apart(done: Sequence[Step], figure: str) -> str:
    """How far the orders are apart in a figure within a round, and how sure that is."""
    found = {(s.life, s.seed, s.accepted): getattr(s, figure) for s in done}
    seeds = {seed for life, seed, _ in found if life is Life.UNCERTAIN}
    told = []
    for stage in (one for one in STAGES if one > ENOUGH):  # the first tasks are the same
        gains = [found[Life.UNCERTAIN, s, stage] - found[Life.RANDOM, s, stage] for s in seeds]
        error = np.std(gains, ddof=1) / np.sqrt(len(gains))
        told.append(f"{np.mean(gains):+.3f} ± {error:.3f} with {stage}")
    return ", ".join(told)


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
