"""Brush RLE, ours beside label-studio-sdk's: `python -m benchmarks.bench_brush` prints a table.

Both run in this process on the same masks. A time is the median of several repeats, and each mask
is first written and read by both, to the same bytes and the same pixels.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from label_studio_sdk.converter import brush as sdk_brush
from numpy.typing import NDArray

from backend.labelstudio import brush

sdk: Any = sdk_brush  # it has no types
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Row:
    """One mask; times in milliseconds."""

    name: str
    size: int
    encode: float
    sdk_encode: float
    decode: float
    sdk_decode: float


def blobs(height: int, width: int, count: int = 12, cover: float = 0.35) -> Mask:
    """Wobbly discs spread over the image, together over `cover` of it."""
    rng = np.random.default_rng(7)
    mask = np.zeros((height, width), np.bool_)
    radius = np.sqrt(cover * 1.1 * height * width / count / np.pi)
    columns = int(np.ceil(np.sqrt(count * width / height)))
    rows = -(-count // columns)
    y, x = np.ogrid[:height, :width]
    for n in range(count):
        cy = (n // columns + rng.uniform(0.4, 0.6)) * height / rows
        cx = (n % columns + rng.uniform(0.4, 0.6)) * width / columns
        top, bottom = int(max(0, cy - 2 * radius)), int(cy + 2 * radius)
        left, right = int(max(0, cx - 2 * radius)), int(cx + 2 * radius)
        dy, dx = y[top:bottom] - cy, x[:, left:right] - cx
        angle = np.arctan2(dy, dx)
        edge = radius * (1 + 0.15 * np.sin(5 * angle + n) + 0.05 * np.sin(17 * angle + 2 * n))
        mask[top:bottom, left:right] |= dx**2 + dy**2 < edge**2
    return mask


def specked(mask: Mask, share: float) -> Mask:
    """The mask with a share of its pixels turned over."""
    return mask ^ (np.random.default_rng(8).random(mask.shape, np.float32) < share)


def masks() -> dict[str, Mask]:
    """What is measured, by name."""
    found: dict[str, Mask] = {}
    for height, width in [(512, 512), (1024, 1024), (3000, 4000)]:
        clean = blobs(height, width)
        found[f"{width}x{height} clean"] = clean
        found[f"{width}x{height} 0.2 % specks"] = specked(clean, 0.002)
    found["512x512 50 % noise"] = specked(np.zeros((512, 512), np.bool_), 0.5)
    return found


def rows() -> list[Row]:
    """Measure every mask, after a check that both sides agree on it."""
    return [_row(name, mask) for name, mask in masks().items()]


def table() -> str:
    """The measurements as a Markdown table."""
    lines = [
        "| mask | RLE bytes | encode, ms | SDK, ms | ratio | decode, ms | SDK, ms | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows():
        cells = [row.name, f"{row.size:,}"]
        for ours, theirs in ((row.encode, row.sdk_encode), (row.decode, row.sdk_decode)):
            cells += [f"{ours:.2f}", f"{theirs:.1f}", f"{theirs / ours:.0f}x"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(name: str, mask: Mask) -> Row:
    shape = mask.shape
    grey = np.where(mask, 255, 0).astype(np.uint8)
    ours, theirs = brush.encode(mask), bytes(sdk.mask2rle(grey))
    if theirs not in (ours, ours + b"\0"):
        raise AssertionError(f"{name}: the bytes differ")
    values = list(ours)  # as it comes out of JSON
    for rle in (values, list(theirs)):
        alpha = sdk.decode_rle(rle).reshape(*shape, 4)[..., 3]
        if not (np.array_equal(alpha, grey) and np.array_equal(brush.decode(rle, *shape), grey)):
            raise AssertionError(f"{name}: the pixels differ")
    return Row(
        name,
        len(ours),
        encode=_median(lambda: brush.encode(mask), 15),
        sdk_encode=_median(lambda: sdk.mask2rle(grey), 5),
        decode=_median(lambda: brush.decode(values, *shape), 15),
        sdk_decode=_median(lambda: sdk.decode_rle(values), 5),
    )


def _median(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
