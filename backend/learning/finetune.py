"""Training the decoder on lessons: minutes on a processor, the same weights every time.

As the decoder was made (Lüddecke and Ecker, arXiv 2112.10003, sections 3 and 4): AdamW with a
cosine, conditions between a text and an exemplar of the same label from another image, and phrases
swapped for others. A label that is known to be absent has nothing to find. What a phrase that
nobody labeled finds is not known, and there the decoder is held to what the base checkpoint says:
so it learns a project's labels without losing what it knew, however many versions there were.

Every step draws from its own random numbers, so that a run which was stopped, or killed, goes on
from its last look as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.durable import rewrite
from backend.errors import TooLittleData
from backend.inference.features import FeatureCache
from backend.inference.masks import SPECK
from backend.inference.predictor import Predictor
from backend.inference.scores import ABSENT
from backend.learning.dataset import Part, lot
from backend.learning.lessons import Lesson, Shelf
from backend.learning.loss import mask_loss
from backend.learning.pupils import Pupil, pupil_of
from backend.learning.recipe import Look, Recipe, Result
from backend.learning.rows import Row, Rows, conditions
from backend.prompting import Query
from models import Segmenter

log = logging.getLogger(__name__)

PASS = 8  # rows that are computed together; more cost as much each, and memory
MEMORY = 512 * 2**20  # bytes
LOOKED_AT = 200  # validation tasks: with ten labels they take as long as the steps between looks


def finetune(
    base: Segmenter,
    parent: Segmenter,
    lessons: Sequence[Lesson],
    everyday: Tensor,
    asked: Sequence[Query],
    recipe: Recipe,
    folder: Path,
    *,
    memory: int = MEMORY,
    told: Callable[[Look], None] = lambda _: None,
) -> Result:
    """Train on from a parent's decoder.

    Args:
        base: What is not to be forgotten.
        parent: What is served until now.
        lessons: For training and validation.
        everyday: Conditions (P, C) that the base's answers are kept for.
        asked: What each label is served with.
        recipe: How to train.
        folder: Where an unfinished run is kept; the same run goes on from there.
        memory: How many bytes of lessons are held in memory; the others are read when needed.
        told: Is called after each step.

    Raises:
        TooLittleData: there is nothing to train on, or to stop by.
    """
    run = _Run(base, parent, lessons, everyday, asked, recipe, folder, memory)
    return run.train(told)


class _Run:
    def __init__(
        self,
        base: Segmenter,
        parent: Segmenter,
        lessons: Sequence[Lesson],
        everyday: Tensor,
        asked: Sequence[Query],
        recipe: Recipe,
        folder: Path,
        memory: int,
    ) -> None:
        by_name = sorted(lessons, key=lambda lesson: lesson.path.name)
        self.training, self.validation = _shared_out(by_name)
        self.recipe, self.path = recipe, folder / "run.pt"
        self.thresholds = {query.label: query.threshold for query in reversed(asked)}
        self.device = parent.device
        self.said = conditions(Predictor(parent, FeatureCache(0)), asked)
        self.everyday = everyday.float().cpu()
        self.base, self.pupil = pupil_of(base), pupil_of(parent)
        self.trained = self.pupil.trained
        self.optimiser = torch.optim.AdamW(self.trained.values(), lr=recipe.rate, weight_decay=0.0)
        self.shelf = Shelf(memory)
        self.rows = Rows(
            self.training,
            self.validation,
            self.said,
            self.everyday,
            self._said_before,
            self.shelf,
            recipe,
        )
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
        return Result(self.best, self.best_step, tuple(self.history))

    def _learn(self) -> None:
        """One step."""
        recipe = self.recipe
        rng = np.random.default_rng((recipe.seed, self.step))
        turn = math.pi * self.step / recipe.steps
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate * (0.1 + 0.9 * (1 + math.cos(turn)) / 2)
        rows = [self.rows.draw(rng) for _ in range(recipe.rows)]
        self.optimiser.zero_grad()
        total = 0.0
        for shape in sorted({row.lesson.grid for row in rows}):
            alike = [row for row in rows if row.lesson.grid == shape]
            for start in range(0, len(alike), PASS):
                loss = self._loss(alike[start : start + PASS]) / len(rows)
                torch.autograd.backward(loss)
                total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.loss = total if self.step == 1 else 0.95 * self.loss + 0.05 * total

    @torch.no_grad()
    def _said_before(self, parts: Sequence[Tensor], asked: Tensor, lesson: Lesson) -> Tensor:
        """The base's probabilities, (N, H, W)."""
        return self._answer(self.base, parts, asked, lesson).sigmoid().cpu()

    def _answer(self, pupil: Pupil, parts: Sequence[Tensor], asked: Tensor, like: Lesson) -> Tensor:
        """Logits (N, H, W) on images of the same shape as a lesson's."""
        read = [part.to(self.device, torch.float32) for part in parts]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_has_bfloat16(self.device)):
            logits = pupil.logits(read, asked.to(self.device), like.grid, like.windows)
        return logits.float()

    def _loss(self, rows: Sequence[Row]) -> Tensor:
        """The sum over rows whose images are of one shape."""
        read = zip(*(row.content(self.shelf) for row in rows), strict=True)
        parts = [torch.stack(part) for part in read]
        asked = torch.stack([row.condition for row in rows])
        logits = self._answer(self.pupil, parts, asked, rows[0].lesson)
        wanted = zip(*(row.target(self.shelf, self.recipe.corrected) for row in rows), strict=True)
        targets, weights = (torch.stack(one).to(logits) for one in wanted)
        return mask_loss(logits, targets, weights).sum()

    @torch.no_grad()
    def _judge(self) -> float:
        """Mean IoU on the validation tasks, at the model's own resolution, over all views.

        They are in the order of their digests: the first are as good as any others. One may say
        nothing of any label.
        """
        scores, weights = [], []
        telling = [one for one in self.validation if one.present or one.absent]
        for lesson in telling[:LOOKED_AT]:
            content = self.shelf.read(lesson)
            labels = (*lesson.present, *lesson.absent)
            asked = torch.stack([self.said[label][0] for label in labels])
            levels = torch.tensor([self.thresholds[label] for label in labels])[:, None, None]
            for view in range(lesson.views):
                parts = [part[[view]] for part in content.parts]
                found = self._answer(self.pupil, parts, asked, lesson).sigmoid().cpu() >= levels
                truth = torch.zeros_like(found)
                truth[: len(lesson.present)] = content.targets[view].bool()
                scores += [_iou(*pair) for pair in zip(found, truth, strict=True)]
                weights += [1.0] * len(lesson.present) + [ABSENT] * len(lesson.absent)
        return float(np.average(scores, weights=weights))

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
            "weights": {name: p.detach() for name, p in self.trained.items()},
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "told": [self.step, self.loss, self.stale, self.best_step, self.best_iou],
            "history": self.history,
        }
        content = io.BytesIO()
        torch.save(state, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rewrite(self.path, content.getvalue())

    def _resume(self) -> None:
        """Go on from the last look, if this very run was begun before."""
        try:
            # what was computed on may be gone, or have another number
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["name"] != self.name:
                return
        except FileNotFoundError:
            return
        except Exception as error:  # an unpickler may raise anything at what is no pickle
            log.warning("%s cannot be read, and the run begins anew: %r", self.path, error)
            return
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["weights"][name])
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
        tensors = (*self.trained.values(), *self.said.values(), self.everyday)
        for tensor in tensors:
            total.update(tensor.detach().float().cpu().numpy().tobytes())
        return total.hexdigest()


def _shared_out(lessons: Sequence[Lesson]) -> tuple[list[Lesson], list[Lesson]]:
    """Lessons to train on, and to stop by.

    Few tasks may leave none with a label to stop by: a fourth of those for training do it then,
    the next in the lot. They judge no version, so nothing is lost by that. Nor is it by tasks with
    an image that is learnt from: they tell nothing of when to stop, and are learnt from as well.
    """
    parts = {part: [one for one in lessons if one.part is part] for part in Part}
    training, validation = parts[Part.TRAINING], parts[Part.VALIDATION]
    learnt = _alike({one.task for one in training}, lessons)
    validation, training = _moved(learnt, validation, training)
    telling = sorted({one.task for one in training if one.present}, key=lot)
    if len(telling) > 1 and not any(one.present for one in validation):
        chosen = _alike(telling[: max(1, len(telling) // 4)], training)
        training, validation = _moved(chosen, training, validation)
    if not all(any(one.present for one in some) for some in (training, validation)):
        raise TooLittleData(
            f"Tasks to train on: {len(training)}, to stop by: {len(validation)}. Each kind needs "
            "images of its own with a label in them: accept some more tasks."
        )
    return training, validation


def _alike(tasks: Collection[int], lessons: Sequence[Lesson]) -> set[int]:
    """Tasks with an image that one of these has, themselves among them."""
    images = {one.image for one in lessons if one.task in tasks}
    return {one.task for one in lessons if one.image in images}


def _moved(
    tasks: Collection[int], here: Sequence[Lesson], there: Sequence[Lesson]
) -> tuple[list[Lesson], list[Lesson]]:
    """What is here and what is there when tasks have gone from here to there."""
    gone = [one for one in here if one.task in tasks]
    return [one for one in here if one.task not in tasks], [*there, *gone]


def _iou(found: Tensor, truth: Tensor) -> float:
    """Of two masks; where there is nothing, a speck is as good."""
    if not truth.any():
        return float(found.float().mean() < SPECK)
    return float((found & truth).sum() / (found | truth).sum())


def _has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster there; the weights stay in float32."""
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.type == "cuda"
