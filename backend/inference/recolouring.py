"""An exemplar in other colours.

One mask does not tell what of it is meant: a thing in purple dots may stand for things of its
outline, for what is purple, or for both. What it shows in its own look finds that look alone. The
mean of what it shows in other colours, and in one colour without its pattern, leaves the outline;
an image is asked with that, too, and keeps to it where it promises more. Further masks tell by
themselves what they have in common.
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models import Exemplar

TURN = 1 / 3  # of the circle of hues
VIVID = 0.4  # of its pixels, the most saturated ones, have a thing's colour

Colour = tuple[int, int, int]


def recoloured(image: Image.Image, mask: NDArray[np.bool_]) -> list[Exemplar]:
    """What a mask (H, W) shows in an RGB image: as it is, turned in hue, and in two plain colours.

    No more of the image is kept than an exemplar is prepared from.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    margin = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    top, left = max(0, rows[0] - margin), max(0, columns[0] - margin)
    bottom, right = rows[-1] + 1 + margin, columns[-1] + 1 + margin
    near = image.crop(
        (int(left), int(top), min(image.width, int(right)), min(image.height, int(bottom)))
    ).convert("RGB")
    thing = mask[top:bottom, left:right]
    pixels = np.asarray(near)
    colour = _colour(pixels[thing])
    paints = [
        pixels,
        _turned(near, TURN),
        np.broadcast_to(np.array(colour, np.uint8), pixels.shape),
        np.broadcast_to(np.array(_hue(colour, 2 * TURN), np.uint8), pixels.shape),
    ]
    painted = [np.where(thing[..., None], paint, pixels) for paint in paints]
    return [Exemplar(Image.fromarray(one), thing) for one in painted]


def _colour(pixels: NDArray[np.uint8]) -> Colour:
    """The colour of a thing's pixels, (P, 3), beside the greys of a pattern or of its shadows."""
    saturation = pixels.max(axis=1).astype(int) - pixels.min(axis=1)
    vivid = pixels[saturation >= np.quantile(saturation, 1 - VIVID)]
    red, green, blue = (int(value) for value in np.median(vivid, axis=0))
    return red, green, blue


def _turned(image: Image.Image, turn: float) -> NDArray[np.uint8]:
    """An image's pixels, (H, W, 3), with every hue turned by that part of the circle."""
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += np.uint8(round(256 * turn))  # overflows as a circle does
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _hue(colour: Colour, turn: float) -> Colour:
    """One colour, likewise."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    red, green, blue = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
