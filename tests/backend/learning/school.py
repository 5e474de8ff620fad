"""Scenes that were accepted: bright squares on dark grounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from PIL import Image

from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Account, Part, Sample, part_of

XML = label_config(["Bright", "Missing"])
CONFIG = parse_label_config(XML)
TASKS = range(1, 21)


def sample(task: int) -> Sample:
    rng = np.random.default_rng(task)
    pixels = rng.integers(0, 60, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    top, left = rng.integers(4, 28, 2)
    mask[top : top + 30, left : left + 30] = True
    pixels[mask] += 180
    image = TaskImage(Image.fromarray(pixels), f"square {task}")
    return Sample(task, "image", image, ("Bright", "Missing"), {"Bright": mask})


def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
    for task in TASKS:
        if part_of(task) in parts:
            one = sample(task)
            account.use(one)
            yield one
