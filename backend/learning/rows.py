"""What a step learns from: images, what is asked of them, and what is to be found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from backend.inference.predictor import Predictor
from backend.learning.lessons import Lesson, Shelf
from backend.learning.recipe import Recipe
from backend.prompting import Query

# of prompts, which are trained in these words too
TEMPLATES = ("{}", "a photo of a {}", "the {}")

Answer = Callable[[Sequence[Tensor], Tensor, Lesson], Tensor]


@dataclass(frozen=True, slots=True)
class Row:
    """A pair of an image and a condition."""

    lesson: Lesson
    view: int
    condition: Tensor  # (C,)
    label: str | None  # that is to be found where it is; without one, what is kept is
    kept: Tensor | None = None  # (H, W) probabilities

    def content(self, shelf: Shelf) -> list[Tensor]:
        """What the model reads of the image."""
        return [part[self.view] for part in shelf.read(self.lesson).parts]

    def target(self, shelf: Shelf, corrected: float) -> tuple[Tensor, Tensor]:
        """What is to be found, (H, W), and what each pixel of it counts."""
        held, lesson = shelf.read(self.lesson), self.lesson
        size = held.targets.shape[2:]
        target, weights = torch.zeros(size), torch.ones(size)
        if self.kept is not None:
            return self.kept, weights
        if self.label in lesson.present:
            target = held.targets[self.view, lesson.present.index(self.label)].float()
        if self.label in lesson.corrected:
            changed = held.corrected[self.view, lesson.corrected.index(self.label)]
            weights += corrected * changed
        return target, weights


class Rows:
    """Draws rows; the same random numbers draw the same ones."""

    def __init__(
        self,
        training: Sequence[Lesson],
        validation: Sequence[Lesson],
        said: Mapping[str, Tensor],
        everyday: Tensor,
        base: Answer,
        shelf: Shelf,
        recipe: Recipe,
    ) -> None:
        """Draw from lessons.

        Args:
            training: Their masks are learnt.
            validation: Of them, only what the base says to everyday phrases is.
            said: Conditions (V, C) of each label, the one that is served first.
            everyday: Conditions (P, C) of what nobody labeled.
            base: Answers those.
            shelf: Holds the lessons.
            recipe: How often what is drawn.
        """
        self._having: dict[str, list[Lesson]] = {}
        self._lacking: dict[str, list[Lesson]] = {}
        for lesson in training:
            for label in lesson.present:
                self._having.setdefault(label, []).append(lesson)
            for label in lesson.absent:
                self._lacking.setdefault(label, []).append(lesson)
        self._all = [*training, *validation]
        self._said = said
        self._everyday = everyday
        self._base = base
        self._shelf = shelf
        self._recipe = recipe

    def draw(self, rng: np.random.Generator) -> Row:
        """One of the three kinds: what nobody labeled, a label that is absent, one that is not."""
        throw, recipe = rng.random(), self._recipe
        if throw < recipe.others:
            return self._everyday_row(rng, _any(rng, self._all))
        if throw < recipe.others + recipe.absent and self._lacking:
            label = _any(rng, sorted(self._lacking))
            lesson = _any(rng, self._lacking[label])
            return Row(lesson, _view(rng, lesson), self._text(rng, label), label)
        label = _any(rng, sorted(self._having))
        lesson = _any(rng, self._having[label])
        condition = self._text(rng, label)
        other = _any(rng, self._having[label])
        weight, mixed = float(rng.random()), rng.random() < recipe.mixed
        if mixed and other is not lesson:
            shown = self._shelf.read(other).exemplars[other.present.index(label)]
            if not shown.isnan().any():
                condition = torch.lerp(condition, shown, weight)
        return Row(lesson, _view(rng, lesson), condition, label)

    def _text(self, rng: np.random.Generator, label: str) -> Tensor:
        """As served half of the time, else in other words."""
        rows = self._said[label]
        return rows[0 if rng.random() < 0.5 else int(rng.integers(len(rows)))]

    def _everyday_row(self, rng: np.random.Generator, lesson: Lesson) -> Row:
        """Most phrases find nothing in most images: so half of these ask the best of a few."""
        drawn = rng.integers(len(self._everyday), size=self._recipe.tries)
        asked = self._everyday[drawn[:1] if rng.random() < 0.5 else drawn]
        view = _view(rng, lesson)
        parts = [part[[view]] for part in self._shelf.read(lesson).parts]
        said = self._base(parts, asked, lesson)
        best = int(said.flatten(1).amax(dim=1).argmax())
        return Row(lesson, view, asked[best], None, said[best])


def conditions(predictor: Predictor, asked: Sequence[Query]) -> dict[str, Tensor]:
    """What labels may be asked with, (V, C) each: as served first, then in words alone.

    Of several queries for a label the first is meant: they differ in which image they ask. Words
    that leave no room for a text are not used for it.

    Raises:
        BadPrompt: a label cannot be asked for.
    """
    found: dict[str, Tensor] = {}
    for query in asked:
        if query.label not in found:
            others = TEMPLATES if query.exemplars else TEMPLATES[1:]
            said = [[template.format(text) for text in query.prompts] for template in others]
            fitting = [_fitting(predictor, texts) for texts in said]
            rows = [predictor.asking(query).likeliest]
            rows += [predictor.condition(texts) for texts in fitting if texts]
            found[query.label] = torch.stack(rows).float().cpu()
    return found


def _fitting(predictor: Predictor, texts: Sequence[str]) -> list[str]:
    """Those that the model reads whole."""
    fit = predictor.segmenter.reads(texts)
    return [text for text, fits in zip(texts, fit, strict=True) if fits]


def _view(rng: np.random.Generator, lesson: Lesson) -> int:
    return int(rng.integers(lesson.views))


def _any(rng: np.random.Generator, things: Sequence[Any]) -> Any:
    return things[int(rng.integers(len(things)))]
