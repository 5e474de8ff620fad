"""Batches drawn from a pool: scenes, what is asked of them, and the right answers."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from demo import phrases, scenes
from demo.phrases import Query
from demo.pool import MOST_OBJECTS, Pool
from demo.scenes import Look

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
OTHER = 0.08  # of the phrases name what no scene has

# How often the exemplars of a prompt have what in common.
SHARED_WEIGHTS = {
    "shape": 0.1,
    "colour": 0.04,
    "texture": 0.04,
    "colour+shape": 0.2,
    "texture+shape": 0.1,
    "colour+texture": 0.04,
    "full": 0.48,
}
SINGLE = 0.7  # of the exemplars that have everything in common are one
MOST_SHOWN = 4
ABSENT_EXEMPLAR = 0.2
NEARLY = 0.5  # of the absent exemplars differ from something in the scene in their outline alone
MISNAMED = 0.15  # of the prompts by exemplars have a name beside them that says nothing

# How often vocabularies are of each kind; no two labels of one mean the same object.
VOCABULARY_WEIGHTS = {
    "colour": 0.08,
    "shape": 0.42,
    "texture": 0.04,
    "colour+shape": 0.24,
    "texture+shape": 0.08,
    "colour+texture": 0.02,
    "full": 0.12,
}
MIXED = 0.2  # of the vocabularies have labels of several kinds
LEFT_OUT = 0.12  # of what could be named, so that what is not asked for is background
DISTRACTORS = (0.55, 0.3, 0.15)  # how likely a vocabulary has none, one or two absent labels
PLAIN = 0.4  # of a vocabulary's labels are worded as briefly as can be

TRAITS = (
    (*scenes.KNOWN_SHAPES, *scenes.NAMELESS), scenes.KNOWN_COLOURS, scenes.KNOWN_TEXTURES
)  # fmt: skip
NUMBERS = tuple({name: number for number, name in enumerate(names)} for names in TRAITS)
KINDS_OF_THING = len(scenes.KNOWN_SHAPES) * len(scenes.KNOWN_COLOURS)
ANYTHING = -100  # what cross entropy leaves out
ANY = Query()

B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class PromptBatch:
    """B images and R prompts of them: texts first, then P prompts by exemplars, with targets."""

    pixels: Tensor  # (B, 3, S, S) in 0..1
    exemplars: Tensor  # (E, 3, S, S) in 0..1
    shares: Tensor  # (P, E) what each exemplar is of each prompt; a prompt's add up to one
    exemplar_texts: list[str]  # what a prompt's exemplars have in common, in words: P
    complete: Tensor  # (P,) whether those words say all of it
    texts: list[str]
    rows: Tensor  # (R,) which image each prompt is asked of
    targets: Tensor  # (R, S, S) in 0..1
    traits: Tensor  # (R, 3) what a prompt asks for, as class numbers; -100 is anything
    patches: Tensor  # (B, 3, h, w) the traits of each patch; 0 is background, -100 unclear


@dataclass(frozen=True, slots=True)
class VocabularyBatch:
    """B images, each with up to N labels of which at most one is right for a pixel."""

    pixels: Tensor  # (B, 3, S, S) in 0..1
    texts: list[str]  # of all images, one after the other: T
    places: Tensor  # (T, 2) the image and the place in its vocabulary, of each text
    targets: Tensor  # (B, N, S, S) in 0..1; zero for what is absent, and beyond a vocabulary's end
    traits: Tensor  # (T, 3) what a text asks for, as class numbers; -100 is anything
    patches: Tensor  # (B, 3, h, w) the traits of each patch; 0 is background, -100 unclear
    things: Tensor  # (B, K, h, w) each patch's parts by shape and colour; the last is background


class Sampler(ABC, Generic[B]):
    """An endless, seeded stream of batches."""

    def __init__(self, pool: Pool, seed: int, images: int, patch: int) -> None:
        self.pool = pool
        self.rng = np.random.default_rng(seed)
        self.images, self.patch = images, patch

    def __iter__(self) -> Iterator[B]:
        while True:
            yield self.draw()

    @abstractmethod
    def draw(self) -> B:
        """The next batch."""

    def _scenes(self) -> tuple[list[tuple[Look, ...]], NDArray[np.uint8], NDArray[np.uint8]]:
        """Looks, pixels (B, S, S, 3) and masks (B, M, S, S) of some scenes, turned alike."""
        pool = self.pool
        chosen = self.rng.choice(len(pool), self.images, replace=False)
        turn = int(self.rng.integers(8))
        pixels = turned(pool.pixels[chosen], turn)
        masks = turned(pool.masks[chosen].transpose(0, 2, 3, 1), turn).transpose(0, 3, 1, 2)
        return [pool.looks[index] for index in chosen], pixels, masks

    def _cover(self, masks: NDArray[np.uint8]) -> Tensor:
        """How much of each patch each object covers: (B, M, h, w)."""
        return F.avg_pool2d(torch.from_numpy(np.ascontiguousarray(masks)).float() / 255, self.patch)

    def _patches(self, masks: NDArray[np.uint8], looks: list[tuple[Look, ...]]) -> Tensor:
        cover = self._cover(masks)
        most, owner = cover.max(dim=1)
        table = torch.zeros(len(looks), 3, MOST_OBJECTS, dtype=torch.int64)
        for i, row in enumerate(looks):
            for j, look in enumerate(row):
                table[i, :, j] = torch.tensor(_classes(Query(*look))) + 1
        index = owner.flatten(1)[:, None].expand(-1, 3, -1)
        named = table.gather(2, index).unflatten(2, owner.shape[1:])
        named[(most < 0.35)[:, None].expand_as(named)] = ANYTHING
        named[(cover.sum(dim=1) < 0.08)[:, None].expand_as(named)] = 0
        return named


class PromptSampler(Sampler[PromptBatch]):
    """Prompts one by one, as CLIPSeg is asked."""

    def __init__(
        self, pool: Pool, seed: int, images: int, prompts: int, shown: int, patch: int
    ) -> None:
        super().__init__(pool, seed, images, patch)
        self.prompts, self.shown = prompts, shown
        self.by_query: dict[Query, list[int]] = defaultdict(list)
        for index, look in enumerate(pool.exemplar_looks):
            for kind in SHARED_WEIGHTS:
                self.by_query[Query.about(look, kind)].append(index)

    def draw(self) -> PromptBatch:
        """The next batch."""
        rng, pool = self.rng, self.pool
        looks, pixels, masks = self._scenes()
        texts: list[str] = []
        rows: list[int] = []
        queries: list[Query | None] = []
        for i, present in enumerate(looks):
            for _ in range(self.prompts):
                text, query = self._text(present)
                texts.append(text)
                queries.append(query)
                rows.append(i)
        groups: list[list[int]] = []
        shared: list[Query] = []
        for i in rng.choice(self.images, self.shown, replace=self.shown > self.images):
            groups.append(self._exemplars(looks[i]))
            shared.append(self._shared(groups[-1]))
            rows.append(int(i))
        described = [self._described(query) for query in shared]
        shown = [index for group in groups for index in group]
        queries += shared
        targets = np.zeros((len(rows), *masks.shape[2:]), np.uint8)
        for r, (i, asked) in enumerate(zip(rows, queries, strict=True)):
            if asked is not None:
                targets[r] = _marked(masks[i], looks[i], asked)
        traits = [_classes(asked) if asked else [ANYTHING] * 3 for asked in queries]
        return PromptBatch(
            photographed(tensor(pixels), rng),
            photographed(tensor(turned(pool.exemplars[shown], int(rng.integers(8)))), rng),
            torch.block_diag(*(torch.full((1, len(group)), 1 / len(group)) for group in groups)),
            [text for text, _ in described],
            torch.tensor([complete for _, complete in described]),
            texts,
            torch.tensor(rows),
            torch.from_numpy(targets).float() / 255,
            torch.tensor(traits),
            self._patches(masks, looks),
        )

    def _text(self, looks: tuple[Look, ...]) -> tuple[str, Query | None]:
        rng = self.rng
        throw = rng.uniform()
        if throw < OTHER:
            return phrases.other(rng), None
        if throw < OTHER + ABSENT:
            absent = phrases.absent(looks, _drawn(KIND_WEIGHTS, rng), rng)
            if absent is not None and absent == _worded(absent):
                return phrases.wording(absent, rng), absent
        query = ANY
        while query == ANY:  # of an outline alone that has no name, there is nothing to say
            look = looks[int(rng.integers(len(looks)))]
            query = _worded(Query.about(look, _drawn(KIND_WEIGHTS, rng)))
        return phrases.wording(query, rng), query

    def _described(self, shared: Query) -> tuple[str, bool]:
        """Words for what exemplars have in common, and whether they say all of it."""
        query = _worded(shared)
        if query == ANY or self.rng.uniform() < MISNAMED:
            return phrases.other(self.rng), False
        return phrases.wording(query, self.rng), query == shared

    def _exemplars(self, looks: tuple[Look, ...]) -> list[int]:
        """Exemplars of something in the scene, or at times of what is elsewhere."""
        rng = self.rng
        look = looks[int(rng.integers(len(looks)))]
        kind = _drawn(SHARED_WEIGHTS, rng)
        query = Query.about(look, kind)
        if rng.uniform() < ABSENT_EXEMPLAR:
            query = self._absent(look, kind, {other.shape for other in looks})
        elif query not in self.by_query:
            shown = [other for other in looks if Query.about(other, kind) in self.by_query]
            query = Query.about(shown[int(rng.integers(len(shown)))], kind)
        alike = self.by_query[query]
        alone = None not in (query.shape, query.colour, query.texture) and rng.uniform() < SINGLE
        number = 1 if alone else min(len(alike), int(rng.integers(2, MOST_SHOWN + 1)))
        return [int(index) for index in rng.choice(alike, number, replace=False)]

    def _absent(self, look: Look, kind: str, shapes: Collection[str]) -> Query:
        """What other scenes hold, perhaps like `look` but for an outline that is none of `shapes`.

        It may be here nevertheless; what is marked is what exemplars have in common.
        """
        rng = self.rng
        if rng.uniform() < NEARLY:
            like = self.by_query.get(Query.about(look, "colour+texture"), [])
            others = [self.pool.exemplar_looks[index] for index in like]
            others = [other for other in others if other.shape not in shapes]
            if others:
                return Query.about(others[int(rng.integers(len(others)))], "full")
        looks = self.pool.exemplar_looks
        return Query.about(looks[int(rng.integers(len(looks)))], kind)

    def _shared(self, exemplars: list[int]) -> Query:
        """What they have in common, which is what they ask for."""
        looks = [self.pool.exemplar_looks[index] for index in exemplars]
        traits = (set(trait) for trait in zip(*looks, strict=True))
        return Query(*(trait.pop() if len(trait) == 1 else None for trait in traits))


class VocabularySampler(Sampler[VocabularyBatch]):
    """A vocabulary per image, whose labels compete, as GroupViT is asked."""

    def draw(self) -> VocabularyBatch:
        """The next batch."""
        looks, pixels, masks = self._scenes()
        # of a scene cut to its window, some objects are no longer there
        there = [
            tuple(look for look, mask in zip(row, some, strict=False) if mask.any())
            for row, some in zip(looks, masks, strict=True)
        ]
        asked = [self._vocabulary(present) for present in there]
        targets = np.zeros((len(looks), max(map(len, asked)), *masks.shape[2:]), np.uint8)
        places = [(i, n) for i, queries in enumerate(asked) for n in range(len(queries))]
        for i, n in places:
            targets[i, n] = _marked(masks[i], looks[i], asked[i][n])
        return VocabularyBatch(
            photographed(tensor(pixels), self.rng),
            [self._wording(asked[i][n]) for i, n in places],
            torch.tensor(places),
            torch.from_numpy(targets).float() / 255,
            torch.tensor([_classes(asked[i][n]) for i, n in places]),
            self._patches(masks, looks),
            self._things(masks, looks),
        )

    def _things(self, masks: NDArray[np.uint8], looks: list[tuple[Look, ...]]) -> Tensor:
        cover = self._cover(masks)
        parts = cover.new_zeros(len(looks), 1 + KINDS_OF_THING, *cover.shape[2:])
        for i, row in enumerate(looks):
            for j, look in enumerate(row):
                shape, colour, _ = _classes(Query(*look))
                parts[i, shape * len(scenes.KNOWN_COLOURS) + colour] += cover[i, j]
        parts[:, -1] = (1 - parts.sum(dim=1)).clamp(min=0)
        return parts

    def _vocabulary(self, looks: tuple[Look, ...]) -> list[Query]:
        """Labels for most of what is there, at times for something that is not."""
        rng = self.rng
        mixed, kind = rng.uniform() < MIXED, _drawn(VOCABULARY_WEIGHTS, rng)
        queries: list[Query] = []
        named: list[Look] = []
        unnamed = [looks[i] for i in rng.permutation(len(looks))]
        while unnamed:
            look = unnamed.pop()
            kind = _drawn(VOCABULARY_WEIGHTS, rng) if mixed else kind
            query = Query.about(look, kind)
            if not any(query.matches(other) for other in named):
                queries.append(query)
                named += [look, *filter(query.matches, unnamed)]
                unnamed = [other for other in unnamed if not query.matches(other)]
        queries = [query for query in queries if rng.uniform() >= LEFT_OUT]
        number = int(rng.choice(len(DISTRACTORS), p=DISTRACTORS))
        lacking = [phrases.absent(looks, kind, rng) for _ in range(max(number, not queries))]
        return list(dict.fromkeys([*queries, *filter(None, lacking)]))

    def _wording(self, query: Query) -> str:
        brief = self.rng.uniform() < PLAIN
        return query.simple() if brief else phrases.wording(query, self.rng)


def _drawn(weights: dict[str, float], rng: np.random.Generator) -> str:
    """A kind of phrase, as often as its weight says."""
    share = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=share / share.sum()))


def _worded(query: Query) -> Query:
    """As much of it as there are words for."""
    return query if query.shape in scenes.KNOWN_SHAPES else replace(query, shape=None)


def _classes(query: Query) -> list[int]:
    named = (query.shape, query.colour, query.texture)
    return [
        ANYTHING if name is None else numbers[name]
        for name, numbers in zip(named, NUMBERS, strict=True)
    ]


def _marked(masks: NDArray[np.uint8], looks: tuple[Look, ...], query: Query) -> NDArray[np.uint8]:
    """What a query means: (M, S, S) -> (S, S); objects share no more than an edge."""
    meant = [j for j, look in enumerate(looks) if query.matches(look)]
    return masks[meant].sum(axis=0, dtype=np.uint16).clip(max=255).astype(np.uint8)


def turned(images: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """One of the eight symmetries of a square, on axes 1 and 2."""
    if turn & 1:
        images = images.swapaxes(1, 2)
    if turn & 2:
        images = images[:, ::-1]
    return images[:, :, ::-1] if turn & 4 else images


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
