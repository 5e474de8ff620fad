"""How well one exemplar tells an outline, by whether the demo checkpoint was trained on it.

A label means things of one look, each beside a thing of the same colour and texture and of another
shape, so that nothing but the outline tells them apart. What is found where the shape was trained
on bounds what can be found where it was not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from benchmarks.bench_prompts import NEW_SHAPES, SEEDS, SINGLE, TASKS, Concept, Judge, Sort
from demo import CHECKPOINT
from demo.phrases import Query as Meaning
from demo.scenes import KNOWN_COLOURS, KNOWN_SHAPES, KNOWN_TEXTURES, NAMELESS, Look
from models import Segmenter

EACH = 6  # labels of a seed
KINDS: Mapping[str, Sequence[str]] = {
    "trained on, with a word": KNOWN_SHAPES,
    "trained on, without a word": NAMELESS,
    "never trained on": NEW_SHAPES,
}


def concepts() -> Iterator[tuple[str, Concept]]:
    """Labels of all seeds, each with the kind of its outline."""
    for seed in SEEDS:
        rng = np.random.default_rng((seed, 200))
        for place, (kind, shapes) in enumerate(KINDS.items()):
            for number in range(EACH):
                # known shapes in turn; of many outlines, some
                shape = shapes[number % len(shapes)] if len(shapes) <= EACH else rng.choice(shapes)
                colour, texture = str(rng.choice(KNOWN_COLOURS)), str(rng.choice(KNOWN_TEXTURES))
                look = Look(str(shape), colour, texture)
                first = 60_000_000 + 1_000_000 * seed + 50_000 * (EACH * place + number)
                yield kind, Concept(look, Sort.AMONG_LIKE, Meaning.about(look, "full"), first)


class Found(NamedTuple):
    """Mean IoU of one label."""

    traits: float  # its colour and texture, said without a shape
    description: float  # the best with a shape, in hindsight
    once: float  # one mask shown, the mean of several
    several: float  # these shown together

    @classmethod
    def by(cls, judge: Judge) -> Found:
        """What is found in a concept's scenes."""
        look = judge.concept.look
        nouns = (*KNOWN_SHAPES, "thing")
        told = judge.said([f"{look.texture} {look.colour} {noun}" for noun in nouns])
        singles = [judge.book("Widget-7", [task]).plainly for task in TASKS[:SINGLE]]
        together = judge.book("Widget-7", TASKS[:SINGLE]).plainly
        *once, several = judge.score([*singles, together])
        return cls(told[-1], max(told), float(np.mean(once)), several)


def table() -> str:
    """Markdown."""
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    figures: dict[str, list[Found]] = {kind: [] for kind in KINDS}
    for kind, concept in tqdm(list(concepts()), "labels", disable=None):
        figures[kind].append(Found.by(Judge(segmenter, concept)))
    lines = [
        f"| outlines | labels | colour and texture said | best description | 1 shown "
        f"| {SINGLE} shown | 1 shown less the best description |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, rows in figures.items():
        gains = np.array([row.once - row.description for row in rows])
        error = gains.std(ddof=1) / len(gains) ** 0.5
        cells = [kind, str(len(rows)), *(f"{mean:.3f}" for mean in np.mean(rows, axis=0))]
        lines.append(f"| {' | '.join(cells)} | {gains.mean():+.3f} ± {error:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
