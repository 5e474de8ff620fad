"""How to train, and how it goes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train."""

    seed: int = 0
    steps: int = 400
    rows: int = 16  # pairs of an image and a phrase in a step
    rate: float = 2e-4
    absent: float = 0.15  # share of rows that ask for a label which is not there
    others: float = 0.6  # share of rows that ask for what nobody labeled
    tries: int = 4  # such phrases, of which half of these rows ask the one that the base finds best
    mixed: float = 0.25  # share of the remaining rows that show an exemplar
    corrected: float = 3.0  # what a pixel that an annotator changed weighs beyond the others
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
