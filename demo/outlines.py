"""Outlines without a name: what only an exemplar can ask for, so that training learns to look.

A checkpoint that sees six shapes learns six names. Among many more, for none of which there is a
word, an exemplar has to carry its outline itself.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Field = Callable[[Floats, Floats], Floats]

SIDE, REACH = 96, 1.2  # the grid on which outlines are compared, in units of the radius
FAR = 2.5  # how much of the plane is searched for an outline, in the same units
HIDDEN = 1.15  # of the farthest point that the grid sees, where a thin tip ends at most
TIP = 1.05  # of an outline from its middle, at its farthest, as near as the grid tells
LEAST, MOST = 0.8, 2.7  # area, where the unit circle has pi
TURNS = 30
LIKENESS = 0.8  # IoU from which two outlines look alike
SWINGS = (1, 2, 3, 4, 6)  # of a rim, in one turn


@cache
def nameless(number: int, unlike: tuple[Field, ...]) -> Field:
    """The signed distance of one of endlessly many outlines, about as large as the unit circle.

    Args:
        number: Which one, from 0; the same number is the same outline for the same `unlike`.
        unlike: Signed distances of shapes that it must not look like, however it is turned.
    """
    rng = np.random.default_rng((number, 7))
    kinds = (_polygon, _lobed, _composed)
    while True:
        field = _fitted(kinds[number % len(kinds)](rng))
        if field is not None:
            seen = _raster(field)
            area = float(seen.sum()) * (2 * REACH / SIDE) ** 2
            if LEAST <= area <= MOST and all(_overlap(seen, other) <= LIKENESS for other in unlike):
                return field


def _polygon(rng: np.random.Generator) -> Field:
    """Straight edges about the middle, corners at uneven distances or in a rhythm."""
    corners = int(rng.integers(3, 9))
    angles = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) / corners
    radii = rng.uniform(0.35, 1, corners)
    if rng.uniform() < 0.4:
        angles = 2 * np.pi * np.arange(corners) / corners
        radii = np.resize(rng.uniform(0.35, 1, rng.integers(1, 4)), corners)
    points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    def field(x: Floats, y: Floats) -> Floats:
        nearest = np.full(np.broadcast(x, y).shape, np.inf)
        inside = np.zeros(nearest.shape, bool)
        for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
            along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / (
                (bx - ax) ** 2 + (by - ay) ** 2
            )
            along = np.clip(along, 0, 1)
            gap = np.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
            nearest = np.minimum(nearest, gap)
            if ay != by:
                crossed = ax + (y - ay) / (by - ay) * (bx - ax)
                inside ^= ((ay > y) != (by > y)) & (x < crossed)
        return np.where(inside, -nearest, nearest)

    return field


def _lobed(rng: np.random.Generator) -> Field:
    """A distance from the middle that swings with the angle."""
    swings = rng.choice(SWINGS, int(rng.integers(2, 4)), replace=False)
    sizes = rng.uniform(0.1, 0.6, len(swings)) / np.sqrt(len(swings))
    phases = rng.uniform(0, 2 * np.pi, len(swings))

    def field(x: Floats, y: Floats) -> Floats:
        angle, radius = np.arctan2(y, x), np.hypot(x, y)
        rim = np.ones_like(radius)
        slope = np.zeros_like(radius)
        for swing, size, phase in zip(swings, sizes, phases, strict=True):
            rim += size * np.cos(swing * angle + phase)
            slope -= size * swing * np.sin(swing * angle + phase)
        return (radius - rim) / np.sqrt(1 + (slope / np.maximum(rim, 0.3)) ** 2)

    return field


def _composed(rng: np.random.Generator) -> Field:
    """Two or three bars and ellipses, joined or cut away."""
    parts = [_part(rng, 0.2)]
    cuts = [False]
    for _ in range(int(rng.integers(1, 3))):
        parts.append(_part(rng, 0.7))
        cuts.append(bool(rng.uniform() < 0.45))

    def field(x: Floats, y: Floats) -> Floats:
        whole = parts[0](x, y)
        for part, cut in zip(parts[1:], cuts[1:], strict=True):
            other = part(x, y)
            whole = np.maximum(whole, -other) if cut else np.minimum(whole, other)
        return whole

    return field


def _part(rng: np.random.Generator, away: float) -> Field:
    """A bar or an ellipse, its middle up to `away` from the origin on either axis."""
    cx, cy = rng.uniform(-away, away, 2)
    turn = rng.uniform(0, np.pi)
    long, short = rng.uniform(0.5, 1), rng.uniform(0.2, 0.6)
    straight = rng.uniform() < 0.5

    def field(x: Floats, y: Floats) -> Floats:
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        if straight:
            return np.maximum(np.abs(u) - long, np.abs(v) - short)
        return (np.hypot(u / long, v / short) - 1) * min(long, short)

    return field


def _grid(reach: float) -> tuple[Floats, Floats]:
    axis = np.linspace(-reach, reach, SIDE, dtype=np.float32)
    return axis[None, :], axis[:, None]


def _fitted(field: Field) -> Field | None:
    """The outline about its centroid, in the common size; None if it is thin or in pieces."""
    x, y = _grid(FAR)
    distance = np.broadcast_to(field(x, y), (SIDE, SIDE))
    inside = distance < 0
    if not inside.any() or not _whole(inside):
        return None
    cx, cy = (float(np.broadcast_to(axis, inside.shape)[inside].mean()) for axis in (x, y))
    away = np.hypot(x - cx, y - cy)
    scale = float(away[inside].max()) / TIP
    # what is thinner than the grid is still near it
    if away[distance < 2 * FAR / SIDE].max() > HIDDEN * away[inside].max():
        return None

    def fitted(x: Floats, y: Floats) -> Floats:
        return (field(x * scale + cx, y * scale + cy) / scale).astype(np.float32)

    return fitted


def _whole(inside: NDArray[np.bool_]) -> bool:
    """Whether its pixels hang together: one of them spreads to all."""
    reached = np.zeros_like(inside)
    reached.flat[inside.argmax()] = True
    count = 0
    while count < reached.sum():
        count = int(reached.sum())
        for axis in (0, 1):
            for step in (-1, 1):
                reached |= np.roll(reached, step, axis) & inside
    return count == int(inside.sum())


def likeness(field: Field, other: Field) -> float:
    """The IoU of two outlines in the same size, turned until they look most alike."""
    return _overlap(_raster(_fitted(field) or field), other)


def _overlap(seen: NDArray[np.float32], other: Field) -> float:
    turned = _turned(other)
    shared = turned @ seen
    return float((shared / (turned.sum(axis=1) + seen.sum() - shared)).max())


@cache
def _turned(field: Field) -> NDArray[np.float32]:
    """The outline in all its turns, in the common size: (TURNS, SIDE * SIDE), 1 inside."""
    fitted = _fitted(field) or field
    return np.stack([_raster(fitted, turn) for turn in np.arange(TURNS) * 2 * np.pi / TURNS])


def _raster(field: Field, turn: float = 0.0) -> NDArray[np.float32]:
    """The outline, turned: (SIDE * SIDE,), 1 inside."""
    x, y = _grid(REACH)
    across, down = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    return (field(across, down) < 0).ravel().astype(np.float32)
