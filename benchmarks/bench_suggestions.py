"""What suggested phrases are worth, and what they cost.

A label whose name means nothing, on generated scenes that the demo checkpoint never saw: twenty
masks of it are accepted, beside scenes without it; a phrase is suggested, and all phrases that were
tried are scored on a hundred other scenes that have it.
"""

from __future__ import annotations

import itertools
import sys
import time

import numpy as np
import torch

from backend.inference.features import FeatureCache
from backend.inference.phrasing import Candidate, compositions, distinct, plain, words
from backend.inference.predictor import Predictor
from backend.inference.sighting import look as look_at
from backend.inference.suggest import Evidence, Suggestion, conditions, iou, marked, suggest
from backend.inference.vocabulary import EVERYDAY, Vocabulary
from backend.prompting import Query as Asked
from demo import CHECKPOINT, WORDS
from demo.evaluate import THRESHOLD, truth
from demo.phrases import KINDS, Query
from demo.phrases import vocabulary as grammar
from demo.scenes import KNOWN_COLOURS, KNOWN_SHAPES, KNOWN_TEXTURES, Look, generate
from models import Segmenter

LABEL = "widget-7"
ACCEPTED, WITHOUT, JUDGED = 20, 16, 100  # scenes: with it, without it, and others with it
SEEDS = (3, 4, 5)
TIMED = 20  # images
MEANT = ("shape", "texture", "colour+shape", "texture+shape")  # kinds of what the label means
FIRST, OTHERS = 8_000_000, 9_000_000  # seeds of scenes


def scenes(
    segmenter: Segmenter, look: Look, meant: Query, first: int, count: int
) -> list[Evidence]:
    """Scenes that hold what is meant, with where it is."""
    found = []
    for seed in range(first, first + count):
        scene = generate(seed, include=[look])
        (features,) = segmenter.encode_image(scene.image)
        found.append(Evidence(features, truth(scene, meant)))
    return found


def without(segmenter: Segmenter, meant: Query, first: int, count: int) -> list[Evidence]:
    """Scenes that hold nothing of what is meant."""
    drawn = ((scene, truth(scene, meant)) for scene in map(generate, itertools.count(first)))
    found = itertools.islice(((scene, mask) for scene, mask in drawn if not mask.any()), count)
    return [Evidence(segmenter.encode_image(scene.image)[0], mask) for scene, mask in found]


def scores(segmenter: Segmenter, phrases: list[Candidate], judged: list[Evidence]) -> list[float]:
    """Mean IoU of each phrase."""
    rows = torch.stack(list(conditions(segmenter, phrases).values()))
    columns = [iou(marked(segmenter, one.features, rows, THRESHOLD), one.mask) for one in judged]
    return [float(score) for score in torch.stack(columns, dim=1).nanmean(dim=1)]


def row(segmenter: Segmenter, vocabulary: Vocabulary, seed: int, kind: str) -> list[str]:
    """One concept of one seed."""
    rng = np.random.default_rng((seed, MEANT.index(kind)))
    look = Look(*(str(rng.choice(k)) for k in (KNOWN_SHAPES, KNOWN_COLOURS, KNOWN_TEXTURES)))
    meant = Query(**{trait: getattr(look, trait) for trait in KINDS[kind]})
    start = 1000 * (len(MEANT) * seed + MEANT.index(kind))
    accepted = scenes(segmenter, look, meant, FIRST + start, ACCEPTED)
    judged = scenes(segmenter, look, meant, OTHERS + start, JUDGED)
    accepted += without(segmenter, meant, FIRST + start + ACCEPTED, WITHOUT)
    begin = time.perf_counter()
    found = suggest(segmenter, LABEL, accepted, vocabulary, threshold=THRESHOLD)
    seconds = time.perf_counter() - begin
    tried = every(found, vocabulary)
    held = dict(zip((one.text for one in tried), scores(segmenter, tried, judged), strict=True))
    best = max(held, key=held.__getitem__)
    first = found[0]
    return [
        str(seed),
        meant.simple(),
        first.text,
        f"{first.iou:.3f}",
        f"{held[first.text]:.3f}",
        f"{held[best]:.3f} ({best})",
        f"{held[first.text] - held[best]:+.3f}",
        f"{held['widget 7']:.3f}",
        f"{seconds:.1f}",
    ]


def every(found: list[Suggestion], vocabulary: Vocabulary) -> list[Candidate]:
    """What was tried, and what else is composed of what was best."""
    phrases = [Candidate(one.text, one.source) for one in found]
    return distinct(
        [*plain(LABEL, (), (), vocabulary), *compositions(LABEL, phrases, vocabulary), *phrases]
    )


def quality() -> str:
    """Suggested phrases beside the best in hindsight."""
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    vocabulary = Vocabulary.read(WORDS)
    lines = [
        "| seed | meant | suggested | on accepted | on 100 others | best in hindsight "
        "| difference | its name | s |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for seed in SEEDS:
        for kind in MEANT:
            lines.append(f"| {' | '.join(row(segmenter, vocabulary, seed, kind))} |")
            sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines)


def cost() -> str:
    """Milliseconds of a new image with plain prompts, and with everything that may be in it."""
    vocabulary = Vocabulary.read(EVERYDAY)
    plainly: list[float] = []
    named: dict[str, list[float]] = {"for the first time": [], "again": []}
    for seed in range(TIMED):
        image = generate(FIRST + seed, (640, 480)).image
        segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")  # it knows no phrase yet
        predictor = Predictor(segmenter, FeatureCache(0))
        five = [Asked("image", text, (text,), THRESHOLD, ()) for text in KNOWN_COLOURS[:5]]
        predictor.encode([("warm", image)])
        for times in (*named.values(), plainly):
            begin = time.perf_counter()
            (features,) = predictor.encode([(f"{seed}", image)])
            if times is plainly:
                predictor.find(features, {query: predictor.asking(query) for query in five})
            else:
                look_at(segmenter, image, features, words(vocabulary), threshold=THRESHOLD)
            times.append(1000 * (time.perf_counter() - begin))
    base = float(np.median(plainly))
    lines = [
        "| one image of 640x480 | ms | per phrase, beyond 5 plain prompts |",
        "|---|---:|---:|",
        f"| 5 plain prompts | {base:.0f} | |",
    ]
    for name, times in named.items():
        took = float(np.median(times))
        lines.append(f"| 200 phrases, {name} | {took:.0f} | {(took - base) / 200:.2f} |")
    return "\n".join(lines)


def unknown() -> str:
    """Everyday words that the demo checkpoint never met, and which of them it finds nevertheless.

    Such a word marks something in more than a tenth of the scenes.
    """
    segmenter = Segmenter.from_pretrained(CHECKPOINT, device="cpu")
    met = grammar()
    words = [names[0] for names in Vocabulary.read(EVERYDAY).things if names[0] not in met]
    rows = torch.stack([segmenter.condition([word]) for word in words])
    drawn = [generate(FIRST + seed).image for seed in range(TIMED)]
    found = [
        marked(segmenter, segmenter.encode_image(image)[0], rows, THRESHOLD).flatten(1).any(dim=1)
        for image in drawn
    ]
    shares = torch.stack(found).float().mean(dim=0)
    often = [word for word, share in zip(words, shares, strict=True) if share > 0.1]
    return (
        f"Of {len(words)} everyday words that it never met, these mark something in more than a "
        f"tenth of {TIMED} scenes: {', '.join(often) or 'none'}."
    )


def table() -> str:
    """Markdown."""
    return f"{quality()}\n\n{cost()}\n\n{unknown()}"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
