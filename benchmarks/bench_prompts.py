"""What exemplars and thresholds from accepted masks are worth: `make bench-prompts`.

Exemplars: a label means things whose shape the demo checkpoint was never trained on, of one look,
of any texture or of any look. Masks of it are accepted, `prompts measure` fills the book, and other
scenes are asked from it, as workers do. Each scene has a thing of the same colour and another
shape, too, which for some labels has the same texture: nothing but the shape tells them apart.

Labels of known words show that exemplars do no harm where they are not needed, and what thresholds
gain that twenty masks move.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from backend.inference.books import Books
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.inference.suggest import Evidence, suggest
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.labelstudio.shapes import Mask
from backend.labelstudio.starter import label_config
from backend.learning.acceptance import Acceptance
from backend.learning.chart import COLOURS, GREY, Series, chart, standalone
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.drawn import iou
from backend.learning.measure import measure
from backend.prompting import Query, queries
from demo import CHECKPOINT
from demo import WORDS as WORDS_TRIED
from demo.evaluate import THRESHOLD, truth
from demo.phrases import Query as Meaning
from demo.scenes import (
    KNOWN_COLOURS,
    KNOWN_SHAPES,
    KNOWN_TEXTURES,
    SHAPES,
    Look,
    Scene,
    generate,
)
from models import ImageFeatures, Segmenter

SEEDS = (0, 1, 2)
NEW_SHAPES = [name for name in SHAPES if name not in KNOWN_SHAPES]
COUNTS = (1, 5, 20)  # accepted masks
JUDGED = 60  # scenes
SINGLE = 5  # of the first masks, each by itself, for the figure of one
TASKS = [task for task in range(1, 1000) if part_of(task) is Part.TRAINING][: max(COUNTS)]
UNFITTING = 0.7  # a default threshold that does not fit the checkpoint
WORDS = ("shape", "texture", "colour+shape", "texture+shape")  # kinds of known labels
NAMED = ("says nothing", "is the best word", "is the best description")
VOCABULARY = Vocabulary.read(WORDS_TRIED)
PLOT = Path(__file__).with_name("prompts.svg")


class Sort(Enum):
    """What a label of a new shape means, and what is beside it."""

    ONE_LOOK = "of one look"
    ANY_TEXTURE = "of any texture"
    AMONG_LIKE = "among its like"  # of the same colour and texture
    ANY_LOOK = "of any look"  # of any colour and texture


@dataclass(frozen=True, slots=True)
class Concept:
    """What a label means, and the scenes that are judged."""

    look: Look
    sort: Sort
    meant: Meaning
    first: int  # seed of its scenes

    def scene(self, number: int) -> Scene:
        """One of its scenes."""
        rng = np.random.default_rng(self.first + number)
        shapes = [name for name in KNOWN_SHAPES if name != self.look.shape]
        shape, texture = str(rng.choice(shapes)), str(rng.choice(KNOWN_TEXTURES))
        drawn = self.look
        if self.meant.texture is None:
            drawn = drawn._replace(texture=str(rng.choice(KNOWN_TEXTURES)))
        if self.sort is Sort.ANY_LOOK:
            drawn = drawn._replace(colour=str(rng.choice(KNOWN_COLOURS)))
        if self.sort is Sort.AMONG_LIKE:
            texture = drawn.texture
        other = Look(shape, drawn.colour, texture)
        return generate(self.first + number, include=[drawn, other], count=(3, 5))

    def sample(self, task: int, label: str) -> Sample:
        """A scene as an accepted task."""
        scene = self.scene(task)
        image = TaskImage(scene.image, f"scene {self.first + task}")
        return Sample(task, "image", image, (label,), {label: truth(scene, self.meant)})


class Judge:
    """A concept's other scenes, encoded once."""

    def __init__(self, segmenter: Segmenter, concept: Concept) -> None:
        self.segmenter, self.concept = segmenter, concept
        self.predictor = Predictor(segmenter, FeatureCache(0))
        self.scenes: list[tuple[ImageFeatures, Mask]] = []
        for number in range(JUDGED):
            scene = concept.scene(10_000 + number)
            (features,) = segmenter.encode_image(scene.image)
            self.scenes.append((features, truth(scene, concept.meant)))

    def score(self, asked: Sequence[Query]) -> list[float]:
        """Mean IoU of each query, as masks are served."""
        conditions = {query: self.predictor.asking(query) for query in asked}
        scores = []
        for features, right in self.scenes:
            found = self.predictor.find(features, conditions)
            held = {one.query: iou(one.mask, right) for one in found}
            scores.append([held[query] for query in asked])
        return [float(score) for score in np.mean(scores, axis=0)]

    def said(self, texts: Sequence[str]) -> list[float]:
        """Mean IoU of each text."""
        return self.score([Query("image", text, (text,), THRESHOLD, ()) for text in texts])

    def suggested(self, task: int) -> str:
        """The phrase that one accepted mask suggests."""
        sample = self.concept.sample(task, "Widget-7")
        (features,) = self.segmenter.encode_image(sample.image.image)
        evidence = [Evidence(features, sample.mask("Widget-7"))]
        found = suggest(self.segmenter, "Widget-7", evidence, VOCABULARY, threshold=THRESHOLD)
        return found[0].text

    def book(self, label: str, tasks: Sequence[int], threshold: float = THRESHOLD) -> Asked:
        """What the label is asked with after these tasks were accepted."""

        def marked(_: Account) -> Iterator[Sample]:
            return (self.concept.sample(task, label) for task in tasks)

        config = parse_label_config(label_config([label]))
        with tempfile.TemporaryDirectory() as folder:
            books = Books(Path(folder))
            nobody = Acceptance()
            found = measure(self.predictor, "demo", books, 1, config, marked, threshold=threshold)
            found.write(books, 1, config, nobody, threshold=threshold)
            book = books.serving(1, "demo")
        entry = book.entry(label)
        (whole,) = queries(config, threshold, book)
        alone = replace(
            entry, weight=1.0, handicaps=(), threshold=None, confidence=None, probe=None
        )
        (plainly,) = queries(config, threshold, book.having(alone))
        said = replace(whole, exemplars=(), weights=(), shown=None)
        shown = replace(whole, weights=((1.0, 0.0),)) if whole.weights else plainly
        left_out = sum(not one.used for one in entry.exemplars)
        return Asked(whole, said, shown, plainly, left_out)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a book asks for a label, and its parts alone, with the same threshold and probe."""

    whole: Query
    said: Query
    shown: Query
    plainly: Query  # what is shown, alone, with the default threshold and without a probe
    left_out: int  # exemplars


def _new(seed: int, number: int) -> Concept:
    """A concept of a new shape; all shapes of one sort come before the next."""
    rng = np.random.default_rng((seed, number))
    place, which = divmod(number, len(NEW_SHAPES))
    sort = list(Sort)[place]
    colour, texture = str(rng.choice(KNOWN_COLOURS)), str(rng.choice(KNOWN_TEXTURES))
    look = Look(NEW_SHAPES[which], colour, texture)
    said = {Sort.ANY_TEXTURE: "colour+shape", Sort.ANY_LOOK: "shape"}.get(sort, "full")
    meant = Meaning.about(look, said)
    return Concept(look, sort, meant, 20_000_000 + 1_000_000 * seed + 50_000 * number)


def _known(seed: int, kind: str) -> Concept:
    """A concept that the label's words describe."""
    rng = np.random.default_rng((seed, 100, WORDS.index(kind)))
    look = Look(*(str(rng.choice(k)) for k in (KNOWN_SHAPES, KNOWN_COLOURS, KNOWN_TEXTURES)))
    first = 30_000_000 + 1_000_000 * seed + 50_000 * WORDS.index(kind)
    return Concept(look, Sort.ONE_LOOK, Meaning.about(look, kind), first)


@dataclass(frozen=True, slots=True)
class Row:
    """How one concept of a seed was found."""

    seed: int
    meant: str
    sort: Sort
    name: float  # the label's own name, which means nothing
    kind: tuple[float, str]  # the best phrase without colour and texture, in hindsight
    full: tuple[float, str]  # the best of all phrases, in hindsight
    told: float  # phrases that single masks suggest
    shown: tuple[float, ...]  # exemplars alone, by COUNTS
    parts: NDArray[np.float64]  # (COUNTS, NAMED, 3): mixture, texts and exemplars of a book
    left_out: int  # exemplars of the largest count

    @property
    def mixed(self) -> list[float]:
        """A mixture less its better part, at its least, by COUNTS."""
        gains = self.parts[..., 0] - self.parts[..., 1:].max(axis=-1)
        return [float(gain) for gain in gains.min(axis=1)]


def exemplar_row(segmenter: Segmenter, seed: int, number: int) -> Row:
    """One concept."""
    concept = _new(seed, number)
    judge, look = Judge(segmenter, concept), concept.look
    kinds = [*KNOWN_SHAPES, look.shape, "thing"]
    descriptions = [
        " ".join(filter(None, (texture, colour, noun)))
        for texture in ("", *KNOWN_TEXTURES)
        for colour in ("", look.colour)
        for noun in kinds
    ]
    held = dict(zip(descriptions, judge.said(descriptions), strict=True))
    (name,) = judge.said(["widget 7"])
    told = float(np.mean(judge.said([judge.suggested(task) for task in TASKS[:SINGLE]])))
    kind, full = max(kinds, key=held.__getitem__), max(held, key=held.__getitem__)
    singles = [judge.book("Widget-7", [task]).plainly for task in TASKS[:SINGLE]]
    shown, parts = [float(np.mean(judge.score(singles)))], []
    for count in COUNTS:
        books = [judge.book(label, TASKS[:count]) for label in ("Widget-7", kind, full)]
        if count > 1:
            shown.append(judge.score([books[0].plainly])[0])
        parts.append([judge.score([book.whole, book.said, book.shown]) for book in books])
    return Row(
        seed,
        " ".join(filter(None, (concept.meant.texture, concept.meant.colour, look.shape))),
        concept.sort,
        name,
        (held[kind], kind),
        (held[full], full),
        told,
        tuple(shown),
        np.array(parts),
        books[0].left_out,
    )


def exemplars(segmenter: Segmenter) -> list[Row]:
    """All concepts of all seeds."""
    turns = [(seed, number) for seed in SEEDS for number in range(len(Sort) * len(NEW_SHAPES))]
    return [exemplar_row(segmenter, *turn) for turn in tqdm(turns, "concepts", disable=None)]


def exemplar_table(rows: Sequence[Row]) -> str:
    """The rows, in Markdown, with a mean for each sort of concept."""
    shown = " | ".join(f"{count} shown" for count in COUNTS)
    mixed = " | ".join(f"mixed, {count}" for count in COUNTS)
    lines = [
        f"| seed | meant | its name | best word | best description | phrase by 1 | {shown} "
        f"| {mixed} | left out of 12 |",
        f"|---|---|---:|---|---|{'---:|' * (2 * len(COUNTS) + 2)}",
    ]
    for row in rows:
        cells = [str(row.seed), f"{row.meant}, {row.sort.value}"]
        cells += [f"{row.name:.3f}", *(f"{iou:.3f} ({text})" for iou, text in (row.kind, row.full))]
        cells += [f"{iou:.3f}" for iou in (row.told, *row.shown)]
        cells += [f"{gain:+.3f}" for gain in row.mixed]
        lines.append(f"| {' | '.join([*cells, str(row.left_out)])} |")
    for sort in Sort:
        some = [row for row in rows if row.sort is sort]
        cells = [_mean([row.name for row in some])]
        cells += [_mean([row.kind[0] for row in some]), _mean([row.full[0] for row in some])]
        cells.append(_mean([row.told for row in some]))
        cells += [_mean([row.shown[i] for row in some]) for i in range(len(COUNTS))]
        cells += [f"{min(row.mixed[i] for row in some):+.3f} at least" for i in range(len(COUNTS))]
        lines.append(f"| all | **mean, {sort.value}** | {' | '.join(cells)} | |")
    return "\n".join(lines)


def mixture_table(rows: Sequence[Row]) -> str:
    """What books serve beside their parts, in the mean over concepts."""
    figures = [f"texts, {n} | exemplars, {n} | mixed, {n} | least of a seed" for n in COUNTS]
    lines = [
        f"| the label's name | {' | '.join(figures)} |",
        f"|---|{'---:|' * (4 * len(COUNTS))}",
    ]
    by_seed = np.array(
        [np.mean([row.parts for row in rows if row.seed == seed], axis=0) for seed in SEEDS]
    )
    for place, name in enumerate(NAMED):
        cells = []
        for i in range(len(COUNTS)):
            whole, said, shown = by_seed[:, i, place].T
            cells += [f"{part.mean():.3f}" for part in (said, shown, whole)]
            cells.append(f"{(whole - np.maximum(said, shown)).min():+.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean(figures: Sequence[float]) -> str:
    return f"**{np.mean(figures):.3f}**"


def plot(rows: Sequence[Row]) -> str:
    """IoU by accepted masks: exemplars of each sort of label, and what words find."""
    drawn = []
    for sort, colour in zip(Sort, COLOURS, strict=False):
        shown = np.mean([row.shown for row in rows if row.sort is sort], axis=0)
        points = [(float(n), float(found)) for n, found in zip(COUNTS, shown, strict=True)]
        drawn.append(Series(sort.value, points, colour))
    word = float(np.mean([row.kind[0] for row in rows]))
    level = [(float(COUNTS[0]), word), (float(COUNTS[-1]), word)]
    drawn.append(Series("best word", level, GREY, dashed=True))
    return standalone(chart("IoU of exemplars", drawn, "accepted masks", low=0, high=1))


def known(segmenter: Segmenter) -> list[Judge]:
    """Of labels whose words the checkpoint knows."""
    turns = [(seed, kind) for seed in SEEDS for kind in WORDS]
    return [Judge(segmenter, _known(*turn)) for turn in tqdm(turns, "known labels", disable=None)]


def known_table(judges: Sequence[Judge]) -> str:
    """What exemplars do where words are enough: by COUNTS, the mixture less its better part."""
    mixed = " | ".join(f"mixed, {count}" for count in COUNTS)
    lines = [
        f"| label | its words | {COUNTS[-1]} shown | {mixed} |",
        f"|---|---:|---:|{'---:|' * len(COUNTS)}",
    ]
    every = []
    for judge in tqdm(judges, "known labels", disable=None):
        label = judge.concept.meant.simple()
        gains = []
        for count in COUNTS:
            book = judge.book(label, TASKS[:count])
            whole, said, shown = judge.score([book.whole, book.said, book.shown])
            gains.append(whole - max(said, shown))
        every.append(gains)
        cells = [label, f"{said:.3f}", f"{shown:.3f}", *(f"{gain:+.3f}" for gain in gains)]
        lines.append(f"| {' | '.join(cells)} |")
    means, least = np.mean(every, axis=0), np.min(every, axis=0)
    cells = [f"{mean:+.3f}, {low:+.3f} at least" for mean, low in zip(means, least, strict=True)]
    lines.append(f"| **mean** | | | {' | '.join(cells)} |")
    return "\n".join(lines)


def threshold_table(judges: Sequence[Judge]) -> str:
    """Thresholds that calibrated themselves on the most masks, beside the defaults."""
    lines = [
        "| default | labels | mean IoU, default | calibrated | gain | least gain of a label "
        "| thresholds |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for default in (THRESHOLD, UNFITTING):
        pairs, chosen = [], []
        for judge in judges:
            query = judge.book(judge.concept.meant.simple(), TASKS, default).whole
            before = replace(query.showing_all(), threshold=default)
            after = replace(query.showing_all(), threshold=query.threshold)
            pairs.append(judge.score([before, replace(after, confidence=query.confidence)]))
            chosen.append(query.threshold)
        scores = np.array(pairs)
        gains = scores[:, 1] - scores[:, 0]
        cells = [f"{default:g}", str(len(pairs)), *(f"{one:.3f}" for one in scores.mean(axis=0))]
        cells += [f"{gains.mean():+.4f}", f"{gains.min():+.4f}"]
        lines.append(f"| {' | '.join(cells)} | {min(chosen):g} to {max(chosen):g} |")
    return "\n".join(lines)


def table() -> str:
    """The tables, and the plot beside this file."""
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    rows, judges = exemplars(segmenter), known(segmenter)
    PLOT.write_text(plot(rows), encoding="utf-8")
    return "\n\n".join(
        [
            exemplar_table(rows),
            mixture_table(rows),
            f"![IoU by accepted masks]({PLOT.name})",
            "### Labels whose words are known",
            known_table(judges),
            "### Calibrated thresholds",
            threshold_table(judges),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
