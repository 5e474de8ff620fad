"""How well smart tools are answered, on generated scenes whose truth is known.

Every row asks the worker's own code, with the demo checkpoint and scenes that it never saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from backend.inference import interactive
from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.labelstudio.config import Role, parse_label_config
from backend.labelstudio.geometry import Point, Rectangle
from backend.labelstudio.images import TaskImage
from backend.labelstudio.interaction import Interaction
from backend.prompting import Query, queries
from demo import CHECKPOINT
from demo.evaluate import SIZES, THRESHOLD, iou
from demo.scenes import (
    KNOWN_COLOURS,
    KNOWN_SHAPES,
    KNOWN_TEXTURES,
    Look,
    Scene,
    SceneObject,
    generate,
)
from models import Segmenter

SCENES = 200
SEED = 8_000_000
LABELS = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">
<Label value="A" predicted_values="{}"/></BrushLabels></View>"""

Mask = NDArray[np.bool_]
Case = tuple[str, str, Interaction, Mask]  # what is asked, the label's prompt, request, truth


def table(scenes: int = SCENES) -> str:
    """Mean IoU with the truth for each way to ask."""
    predictor = Predictor(Segmenter.from_pretrained(CHECKPOINT, device="cpu"), FeatureCache(10**8))
    scores: dict[str, list[float]] = defaultdict(list)
    for number in range(scenes):
        rng = np.random.default_rng((SEED, number))
        for scene, cases in (_usual(rng, number), _small(rng, number), _crowded(rng, number)):
            image = TaskImage(scene.image, f"{number} {scene.image.size} {len(scene.objects)}")
            for name, prompt, interaction, truth in cases:
                found = interactive.answer(predictor, _asked(prompt), {"image": image}, interaction)
                mask = np.zeros_like(truth) if found.mask is None else found.mask
                scores[name].append(iou(mask, truth))
    lines = ["| asked | mean IoU | median | below 0.5 | of |", "|---|---:|---:|---:|---:|"]
    for name, one in scores.items():
        low = f"{100 * np.mean(np.array(one) < 0.5):.0f} %"
        lines.append(f"| {name} | {np.mean(one):.3f} | {np.median(one):.3f} | {low} | {len(one)} |")
    return "\n".join(lines)


def _asked(prompt: str) -> tuple[Query, ...]:
    return queries(parse_label_config(LABELS.format(prompt)), THRESHOLD)


def _usual(rng: np.random.Generator, number: int) -> tuple[Scene, list[Case]]:
    """Two objects of one look among others, asked for in every way."""
    choices = (KNOWN_SHAPES, KNOWN_COLOURS, KNOWN_TEXTURES)
    look = Look(*(str(rng.choice(names)) for names in choices))
    size = SIZES[number % len(SIZES)]
    scene = generate(SEED + number, size, include=[look, look], count=(3, 6))
    one, other = scene.objects[:2]
    alike = np.logical_or.reduce([thing.mask for thing in scene.objects if thing.look == look])
    box, second = (_rectangle(thing.mask, rng) for thing in (one, other))
    point = _point(one.mask, rng)
    says = _described(one)

    def ask(**asked: object) -> Interaction:
        return Interaction(label="A", to_name="image", **asked)  # type: ignore[arg-type]

    return scene, [
        ("phrase: full description", "a cat", Interaction(f"A: {says}"), alike),
        ("rectangle, label fully described", says, ask(rectangles=(box,)), alike),
        ("rectangle, label names the shape", one.shape, ask(rectangles=(box,)), alike),
        ("rectangle, label fits nothing there", "a cat", ask(rectangles=(box,)), alike),
        ("two rectangles, label fits nothing there", "a cat", ask(rectangles=(box, second)), alike),
        (
            "rectangle with a phrase: inside it",
            "a cat",
            ask(prompt=f"A: {says}", rectangles=(box,)),
            one.mask & _inside(box, one.mask),
        ),
        ("keypoint, label fully described", says, ask(points=(point,)), one.mask),
        ("keypoint, label names the shape", one.shape, ask(points=(point,)), one.mask),
        ("keypoint, label fits nothing there", "a cat", ask(points=(point,)), one.mask),
    ]


def _small(rng: np.random.Generator, number: int) -> tuple[Scene, list[Case]]:
    """A small object in a large image."""
    scene = generate(SEED + 10**6 + number, (640, 480), count=(5, 9), radius=(0.05, 0.09))
    one = scene.objects[int(rng.integers(len(scene.objects)))]
    alike = np.logical_or.reduce([o.mask for o in scene.objects if o.look == one.look])
    box = _rectangle(one.mask, rng)
    region = Interaction(label="A", to_name="image", rectangles=(box,), role=Role.REGION)
    inside = alike & _inside(box, one.mask)
    point = Interaction(label="A", to_name="image", points=(_point(one.mask, rng),))
    return scene, [
        ("small things, no rectangle", _described(one), Interaction("A"), alike),
        (
            "small things, inside a rectangle",
            _described(one),
            region,
            inside,
        ),
        ("small things, keypoint", _described(one), point, one.mask),
    ]


def _crowded(rng: np.random.Generator, number: int) -> tuple[Scene, list[Case]]:
    """Objects that touch, parted by a positive and a negative point."""
    scene = generate(SEED + 2 * 10**6 + number, SIZES[number % len(SIZES)], count=(4, 7))
    cases: list[Case] = []
    for one, other in _touching(scene.objects):
        points = (_point(one.mask, rng), _point(other.mask, rng, positive=False))
        for name, given in (
            ("touching things, one keypoint", points[:1]),
            ("touching things, a positive and a negative keypoint", points),
        ):
            asked = Interaction(label="A", to_name="image", points=given)
            cases.append((name, "object", asked, one.mask))
    return scene, cases[:2]


def _touching(objects: tuple[SceneObject, ...]) -> Iterator[tuple[SceneObject, SceneObject]]:
    for one in objects:
        near = ndimage.binary_dilation(one.mask, iterations=3)
        yield from (
            (one, other) for other in objects if other is not one and (near & other.mask).any()
        )


def _described(thing: SceneObject) -> str:
    return " ".join(word for word in (thing.colour, thing.texture, thing.shape) if word != "plain")


def _rectangle(mask: Mask, rng: np.random.Generator) -> Rectangle:
    """A rectangle as people draw it: up to 6 % of its sides too large, or 2 % too small."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    tall, wide = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    slack = rng.uniform(-0.02, 0.06, 4)
    top, bottom = rows[0] - slack[0] * tall, rows[-1] + 1 + slack[1] * tall
    left, right = columns[0] - slack[2] * wide, columns[-1] + 1 + slack[3] * wide
    return Rectangle(
        100 * left / width,
        100 * top / height,
        100 * (right - left) / width,
        100 * (bottom - top) / height,
    )


def _inside(rectangle: Rectangle, image: Mask) -> Mask:
    return rectangle.mask((image.shape[0], image.shape[1]))


def _point(mask: Mask, rng: np.random.Generator, positive: bool = True) -> Point:
    """A point well inside, as people click."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = rng.choice(np.argwhere(depth >= 0.5 * depth.max()))
    return Point(100 * (column + 0.5) / mask.shape[1], 100 * (row + 0.5) / mask.shape[0], positive)
