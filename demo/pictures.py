"""`python -m demo.pictures`: the pictures that `make demo` is shown on, drawn anew.

They share a handful of looks, so that most labels of `label_config.xml` occur in several of them.
One is a portrait, one is stored on its side with an EXIF note, as telephones do.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from demo import IMAGES
from demo.scenes import Look, generate

ORIENTATION = 0x0112  # the EXIF tag
ON_ITS_SIDE = 6  # turn a quarter clockwise to display
CLOCKWISE_BACK = Image.Transpose.ROTATE_90  # counter-clockwise: undone by ON_ITS_SIDE


class Picture(NamedTuple):
    """A file and what must be in it."""

    name: str
    size: tuple[int, int]  # as displayed
    seed: int
    looks: tuple[Look, ...]


RED_CIRCLE = Look("circle", "red", "plain")
RED_RING = Look("ring", "red", "striped")
STRIPED_SQUARE = Look("square", "orange", "striped")
STRIPED_PURPLE_SQUARE = Look("square", "purple", "striped")
BLUE_TRIANGLE = Look("triangle", "blue", "plain")
BLUE_CROSS = Look("cross", "blue", "checkered")
GREEN_STAR = Look("star", "green", "plain")
DOTTED_GREEN_STAR = Look("star", "green", "dotted")
DOTTED_CIRCLE = Look("circle", "pink", "dotted")
DOTTED_YELLOW_RING = Look("ring", "yellow", "dotted")

PICTURES = (
    Picture(
        "01-table.jpg", (640, 480), 11, (RED_CIRCLE, STRIPED_SQUARE, BLUE_TRIANGLE, GREEN_STAR)
    ),
    Picture("02-wide.jpg", (800, 450), 12, (RED_CIRCLE, DOTTED_GREEN_STAR, BLUE_CROSS, RED_RING)),
    Picture(
        "03-portrait.jpg",
        (480, 640),
        13,
        (STRIPED_PURPLE_SQUARE, GREEN_STAR, DOTTED_CIRCLE, RED_CIRCLE),
    ),
    Picture("04-square.png", (384, 384), 14, (BLUE_TRIANGLE, DOTTED_YELLOW_RING, STRIPED_SQUARE)),
    Picture(
        "05-turned.jpg", (480, 600), 15, (BLUE_CROSS, RED_CIRCLE, DOTTED_CIRCLE, STRIPED_SQUARE)
    ),
    Picture(
        "06-crowd.jpg",
        (960, 640),
        16,
        (GREEN_STAR, BLUE_TRIANGLE, STRIPED_PURPLE_SQUARE, DOTTED_YELLOW_RING, RED_CIRCLE),
    ),
)


def draw(folder: Path) -> list[Path]:
    """Write all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, size, seed, looks in PICTURES:
        image = generate(seed, size, include=looks, count=(len(looks), len(looks))).image
        path = folder / name
        if "turned" in name:
            exif = Image.Exif()
            exif[ORIENTATION] = ON_ITS_SIDE
            image.transpose(CLOCKWISE_BACK).save(path, quality=88, exif=exif)
        elif path.suffix == ".png":
            image.quantize(256).save(path, optimize=True)
        else:
            image.save(path, quality=88)
        paths.append(path)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the demo's pictures."""
    parser = argparse.ArgumentParser(prog="python -m demo.pictures", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES)
    draw(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main()
