"""An image seen in several ways, so that a few accepted tasks teach, and tell, what many would.

What the decoder reads of an image is encoded once, so that each way of seeing it costs a pass of
the vision tower: few images are seen in many ways, many images in few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from backend.labelstudio.shapes import Mask

MOST, LEAST = 8, 2  # of an image
PASSES = 320  # for all images together, as long as each has the least
ZOOM = (0.75, 1.6)
TURN = 20.0  # degrees, either way
LIGHT = (0.8, 1.25)  # brightness, contrast and colour, each

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class View(Generic[K]):
    """An image and masks of the same size."""

    image: Image.Image
    masks: Mapping[K, Mask]


def views_of(number: int, passes: int = PASSES, least: int = LEAST) -> int:
    """How many views the image of this number, from 0, is to have."""
    return max(least, min(MOST, passes // (number + 1)))


def views(image: Image.Image, masks: Mapping[K, Mask], count: int, seed: int) -> Iterator[View[K]]:
    """The image itself, its mirror image, and others: nearer, farther, turned, in another light.

    All have its size, so that of large images few have room in memory at a time. What comes into
    sight at the edges is of the image's mean colour and has no label.
    """
    rng = np.random.default_rng(seed)
    mirrored = View(ImageOps.mirror(image), {name: mask[:, ::-1] for name, mask in masks.items()})
    whole = View(image, masks), mirrored
    yield from whole[:count]
    for _ in range(count - len(whole)):
        yield _drawn(rng, whole[int(rng.integers(2))])


def _drawn(rng: np.random.Generator, view: View[K]) -> View[K]:
    image = view.image.convert("RGB")
    width, height = image.size
    mean = tuple(
        int(value) for value in np.asarray(image.resize((1, 1), Image.Resampling.BOX))[0, 0]
    )
    matrix = _matrix(rng, width, height)
    how = image.size, Image.Transform.AFFINE, matrix
    seen = image.transform(*how, Image.Resampling.BILINEAR, fillcolor=mean)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        seen = change(seen).enhance(float(rng.uniform(*LIGHT)))
    return View(
        seen,
        {
            name: np.asarray(Image.fromarray(mask).transform(*how))
            for name, mask in view.masks.items()
        },
    )


def _matrix(rng: np.random.Generator, width: int, height: int) -> tuple[float, ...]:
    """Where each pixel comes from: turned and scaled about a point near the middle."""
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM))))
    turn = np.radians(rng.uniform(-TURN, TURN))
    # what is looked at stays inside the image
    slack = max(0.0, 1 - 1 / zoom) / 2
    x, y = (side * (0.5 + rng.uniform(-slack, slack)) for side in (width, height))
    across, along = np.cos(turn) / zoom, np.sin(turn) / zoom
    return (
        *(across, along, x - across * width / 2 - along * height / 2),
        *(-along, across, y + along * width / 2 - across * height / 2),
    )
