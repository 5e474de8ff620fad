"""Seeded scenes: coloured, textured shapes on muted backgrounds, with the exact mask of each.

Shapes and textures are signed distances (negative inside), so a picture of any size is drawn
anti-aliased without supersampling, and a new one is one function in `SHAPES` or `TEXTURES`.
The `KNOWN_*` names are the ones the demo checkpoint is trained on, beside `NAMELESS` outlines that
it meets in exemplars; what else there is, it learns from accepted annotations if at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.outlines import Field, Floats, nameless

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 38, 44),
    "orange": (238, 122, 20),
    "yellow": (246, 220, 50),
    "green": (44, 160, 70),
    "cyan": (56, 200, 214),
    "blue": (42, 84, 204),
    "purple": (124, 54, 168),
    "pink": (242, 126, 184),
}
FARTHEST = 1.3  # of an outline from its middle, in radii, where it is drawn no further
TONES = ((44, 42, 50), (242, 238, 230))  # the second colour of a texture: dark or light


class Look(NamedTuple):
    """What an object is: everything a phrase can speak about."""

    shape: str
    colour: str
    texture: str


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene and its visible pixels (H, W)."""

    shape: str
    colour: str
    texture: str
    mask: NDArray[np.bool_]

    @property
    def look(self) -> Look:
        """The object without its place."""
        return Look(self.shape, self.colour, self.texture)


@dataclass(frozen=True, slots=True)
class Scene:
    """An RGB picture and the objects in it, lowest first."""

    image: Image.Image
    objects: tuple[SceneObject, ...]


# --- shapes: (x, y) in units of the object's radius -> signed distance ---------------------------


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - np.float32(0.95)


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.82


def _triangle(x: Floats, y: Floats) -> Floats:
    slope = np.abs(x) * np.float32(0.8660254) - y * np.float32(0.5)
    return np.maximum(slope, y) - np.float32(0.58)


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - np.float32(0.72)) - np.float32(0.28)


def _cross(x: Floats, y: Floats) -> Floats:
    across, along = np.abs(x), np.abs(y)
    return np.minimum(
        np.maximum(across - 1.0, along - 0.35), np.maximum(across - 0.35, along - 1.0)
    )


def _star(x: Floats, y: Floats) -> Floats:
    """Fold the plane onto half a point, where the outline is one straight edge."""
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    tip, notch = 1.15, 0.52
    edge_x, edge_y = notch * np.cos(sector / 2) - tip, notch * np.sin(sector / 2)
    along, across = radius * np.cos(angle) - tip, radius * np.sin(angle)
    return (across * -edge_x + along * edge_y) / np.hypot(edge_x, edge_y)


def _hourglass(x: Floats, y: Floats) -> Floats:
    across, along = np.abs(x), np.abs(y)
    sides = (across - along - 0.12) / np.float32(2**0.5)
    return np.maximum(sides, along - np.float32(0.9))


def _flower(x: Floats, y: Floats) -> Floats:
    """Five round petals about the middle."""
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    petal = np.hypot(radius * np.cos(angle) - 0.6, radius * np.sin(angle)) - 0.38
    return np.minimum(petal, radius - np.float32(0.4))


SHAPES: dict[str, Field] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "hourglass": _hourglass,
    "flower": _flower,
}


# --- textures: (u, v) in units of the texture's period -> signed distance to the second tone -----


def _plain(u: Floats, v: Floats) -> Floats:
    return np.ones_like(u)


def _striped(u: Floats, v: Floats) -> Floats:
    return np.abs(u % 1 - 0.5) - 0.23


def _dotted(u: Floats, v: Floats) -> Floats:
    return np.hypot(u % 1 - 0.5, v % 1 - 0.5) - 0.29


def _checkered(u: Floats, v: Floats) -> Floats:
    across, along = (0.25 - np.abs((t * 0.72) % 1 - 0.5) for t in (u, v))
    nearest = np.minimum(np.abs(across), np.abs(along)) / 0.72
    return nearest * np.where(across * along > 0, -1, 1)


def _halved(u: Floats, v: Floats) -> Floats:
    return u - 0.5


TEXTURES: dict[str, Field] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "halved": _halved,
}

KNOWN_SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
KNOWN_COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
KNOWN_TEXTURES = ("plain", "striped", "dotted", "checkered")
NAMELESS = tuple(f"nameless {number}" for number in range(600))


def outline(shape: str) -> Field:
    """The signed distance of a name in `SHAPES` or `NAMELESS`."""
    if shape in SHAPES:
        return SHAPES[shape]
    return nameless(int(shape.removeprefix("nameless ")), tuple(SHAPES.values()))


# --- drawing -------------------------------------------------------------------------------------


class _Stamp(NamedTuple):
    """An object's coverage and colours (h, w[, 3]) in the window `rows`, `columns`."""

    rows: slice
    columns: slice
    cover: Floats
    paint: Floats


def _coverage(distance: Floats, pixel: float) -> Floats:
    """How much of each pixel lies inside, from its signed distance and its width."""
    return np.clip(0.5 - distance / pixel, 0, 1).astype(np.float32)


def _stamp(
    rng: np.random.Generator, look: Look, centre: tuple[float, float], radius: float, height: int,
    width: int,
) -> _Stamp:  # fmt: skip
    """Draw one object by itself."""
    reach = FARTHEST * radius
    top, left = max(0, int(centre[1] - reach)), max(0, int(centre[0] - reach))
    bottom = min(height, int(centre[1] + reach) + 2)
    right = min(width, int(centre[0] + reach) + 2)
    x = ((np.arange(left, right, dtype=np.float32) + 0.5 - centre[0]) / radius)[None, :]
    y = ((np.arange(top, bottom, dtype=np.float32) + 0.5 - centre[1]) / radius)[:, None]
    turn, twist = rng.uniform(0, 2 * np.pi, 2)
    period = rng.uniform(0.46, 0.62)
    local = (x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn))
    cover = _coverage(outline(look.shape)(*(a.astype(np.float32) for a in local)), 1 / radius)
    woven = (
        (x * np.cos(twist) + y * np.sin(twist)) / period + rng.uniform(),
        (y * np.cos(twist) - x * np.sin(twist)) / period + rng.uniform(),
    )
    second = _coverage(
        TEXTURES[look.texture](*(a.astype(np.float32) for a in woven)), 1 / (radius * period)
    )
    first_tone = np.array(COLOURS[look.colour], np.float32) + rng.uniform(-10, 10, 3)
    second_tone = np.array(TONES[rng.integers(2)], np.float32) + rng.uniform(-12, 12, 3)
    paint = first_tone + second[..., None] * (second_tone - first_tone)
    light = 1 + rng.uniform(-0.1, 0.1) * x[..., None] + rng.uniform(-0.1, 0.1) * y[..., None]
    return _Stamp(slice(top, bottom), slice(left, right), cover, (paint * light).astype(np.float32))


def _background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A muted, uneven, grainy ground with small grey clutter: (H, W, 3) in 0..255."""
    base = rng.uniform(70, 205) + rng.uniform(-16, 16, 3)
    coarse = rng.normal(0, rng.uniform(4, 20), (rng.integers(2, 9), rng.integers(2, 9)))
    clouds = Image.fromarray(coarse.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    slope = rng.uniform(-22, 22, 2)
    across = np.linspace(-1, 1, width)[None, :] * slope[0]
    along = np.linspace(-1, 1, height)[:, None] * slope[1]
    ground = (np.asarray(clouds) + across + along)[..., None] + base
    canvas = ground.astype(np.float32)
    unit = float(np.sqrt(height * width))
    for _ in range(rng.integers(0, 12)):
        _clutter(rng, canvas, unit)
    return canvas


def _clutter(rng: np.random.Generator, canvas: Floats, unit: float) -> None:
    """Lay one grey pebble or stick on the canvas, in place."""
    height, width = canvas.shape[:2]
    half = (rng.uniform(0.008, 0.03) * unit, rng.uniform(0.004, 0.012) * unit)
    turn, cx, cy = rng.uniform(0, np.pi), rng.uniform(0, width), rng.uniform(0, height)
    reach = max(half) + 1
    left, top = max(0, int(cx - reach)), max(0, int(cy - reach))
    x = np.arange(left, min(width, int(cx + reach) + 1))[None, :] + 0.5 - cx
    y = np.arange(top, min(height, int(cy + reach) + 1))[:, None] + 0.5 - cy
    across = np.abs(x * np.cos(turn) + y * np.sin(turn)) - half[0]
    along = np.abs(y * np.cos(turn) - x * np.sin(turn)) - half[1]
    cover = _coverage(np.maximum(across, along).astype(np.float32), 1.0)[..., None]
    grey = rng.uniform(40, 230) + rng.uniform(-6, 6, 3)
    window = canvas[top : top + cover.shape[0], left : left + cover.shape[1]]
    window += cover * (grey.astype(np.float32) - window)


# --- composing -----------------------------------------------------------------------------------


def _draw_look(
    rng: np.random.Generator, placed: Sequence[Look], choices: tuple[Sequence[str], ...]
) -> Look:
    """A look that is random, or a twin or near-twin of one already there.

    Near-twins share all but one or two traits, so that no trait alone finds an object.
    """
    shape, colour, texture = (str(rng.choice(names)) for names in choices)
    if not placed:
        return Look(shape, colour, texture)
    like = placed[int(rng.integers(len(placed)))]
    throw = rng.uniform()
    if throw < 0.12:
        return like
    if throw < 0.34:
        return Look(shape, like.colour, texture)
    if throw < 0.50:
        return Look(like.shape, colour, texture)
    if throw < 0.58:
        return Look(shape, like.colour, like.texture)
    if throw < 0.66:
        return Look(like.shape, like.colour, texture)
    return Look(shape, colour, texture)


def generate(
    seed: int,
    size: int | tuple[int, int] = 192,
    *,
    include: Sequence[Look] = (),
    count: tuple[int, int] = (2, 5),
    radius: tuple[float, float] = (0.12, 0.23),
    least_visible: float = 0.6,
    shapes: Sequence[str] = KNOWN_SHAPES,
    colours: Sequence[str] = KNOWN_COLOURS,
    textures: Sequence[str] = KNOWN_TEXTURES,
) -> Scene:
    """The scene of this seed: the same arguments always give the same pixels.

    Args:
        seed: Any whole number from 0.
        size: The side of a square picture, or (width, height).
        include: Looks that must be there; others are added up to a drawn number.
        count: Fewest and most objects. Crowded scenes may end with fewer than drawn.
        radius: Smallest and largest radius, in parts of sqrt(width * height).
        least_visible: How much of an object's own pixels must stay uncovered.
        shapes: Names in `SHAPES` or `NAMELESS` to draw from.
        colours: Names in `COLOURS` to draw from.
        textures: Names in `TEXTURES` to draw from.
    """
    width, height = (size, size) if isinstance(size, int) else size
    rng = np.random.default_rng(seed)
    canvas = _background(rng, height, width)
    number = max(len(include), int(rng.integers(count[0], count[1] + 1)))
    unit = float(np.sqrt(width * height))
    largest = 0.32 * min(width, height)  # of a narrow picture, an object must still leave room
    looks: list[Look] = []
    owner = np.full((height, width), -1, np.int16)
    areas: list[int] = []
    stamps: list[_Stamp] = []
    circles: list[tuple[float, float, float]] = []
    for place in range(number):
        wanted = place < len(include)
        look = include[place] if wanted else _draw_look(rng, looks, (shapes, colours, textures))
        apart = 0.55 if rng.uniform() < 0.35 else 1.0  # a third may cover their neighbours
        for attempt in range(100 if wanted else 25):
            shrink = 1 if attempt < 15 else 0.75
            r = min(shrink * rng.uniform(*radius) * unit, largest)
            x, y = rng.uniform(0.85 * r, width - 0.85 * r), rng.uniform(0.85 * r, height - 0.85 * r)
            if any(np.hypot(x - a, y - b) < apart * (r + c) for a, b, c in circles):
                apart *= 0.98 if wanted else 1
                continue
            stamp = _stamp(rng, look, (x, y), r, height, width)
            solid = stamp.cover > 0.5
            below = owner[stamp.rows, stamp.columns][solid]
            left = np.bincount(owner[owner >= 0], minlength=len(areas))
            left -= np.bincount(below[below >= 0], minlength=len(areas))
            if solid.any() and (left >= least_visible * np.array(areas)).all():
                owner[stamp.rows, stamp.columns][solid] = len(areas)
                areas.append(int(solid.sum()))
                looks.append(look)
                stamps.append(stamp)
                circles.append((x, y, r))
                break
    for stamp in stamps:
        window = canvas[stamp.rows, stamp.columns]
        window += stamp.cover[..., None] * (stamp.paint - window)
    canvas += rng.uniform(2, 9) * rng.standard_normal(canvas.shape, np.float32)
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return Scene(
        image,
        tuple(SceneObject(*look, mask=owner == index) for index, look in enumerate(looks)),
    )
