"""Pictures of masks: tinted, outlined and captioned, for people who would rather look."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from backend.lettering import Font, lettering

# Okabe and Ito's palette, told apart with every kind of colour vision; vivid ones first.
COLOURS = (
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
)
LONGEST_SIDE = 1600  # of an overlay, in pixels: a screen, not a print
TINT = 0.25  # light, so that an object keeps the colour that its prompt speaks of


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask (H, W) to draw, with its caption."""

    caption: str
    mask: NDArray[np.bool_]


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Two sides in the same proportion, the longer of them of so many pixels at most."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def draw(image: Image.Image, drawn: Sequence[Drawn]) -> Image.Image:
    """The image with masks tinted, outlined and captioned, at most `LONGEST_SIDE` long."""
    size = fitted(image.size, LONGEST_SIDE)
    canvas = np.asarray(image.convert("RGB").resize(size)).astype(np.float32)
    width = max(1, round(max(size) / 300))
    masks = [
        np.asarray(Image.fromarray(one.mask).resize(size, Image.Resampling.NEAREST))
        for one in drawn
    ]
    for i, mask in enumerate(masks):
        colour = np.array(COLOURS[i % len(COLOURS)], dtype=np.float32)
        canvas[mask] = (1 - TINT) * canvas[mask] + TINT * colour
    for i, mask in enumerate(masks):  # outlines last, so that no tint covers one
        grown = ndimage.binary_dilation(mask, iterations=width)
        canvas[grown & ~mask] = 255
        canvas[mask & ~ndimage.binary_erosion(mask, iterations=width)] = COLOURS[i % len(COLOURS)]
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    _caption(picture, [one.caption for one in drawn], masks)
    return picture


def _caption(
    picture: Image.Image, captions: Sequence[str], masks: Sequence[NDArray[np.bool_]]
) -> None:
    """Write each caption at its mask's largest part, moved down where another one stands."""
    pen = ImageDraw.Draw(picture)
    size = max(11, round(max(picture.size) / 45))
    taken: list[tuple[int, int, int, int]] = []
    for i, (caption, mask) in enumerate(zip(captions, masks, strict=True)):
        if not mask.any():
            continue
        parts, count = ndimage.label(mask)
        largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:]))
        rows, columns = np.nonzero(parts == largest)
        caption, font = lettering(caption, size)
        caption = _fitting(caption, picture.width - 8, font)
        _, _, right, bottom = pen.textbbox((0, 0), caption, font=font)
        w, h = int(right) + 8, int(bottom) + 6
        x = int(np.clip(columns.mean() - w / 2, 0, max(0, picture.width - w)))
        y = int(np.clip(rows.min() - h - 2, 0, max(0, picture.height - h)))
        while any(
            x < other_x + other_w and other_x < x + w and y < other_y + other_h and other_y < y + h
            for other_x, other_y, other_w, other_h in taken
        ):
            y += h
        taken.append((x, y, w, h))
        pen.rectangle((x, y, x + w, y + h), fill=COLOURS[i % len(COLOURS)])
        pen.text((x + 4, y + 2), caption, fill=_ink(COLOURS[i % len(COLOURS)]), font=font)


def _fitting(caption: str, width: float, font: Font) -> str:
    """A caption as wide as its picture at most: what is before its last word, the score, goes."""
    phrase, _, score = caption.rpartition(" ")
    if not phrase or font.getlength(caption) <= width:
        return caption
    shorter = [f"{phrase[:end].rstrip()}… {score}" for end in range(len(phrase))]
    return shorter[max(0, bisect(shorter, width, key=lambda one: font.getlength(one)) - 1)]


def _ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on a colour (ITU-R BT.601 luma)."""
    red, green, blue = colour
    bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
    return (0, 0, 0) if bright else (255, 255, 255)


def contact_sheet(
    pictures: Sequence[Image.Image], columns: int = 3, cell: int = 420
) -> Image.Image:
    """All pictures on one sheet, each fitted into a cell of `cell` pixels."""
    gap = 12
    rows = -(-len(pictures) // columns)
    size = (columns * (cell + gap) + gap, rows * (cell + gap) + gap)
    sheet = Image.new("RGB", size, (250, 250, 250))
    for i, picture in enumerate(pictures):
        small = picture.copy()
        small.thumbnail((cell, cell))
        row, column = divmod(i, columns)
        x = gap + column * (cell + gap) + (cell - small.width) // 2
        y = gap + row * (cell + gap) + (cell - small.height) // 2
        sheet.paste(small, (x, y))
    return sheet
