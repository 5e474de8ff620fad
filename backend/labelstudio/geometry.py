"""Places that annotators mark, in percent of the image as it is displayed, and their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.errors import BadRequest

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle, turned clockwise about its upper left corner by `rotation` degrees."""

    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """The pixels of an image, (H, W), whose centres it holds.

        Raises:
            BadRequest: there is none.
        """
        height, width = size
        left, top = self.x / 100 * width, self.y / 100 * height
        across, along = self.width / 100 * width, self.height / 100 * height
        turn = math.radians(self.rotation)
        cos, sin = math.cos(turn), math.sin(turn)
        corners_x = [left + a * cos - b * sin for a in (0, across) for b in (0, along)]
        corners_y = [top + a * sin + b * cos for a in (0, across) for b in (0, along)]
        first_row, last_row = _clipped(min(corners_y), max(corners_y), height)
        first_column, last_column = _clipped(min(corners_x), max(corners_x), width)
        rows, columns = np.ogrid[first_row:last_row, first_column:last_column]
        dx, dy = columns + 0.5 - left, rows + 0.5 - top
        u, v = dx * cos + dy * sin, dy * cos - dx * sin
        held = (u >= 0) & (u < across) & (v >= 0) & (v < along)
        if not held.any():
            raise BadRequest("The rectangle holds no pixel of the image: draw a larger one.")
        mask = np.zeros(size, bool)
        mask[first_row:last_row, first_column:last_column] = held
        return mask


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse about its centre, turned clockwise by `rotation` degrees."""

    x: float
    y: float
    radius_x: float
    radius_y: float
    rotation: float = 0.0

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """The pixels of an image, (H, W), whose centres it holds; there may be none."""
        height, width = size
        # the editor turns the sign of a radius where an ellipse is flipped
        across, along = abs(self.radius_x) / 100 * width, abs(self.radius_y) / 100 * height
        mask = np.zeros(size, bool)
        if not (across and along):
            return mask
        centre_x, centre_y = self.x / 100 * width, self.y / 100 * height
        reach = max(across, along)
        first_row, last_row = _clipped(centre_y - reach, centre_y + reach, height)
        first_column, last_column = _clipped(centre_x - reach, centre_x + reach, width)
        rows, columns = np.ogrid[first_row:last_row, first_column:last_column]
        dx, dy = columns + 0.5 - centre_x, rows + 0.5 - centre_y
        turn = math.radians(self.rotation)
        u, v = dx * math.cos(turn) + dy * math.sin(turn), dy * math.cos(turn) - dx * math.sin(turn)
        with np.errstate(over="ignore"):  # one that is thinner than numbers can tell
            held = (u / across) ** 2 + (v / along) ** 2 <= 1
        mask[first_row:last_row, first_column:last_column] = held
        return mask


@dataclass(frozen=True, slots=True)
class Polygon:
    """A closed ring of points, x and y, filled by the nonzero rule as browsers do."""

    points: tuple[tuple[float, float], ...]

    def mask(self, size: Size) -> NDArray[np.bool_]:
        """The pixels of an image, (H, W), whose centres it holds; there may be none."""
        height, width = size
        ring = np.array(self.points, np.float64).reshape(-1, 2) * [width / 100, height / 100]
        mask = np.zeros(size, bool)
        ends = np.roll(ring, -1, axis=0)
        low, high = np.sort([ring[:, 1], ends[:, 1]], axis=0)
        first, last = (_reached(y, height) for y in (low, high))
        crossing = np.flatnonzero(first < last)  # of very many corners most cross no row
        if not crossing.size:
            return mask
        top, bottom = first[crossing].min(), last[crossing].max()
        left, right = _reached(ring[:, 0].min(), width), _reached(ring[:, 0].max(), width)
        # How often the ring winds around a pixel is the sum of the edges crossed on the way there
        # from the left, each counted by its direction.
        crossings = np.zeros((bottom - top, right - left + 1), np.int16)
        for edge in crossing:
            (x, y), (next_x, next_y) = ring[edge], ends[edge]
            rows = np.arange(first[edge], last[edge])
            at = x + (rows + 0.5 - y) * ((next_x - x) / (next_y - y))
            columns = _reached(at, width).clip(left, right)
            crossings[rows - top, columns - left] += 1 if next_y > y else -1
        wound = np.cumsum(crossings[:, :-1], axis=1, dtype=np.int16)
        mask[top:bottom, left:right] = wound != 0
        return mask


@dataclass(frozen=True, slots=True)
class Point:
    """A place on the thing that is meant, or on one that is not."""

    x: float
    y: float
    positive: bool = True

    def pixel(self, size: Size) -> tuple[int, int]:
        """Row and column in an image of that size; a point at its edge is inside."""
        height, width = size
        row, column = math.floor(self.y / 100 * height), math.floor(self.x / 100 * width)
        return min(max(row, 0), height - 1), min(max(column, 0), width - 1)


def _reached(at: NDArray[np.float64], length: int) -> NDArray[np.intp]:
    """The first of so many pixels whose centre is not before a place; `length` if there is none."""
    return np.ceil(at - 0.5).clip(0, length).astype(np.intp)


def _clipped(first: float, last: float, length: int) -> tuple[int, int]:
    return max(0, math.floor(first)), max(0, min(length, math.ceil(last)))
