"""Training the decoder on lessons: minutes on a processor, the same weights every time.

As the decoder was made (Lüddecke and Ecker, arXiv 2112.10003, sections 3 and 4): AdamW with a
cosine, conditions between a text and an exemplar of the same label from another image, and phrases
swapped for others. A label that is known to be absent has nothing to find. What a phrase that
nobody labeled finds is not known, and there the decoder is held to what it said before: so it
learns a project's labels without losing what it knew.

Every step draws from its own random numbers, so that a run which was stopped, or killed, goes on
from its last look as if nothing had happened.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from backend.errors import TooLittleData
from backend.learning.dataset import Part
from backend.learning.lessons import Lesson, conditions, decoder_of
from models import Segmenter

FROZEN = "reduces."  # cached features depend on them
TEMPLATES = ("{}", "a photo of a {}", "the {}")
# Asked now and then, alone and put together, and answered as the parent answers.
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "cyan", "black", "white")
PATTERNS = ("striped", "dotted", "checkered", "plain", "shiny", "wooden", "small", "large")
THINGS = (
    *("circle", "square", "triangle", "ring", "cross", "star", "thing", "line", "text"),
    *("person", "face", "hand", "dog", "cat", "bird", "horse", "car", "bus", "bicycle", "boat"),
    *("tree", "flower", "grass", "sky", "water", "road", "building", "window", "door", "chair"),
    *("table", "bottle", "cup", "plate", "book", "phone", "shoe", "bag", "food", "background"),
)
OTHERS = 300
SPECK = 1e-3  # of the image; what serving clears away


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train."""

    seed: int = 0
    steps: int = 400
    rows: int = 16  # pairs of an image and a phrase in a step
    rate: float = 4e-4
    decay: float = 0.01
    absent: float = 0.15  # share of rows that ask for a label which is not there
    others: float = 0.4  # share of rows that ask for what nobody labeled
    mixed: float = 0.25  # share of the remaining rows that show an exemplar
    look: int = 25  # steps between looks at the validation tasks
    patience: int = 6  # looks without a better one before it stops


@dataclass(frozen=True, slots=True)
class Look:
    """Where a run is."""

    step: int
    steps: int
    loss: float
    iou: float  # mean of the validation tasks at the last look
    seconds_left: float


@dataclass(frozen=True, slots=True)
class Result:
    """The weights that did best on the validation tasks, and how it went."""

    weights: dict[str, Tensor]  # by the model's names
    step: int
    history: tuple[tuple[int, float, float], ...]  # step, loss, IoU


def finetune(
    parent: Segmenter,
    lessons: Sequence[Lesson],
    prompts: Mapping[str, Sequence[str]],
    thresholds: Mapping[str, float],
    recipe: Recipe,
    folder: Path,
    told: Callable[[Look], None] = lambda _: None,
) -> Result:
    """Train on from a parent's decoder.

    Args:
        parent: What is served until now.
        lessons: For training and validation.
        prompts: What each label is asked with.
        thresholds: The probability from which a pixel counts, by label.
        recipe: How to train.
        folder: Where an unfinished run is kept; the same run goes on from there.
        told: Is called after each step.

    Raises:
        TooLittleData: there is nothing to train on, or to stop by.
    """
    return _Run(parent, lessons, prompts, thresholds, recipe, folder).train(told)


class _Run:
    def __init__(
        self,
        parent: Segmenter,
        lessons: Sequence[Lesson],
        prompts: Mapping[str, Sequence[str]],
        thresholds: Mapping[str, float],
        recipe: Recipe,
        folder: Path,
    ) -> None:
        by_name = sorted(lessons, key=lambda lesson: lesson.path.name)
        self.training = [lesson for lesson in by_name if lesson.part is Part.TRAINING]
        self.validation = [lesson for lesson in by_name if lesson.part is Part.VALIDATION]
        self.having: dict[str, list[Lesson]] = {}
        self.lacking: dict[str, list[Lesson]] = {}
        for lesson in self.training:
            for label in lesson.present:
                self.having.setdefault(label, []).append(lesson)
            for label in lesson.absent:
                self.lacking.setdefault(label, []).append(lesson)
        if not self.having or not any(lesson.present for lesson in self.validation):
            raise TooLittleData(
                f"There are {len(self.training)} tasks to train on and {len(self.validation)} to "
                "stop by, and each kind needs some with a label in it: accept some more tasks."
            )
        self.recipe, self.thresholds, self.path = recipe, thresholds, folder / "run.pt"
        self.device = parent.device
        self.said = conditions(parent, prompts, TEMPLATES)
        others = {text: [text] for text in _others(recipe.seed)}
        self.others = conditions(parent, others, TEMPLATES[:1])
        self.parent = decoder_of(parent).eval()
        self.decoder = copy.deepcopy(self.parent).float()
        self.trained = {
            name: parameter
            for name, parameter in self.decoder.named_parameters()
            if not name.startswith(FROZEN)
        }
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), lr=recipe.rate, weight_decay=recipe.decay
        )
        self.read = lru_cache(256)(Lesson.read)
        self.name = self._name()
        self.step, self.loss, self.stale = 0, 0.0, 0
        self.best: dict[str, Tensor] = {}
        self.best_step, self.best_iou = 0, -1.0
        self.history: list[tuple[int, float, float]] = []

    def train(self, told: Callable[[Look], None]) -> Result:
        """Step until it no longer gets better."""
        recipe = self.recipe
        self._resume()
        if not self.history:
            self.history.append((0, 0.0, self._judge()))
        started, first = time.monotonic(), self.step
        while self.step < recipe.steps and self.stale < recipe.patience:
            self._learn()
            if self.step % recipe.look == 0 or self.step == recipe.steps:
                self._look()
            pace = (time.monotonic() - started) / (self.step - first)
            left = pace * (recipe.steps - self.step)
            told(Look(self.step, recipe.steps, self.loss, self.history[-1][2], left))
        weights = {f"decoder.{name}": tensor for name, tensor in self.best.items()}
        return Result(weights, self.best_step, tuple(self.history))

    def _learn(self) -> None:
        """One step."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step))
        turn = math.pi * self.step / recipe.steps
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate * (0.1 + 0.9 * (1 + math.cos(turn)) / 2)
        rows = [self._row(rng) for _ in range(recipe.rows)]
        self.decoder.train()
        self.optimiser.zero_grad()
        total = 0.0
        for grid in sorted({row.grid for row in rows}):
            alike = [row for row in rows if row.grid == grid]
            loss = self._loss(alike, grid) * (len(alike) / len(rows))
            torch.autograd.backward(loss)
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.loss = total if self.step == 1 else 0.95 * self.loss + 0.05 * total

    def _row(self, rng: np.random.Generator) -> _Row:
        """An image, mirrored or not, a condition, and what is to be found."""
        throw, mirrored = rng.random(), bool(rng.random() < 0.5)
        if throw < self.recipe.others:
            lesson = _any(rng, self.training)
            condition = self.others[_any(rng, sorted(self.others))][0]
            return _Row(lesson, mirrored, condition, None, distilled=True)
        if throw < self.recipe.others + self.recipe.absent and self.lacking:
            label = _any(rng, sorted(self.lacking))
            lesson = _any(rng, self.lacking[label])
            return _Row(lesson, mirrored, self._text(rng, label), None)
        label = _any(rng, sorted(self.having))
        lesson = _any(rng, self.having[label])
        condition = self._text(rng, label)
        other = _any(rng, self.having[label])
        weight, mixed = float(rng.random()), rng.random() < self.recipe.mixed
        if mixed and other is not lesson:
            shown = self.read(other)[2][other.present.index(label)]
            if not shown.isnan().any():
                condition = torch.lerp(condition, shown, weight)
        return _Row(lesson, mirrored, condition, label)

    def _text(self, rng: np.random.Generator, label: str) -> Tensor:
        """As served half of the time, else in other words."""
        rows = self.said[label]
        return rows[0 if rng.random() < 0.5 else int(rng.integers(len(rows)))]

    def _loss(self, rows: Sequence[_Row], grid: tuple[int, int]) -> Tensor:
        read = [self.read(row.lesson) for row in rows]
        reduced = [
            torch.stack(
                [one[0][i][int(row.mirrored)] for row, one in zip(rows, read, strict=True)]
            ).to(self.device)
            for i in range(len(read[0][0]))
        ]
        asked = torch.stack([row.condition for row in rows]).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            logits = self.decoder(reduced, asked, grid)
        logits = logits.float()
        targets = torch.zeros_like(logits)
        for i, (row, one) in enumerate(zip(rows, read, strict=True)):
            if row.label is not None:
                target = one[1][row.lesson.present.index(row.label)]
                targets[i] = (target.flip(-1) if row.mirrored else target).to(targets)
        before = [i for i, row in enumerate(rows) if row.distilled]
        if before:
            with torch.no_grad():
                said = self.parent([part[before] for part in reduced], asked[before], grid)
            targets[before] = said.float().sigmoid()
        known = torch.tensor([not row.distilled for row in rows], device=self.device)
        return _mask_loss(logits, targets, known)

    @torch.no_grad()
    def _judge(self) -> float:
        """Mean IoU on the validation tasks, at the decoder's own resolution."""
        self.decoder.eval()
        scores = []
        for lesson in self.validation:
            parts, targets, _ = lesson.read()
            reduced = [part[:1].to(self.device) for part in parts]
            labels = (*lesson.present, *lesson.absent)
            asked = torch.stack([self.said[label][0] for label in labels]).to(self.device)
            found = self.decoder(reduced, asked, lesson.grid).float().sigmoid().cpu()
            for i, label in enumerate(labels):
                marked = found[i] >= self.thresholds[label]
                if i < len(lesson.present):
                    truth = targets[i].bool()
                    union = int((marked | truth).sum())
                    scores.append(int((marked & truth).sum()) / union if union else 1.0)
                else:
                    scores.append(float(marked.float().mean() < SPECK))
        return float(np.mean(scores))

    def _look(self) -> None:
        """See how good it is, keep the best, and save where it is."""
        iou = self._judge()
        self.history.append((self.step, self.loss, iou))
        self.stale += 1
        if iou > self.best_iou:
            self.best = {name: p.detach().clone().cpu() for name, p in self.trained.items()}
            self.best_step, self.best_iou, self.stale = self.step, iou, 0
        state = {
            "name": self.name,
            "decoder": self.decoder.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "told": [self.step, self.loss, self.stale, self.best_step, self.best_iou],
            "history": self.history,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}")
        torch.save(state, unfinished)
        unfinished.replace(self.path)

    def _resume(self) -> None:
        """Go on from the last look, if this very run was begun before."""
        try:
            state = torch.load(self.path, weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
            return
        if state["name"] != self.name:
            return
        self.decoder.load_state_dict(state["decoder"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.history = state["best"], [tuple(row) for row in state["history"]]
        self.step, self.loss, self.stale, self.best_step, self.best_iou = state["told"]

    def _name(self) -> str:
        """Everything that decides how the run goes."""
        total = hashlib.sha256()
        told: list[Any] = [
            asdict(self.recipe),
            [lesson.path.name for lesson in (*self.training, *self.validation)],
            sorted(self.thresholds.items()),
        ]
        total.update(json.dumps(told).encode())
        for tensor in (*self.decoder.state_dict().values(), *self.said.values()):
            total.update(tensor.detach().float().cpu().numpy().tobytes())
        return total.hexdigest()


@dataclass(frozen=True, slots=True)
class _Row:
    """A pair of an image and a condition; without a label there is nothing to find."""

    lesson: Lesson
    mirrored: bool
    condition: Tensor  # (C,)
    label: str | None
    distilled: bool = False  # what is to be found is what the parent finds

    @property
    def grid(self) -> tuple[int, int]:
        """Of its image's patches."""
        return self.lesson.grid


def _others(seed: int) -> list[str]:
    """Everyday phrases of one to three words."""
    rng = np.random.default_rng(seed)
    phrases = [*COLOURS, *PATTERNS, *THINGS]
    while len(phrases) < OTHERS:
        said = [_any(rng, COLOURS)] * int(rng.integers(2)) + [_any(rng, PATTERNS)] * int(
            rng.integers(2)
        )
        phrases.append(" ".join([*said, _any(rng, THINGS)]))
    return list(dict.fromkeys(phrases))


def _any(rng: np.random.Generator, things: Sequence[Any]) -> Any:
    return things[int(rng.integers(len(things)))]


def _has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster there; the weights stay in float32."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda"


def _mask_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Cross entropy per pixel, and dice where a label is known to be there; (R, H, W)."""
    pixels = 2 * F.binary_cross_entropy_with_logits(logits, targets)
    there = known & (targets.flatten(1).sum(dim=1) > 0)
    if not there.any():
        return pixels
    guess, truth = logits[there].sigmoid(), targets[there]
    shared, size = (guess * truth).sum(dim=(1, 2)), (guess + truth).sum(dim=(1, 2))
    dice = 1 - (2 * shared + 1) / (size + 1)
    return pixels + dice.sum() / len(logits)
