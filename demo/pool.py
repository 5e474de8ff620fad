"""Many scenes held as arrays at the model's input size, for training to draw from."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from demo import scenes
from demo.scenes import Look
from models.exemplar import Exemplar, prepare
from models.image_processor import ImageProcessor

MOST_OBJECTS = 6
CHUNK = 64
AREA = 192  # side of the square that a training scene has the area of, before it is resized
NAMELESS_SHARE = 0.5  # of the scenes have outlines without a name, where they are wanted
DRAWN_FROM = (2, 4)  # so many known and nameless outlines in one of them
TWINS = 0.35  # of the scenes with them have two things that differ in their outline alone
SHOWN = 2  # exemplars of each scene
BOXED = 0.3  # of them are shown by a box, whose ground is not taken away
ELSEWHERE = 1_000_000_000  # between the seed of a scene and that of its exemplars


@dataclass(frozen=True, slots=True)
class Style:
    """How scenes are drawn for a model.

    CLIPSeg sees pictures squeezed into its input's square; GroupViT sees windows, so that a square
    is cut out. Outlines without a name are for a model that is asked by exemplars.
    """

    cut: bool = False
    nameless: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    """N scenes: pixels (N, S, S, 3), masks (N, M, S, S) of up to M objects.

    To each belong two exemplars from another scene: an object that looks like one of its own, and
    one that shares only some of that.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    looks: list[tuple[Look, ...]]
    exemplars: NDArray[np.uint8]  # (2N, S, S, 3), prepared
    exemplar_looks: list[Look]

    def __len__(self) -> int:
        return len(self.looks)


def _random_size(rng: np.random.Generator) -> tuple[int, int]:
    stretch = np.exp(rng.uniform(-0.25, 0.25))
    return round(AREA * stretch), round(AREA / stretch)


def _empty(number: int, side: int) -> Pool:
    return Pool(
        np.zeros((number, side, side, 3), np.uint8),
        np.zeros((number, MOST_OBJECTS, side, side), np.uint8),
        [],
        np.zeros((SHOWN * number, side, side, 3), np.uint8),
        [],
    )


def _view(size: tuple[int, int], cut: bool, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The part of a picture that becomes the input: all of it, or a square as large as can be."""
    width, height = size
    if not cut:
        return 0, 0, width, height
    side = min(size)
    left, top = (int(rng.integers(length - side + 1)) for length in size)
    return left, top, left + side, top + side


def _shapes(wanted: bool, rng: np.random.Generator) -> Sequence[str]:
    """The shapes that a scene draws from: few, so that several of a kind come together."""
    if not wanted or rng.uniform() >= NAMELESS_SHARE:
        return scenes.KNOWN_SHAPES
    named = (scenes.KNOWN_SHAPES, scenes.NAMELESS)
    drawn = (rng.choice(some, n) for some, n in zip(named, DRAWN_FROM, strict=True))
    return [str(name) for names in drawn for name in names]


def _twins(shapes: Sequence[str], rng: np.random.Generator) -> list[Look]:
    """Two looks of which only the outline tells which is which."""
    colour, texture = str(rng.choice(scenes.KNOWN_COLOURS)), str(rng.choice(scenes.KNOWN_TEXTURES))
    outlines = rng.choice(list(dict.fromkeys(shapes)), 2, replace=False)
    return [Look(str(outline), colour, texture) for outline in outlines]


def _shown(seed: int, look: Look, rng: np.random.Generator) -> list[tuple[Exemplar, Look]]:
    """Another scene's object of this look, and one of the same outline in other paint."""
    painted = look._replace(colour=str(rng.choice(scenes.KNOWN_COLOURS)))
    if rng.uniform() < 0.5 or painted == look:
        others = [texture for texture in scenes.KNOWN_TEXTURES if texture != look.texture]
        painted = look._replace(texture=str(rng.choice(others)))
    scene = scenes.generate(seed, AREA, include=[look, painted], count=(2, 4))
    there = {thing.look: thing.mask for thing in reversed(scene.objects)}
    found = (look, painted if painted in there else look)
    return [(_exemplar(scene.image, there[one], rng), one) for one in found]


def _exemplar(image: Image.Image, mask: NDArray[np.bool_], rng: np.random.Generator) -> Exemplar:
    """An object by its mask, or by a box as people draw it: too large, or a little too small."""
    if rng.uniform() >= BOXED:
        return Exemplar(image, mask)
    edges = np.array(Image.fromarray(mask).getbbox(), np.float64)
    sides = np.tile(edges[2:] - edges[:2], 2)
    left, top, right, bottom = edges + rng.uniform(-0.02, 0.08, 4) * sides * (-1, -1, 1, 1)
    return Exemplar(image, box=(float(left), float(top), float(right), float(bottom)))


def _chunk(first_seed: int, number: int, processor: ImageProcessor, style: Style) -> Pool:
    """The scenes of `number` seeds, in a worker process."""
    torch.set_num_threads(1)
    side = processor.height
    mean, std = (np.array(values, np.float32) for values in (processor.mean, processor.std))
    pool = _empty(number, side)
    for i in range(number):
        rng = np.random.default_rng((first_seed + i, 1))
        size = _random_size(rng)
        shapes = _shapes(style.nameless, rng)
        scene = scenes.generate(
            first_seed + i,
            size,
            include=_twins(shapes, rng) if style.nameless and rng.uniform() < TWINS else (),
            count=(1, MOST_OBJECTS),
            radius=(0.11, 0.25),
            shapes=shapes,
        )
        view = _view(scene.image.size, style.cut, rng)
        small = scene.image.resize((side, side), Image.Resampling.BILINEAR, view)
        pool.pixels[i] = np.asarray(small)
        for j, thing in enumerate(scene.objects):
            mask = Image.fromarray(thing.mask.astype(np.uint8) * 255)
            pool.masks[i, j] = np.asarray(
                mask.resize((side, side), Image.Resampling.BILINEAR, view)
            )
        pool.looks.append(tuple(thing.look for thing in scene.objects))
        example = scene.objects[int(rng.integers(len(scene.objects)))].look
        shown = _shown(first_seed + i + ELSEWHERE, example, rng)
        for place, (exemplar, look) in enumerate(shown, start=SHOWN * i):
            prepared = prepare(exemplar, processor)[0].permute(1, 2, 0).numpy()
            pool.exemplars[place] = np.clip((prepared * std + mean) * 255 + 0.5, 0, 255)
            pool.exemplar_looks.append(look)
    return pool


def generate(
    number: int, seed: int, processor: ImageProcessor, processes: int, style: Style
) -> Pool:
    """Draw the scenes of seeds `seed` and following, with a progress bar."""
    starts = range(seed, seed + number, CHUNK)
    sizes = [min(CHUNK, seed + number - start) for start in starts]
    pool = _empty(number, processor.height)
    # Spawned, because a forked child would inherit the locks of torch's threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        parts = workers.map(_chunk, starts, sizes, repeat(processor), repeat(style))
        for part in tqdm(parts, "scenes", total=len(sizes), unit_scale=CHUNK, unit="scene"):
            start, end = len(pool), len(pool) + len(part)
            pool.pixels[start:end], pool.masks[start:end] = part.pixels, part.masks
            pool.exemplars[SHOWN * start : SHOWN * end] = part.exemplars
            pool.looks.extend(part.looks)
            pool.exemplar_looks.extend(part.exemplar_looks)
    return pool
