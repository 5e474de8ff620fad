"""Many scenes held as arrays at the model's input size, and the batches drawn from them."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from demo import phrases, scenes
from demo.phrases import Query
from demo.scenes import Look
from models.exemplar import Exemplar, prepare
from models.image_processor import ImageProcessor

MOST_OBJECTS = 6
CHUNK = 64
AREA = 192  # side of the square that a training scene has the area of, before it is resized

# How often each kind of phrase is practised: shapes and textures are what is slow to learn.
KIND_WEIGHTS = {
    "colour": 0.10,
    "shape": 0.17,
    "texture": 0.05,
    "colour+shape": 0.22,
    "texture+shape": 0.22,
    "colour+texture": 0.06,
    "full": 0.18,
}
ABSENT = 0.27  # of the phrases name what the scene lacks
OTHER = 0.03  # of the phrases name what no scene has
ABSENT_EXEMPLAR = 0.2


@dataclass(frozen=True, slots=True)
class Pool:
    """N scenes: pixels (N, S, S, 3), masks (N, M, S, S) of up to M objects, one exemplar each."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    looks: list[tuple[Look, ...]]
    exemplars: NDArray[np.uint8]  # (N, S, S, 3): one object of the scene as a prepared exemplar
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
        np.zeros((number, side, side, 3), np.uint8),
        [],
    )


def _chunk(first_seed: int, number: int, processor: ImageProcessor) -> Pool:
    """The scenes of `number` seeds, in a worker process."""
    torch.set_num_threads(1)
    side = processor.height
    mean, std = (np.array(values, np.float32) for values in (processor.mean, processor.std))
    pool = _empty(number, side)
    for i in range(number):
        rng = np.random.default_rng((first_seed + i, 1))
        scene = scenes.generate(
            first_seed + i, _random_size(rng), count=(1, MOST_OBJECTS), radius=(0.11, 0.25)
        )
        small = scene.image.resize((side, side), Image.Resampling.BILINEAR)
        pool.pixels[i] = np.asarray(small)
        for j, thing in enumerate(scene.objects):
            mask = Image.fromarray(thing.mask.astype(np.uint8) * 255)
            pool.masks[i, j] = np.asarray(mask.resize((side, side), Image.Resampling.BILINEAR))
        pool.looks.append(tuple(thing.look for thing in scene.objects))
        example = scene.objects[int(rng.integers(len(scene.objects)))]
        shown = Exemplar(scene.image, example.mask)
        prepared = prepare(shown, processor)[0].permute(1, 2, 0).numpy()
        pool.exemplars[i] = np.clip((prepared * std + mean) * 255 + 0.5, 0, 255)
        pool.exemplar_looks.append(example.look)
    return pool


def generate(number: int, seed: int, processor: ImageProcessor, processes: int) -> Pool:
    """Draw the scenes of seeds `seed` and following, with a progress bar."""
    starts = range(seed, seed + number, CHUNK)
    sizes = [min(CHUNK, seed + number - start) for start in starts]
    pool = _empty(number, processor.height)
    # Spawned, because a forked child would inherit the locks of torch's threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as workers:
        parts = workers.map(_chunk, starts, sizes, [processor] * len(sizes))
        for part in tqdm(parts, "scenes", total=len(sizes), unit_scale=CHUNK, unit="scene"):
            place = slice(len(pool), len(pool) + len(part))
            pool.pixels[place], pool.masks[place] = part.pixels, part.masks
            pool.exemplars[place] = part.exemplars
            pool.looks.extend(part.looks)
            pool.exemplar_looks.extend(part.exemplar_looks)
    return pool


@dataclass(frozen=True, slots=True)
class Batch:
    """B images and R prompts of them: texts first, then E exemplars, each with its target."""

    pixels: Tensor  # (B, 3, S, S) in 0..1
    exemplars: Tensor  # (E, 3, S, S) in 0..1
    exemplar_texts: list[str]  # the same look in words, one per exemplar
    texts: list[str]
    rows: Tensor  # (R,) which image each prompt is asked of
    targets: Tensor  # (R, S, S) in 0..1
    traits: Tensor  # (R, 3) what a prompt asks for, as class numbers; -100 is anything
    patches: Tensor  # (B, 3, h, w) the traits of each patch; 0 is background, -100 unclear


TRAITS = (scenes.KNOWN_SHAPES, scenes.KNOWN_COLOURS, scenes.KNOWN_TEXTURES)


def _classes(query: Query) -> list[int]:
    named = (query.shape, query.colour, query.texture)
    return [-100 if n is None else names.index(n) for n, names in zip(named, TRAITS, strict=True)]


def turned(images: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of the eight symmetries of a square, on axes 1 and 2."""
    if turn & 1:
        images = images.swapaxes(1, 2)
    if turn & 2:
        images = images[:, ::-1]
    return images[:, :, ::-1] if turn & 4 else images


class Sampler:
    """An endless, seeded stream of batches."""

    def __init__(
        self, pool: Pool, seed: int, images: int, prompts: int, exemplars: int, patch: int
    ) -> None:
        self.pool = pool
        self.rng = np.random.default_rng(seed)
        self.images, self.prompts, self.exemplars, self.patch = images, prompts, exemplars, patch
        self.by_look: dict[Look, list[int]] = defaultdict(list)
        for index, look in enumerate(pool.exemplar_looks):
            self.by_look[look].append(index)
        self.known = sorted(self.by_look)
        self._kinds = tuple(KIND_WEIGHTS)
        self._weights = np.array([KIND_WEIGHTS[kind] for kind in self._kinds])
        self._weights /= self._weights.sum()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.draw()

    def draw(self) -> Batch:
        """The next batch."""
        rng, pool = self.rng, self.pool
        chosen = rng.choice(len(pool), self.images, replace=False)
        turn = int(rng.integers(8))
        pixels = turned(pool.pixels[chosen], turn)
        masks = turned(pool.masks[chosen].transpose(0, 2, 3, 1), turn).transpose(0, 3, 1, 2)
        texts: list[str] = []
        rows: list[int] = []
        queries: list[Query | None] = []
        for i, index in enumerate(chosen):
            for _ in range(self.prompts):
                text, query = self._text(pool.looks[index])
                texts.append(text)
                queries.append(query)
                rows.append(i)
        shown: list[int] = []
        shown_texts: list[str] = []
        for i in rng.choice(self.images, self.exemplars, replace=self.exemplars > self.images):
            look = self._exemplar_look(pool.looks[chosen[i]])
            shown.append(int(rng.choice(self.by_look[look])))
            query = Query(*look)
            shown_texts.append(phrases.wording(query, rng))
            queries.append(query)
            rows.append(int(i))
        targets = np.zeros((len(rows), *masks.shape[2:]), np.uint8)
        for r, (i, query) in enumerate(zip(rows, queries, strict=True)):
            if query is not None:
                for j, look in enumerate(pool.looks[chosen[i]]):
                    if query.matches(look):
                        targets[r] += masks[i, j]  # objects do not overlap
        traits = [_classes(query) if query else [-100] * 3 for query in queries]
        return Batch(
            photographed(tensor(pixels), rng),
            photographed(tensor(turned(pool.exemplars[shown], int(rng.integers(8)))), rng),
            shown_texts,
            texts,
            torch.tensor(rows),
            torch.from_numpy(targets).float() / 255,
            torch.tensor(traits),
            self._patches(masks, [pool.looks[index] for index in chosen]),
        )

    def _text(self, looks: tuple[Look, ...]) -> tuple[str, Query | None]:
        rng = self.rng
        throw = rng.uniform()
        if throw < OTHER:
            return phrases.other(rng), None
        kind = str(rng.choice(self._kinds, p=self._weights))
        query = phrases.absent(looks, kind, rng) if throw < OTHER + ABSENT else None
        query = query or Query.about(looks[int(rng.integers(len(looks)))], kind)
        return phrases.wording(query, rng), query

    def _exemplar_look(self, looks: tuple[Look, ...]) -> Look:
        known = [look for look in looks if look in self.by_look]
        if known and self.rng.uniform() >= ABSENT_EXEMPLAR:
            return known[int(self.rng.integers(len(known)))]
        return self.known[int(self.rng.integers(len(self.known)))]

    def _patches(self, masks: NDArray[np.uint8], looks: list[tuple[Look, ...]]) -> Tensor:
        cover = F.avg_pool2d(
            torch.from_numpy(np.ascontiguousarray(masks)).float() / 255, self.patch
        )  # (B, M, h, w)
        most, owner = cover.max(dim=1)
        table = torch.zeros(len(looks), 3, MOST_OBJECTS, dtype=torch.int64)
        for i, row in enumerate(looks):
            for j, look in enumerate(row):
                table[i, :, j] = torch.tensor(_classes(Query(*look))) + 1
        index = owner.flatten(1)[:, None].expand(-1, 3, -1)
        named = table.gather(2, index).unflatten(2, owner.shape[1:])
        named[(most < 0.35)[:, None].expand_as(named)] = -100
        named[(cover.sum(dim=1) < 0.08)[:, None].expand_as(named)] = 0
        return named


def tensor(images: NDArray[np.uint8]) -> Tensor:
    """Bytes (B, S, S, 3) -> (B, 3, S, S) in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255


def photographed(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Another exposure, tint and grain: colours stay nameable."""
    n = len(images)
    gain = rng.uniform(0.82, 1.15, (n, 1, 1, 1)) * rng.uniform(0.96, 1.04, (n, 3, 1, 1))
    lift = rng.uniform(-0.05, 0.05, (n, 1, 1, 1))
    grain = rng.standard_normal(images.shape, np.float32) * rng.uniform(0, 0.02)
    return (
        images * torch.from_numpy(gain).float()
        + torch.from_numpy(lift).float()
        + torch.from_numpy(grain)
    ).clamp(0, 1)
