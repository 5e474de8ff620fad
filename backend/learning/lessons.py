"""Samples as training needs them, on disk: encoded once, however many steps look at them.

CLIP and the decoder's `reduces` stay as they are, so that what the decoder reads of an image never
changes: one list of small arrays, beside that of the same image seen otherwise. In half precision
that is 0.2 MB a view at the published size. Training reads what a step needs, and holds as much of
it in memory as it is allowed to.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from backend.durable import rewrite
from backend.inference.masks import shrunk
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Part, Sample, part_of
from backend.learning.views import views, views_of
from models import Exemplar, ImageFeatures, Segmenter
from models.engines import Windows

log = logging.getLogger(__name__)

MOST_EXEMPLARS = 64  # images that each label is shown from; each costs a pass of the vision tower
# What a mask has to cover of a pixel; a thin stroke that was corrected covers none by half.
LEAST = {"present": 0.5, "corrected": 0.01}


@dataclass(frozen=True, slots=True)
class Content:
    """What a lesson holds: V views; N labels are present, K are corrected."""

    parts: tuple[Tensor, ...]  # (V, ...) each: a segmenter's features
    targets: Tensor  # (V, N, H, W) of 0 and 1
    corrected: Tensor  # (V, K, H, W) of 0 and 1: pixels that an annotator changed
    exemplars: Tensor  # (N, C); one that was not made is nothing but NaN

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.nbytes for t in (*self.parts, self.targets, self.corrected, self.exemplars))


@dataclass(frozen=True, slots=True)
class Lesson:
    """A sample on disk."""

    path: Path
    task: int
    image: str  # SHA-256 of its file
    views: int
    grid: tuple[int, int]
    windows: Windows
    present: tuple[str, ...]
    absent: tuple[str, ...]
    corrected: tuple[str, ...] = ()

    @property
    def part(self) -> Part:
        """What it is for."""
        return part_of(self.task)

    def read(self) -> Content:
        """From the disk."""
        held = load_file(self.path)
        parts = tuple(
            held[f"part{i}"] for i in range(sum(name.startswith("part") for name in held))
        )
        size = held["size"].tolist()
        return Content(
            parts,
            _unpacked(held["present"], (self.views, len(self.present), *size)),
            _unpacked(held["corrected"], (self.views, len(self.corrected), *size)),
            held["exemplars"],
        )

    def features(self, segmenter: Segmenter) -> ImageFeatures:
        """The image as a segmenter encodes it, in half precision's steps."""
        content = self.read()
        parts = tuple(part[0].to(segmenter.device, segmenter.dtype) for part in content.parts)
        height, width = content.targets.shape[2:]
        return ImageFeatures(parts, self.grid, (height, width), self.windows)


class Shelf:
    """Lessons in memory, those read last, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held: OrderedDict[Path, Content] = OrderedDict()
        self.nbytes = 0

    def read(self, lesson: Lesson) -> Content:
        """A lesson's content; of what memory has no room for, the least recently read goes."""
        if lesson.path in self._held:
            self._held.move_to_end(lesson.path)
            return self._held[lesson.path]
        content = self._held[lesson.path] = lesson.read()
        self.nbytes += content.nbytes
        while self.nbytes > self._limit:
            self.nbytes -= self._held.popitem(last=False)[1].nbytes
        return content


class Lessons:
    """Makes lessons in a folder; those that are there already are not made again."""

    def __init__(self, folder: Path, base_digest: str, segmenter: Segmenter) -> None:
        """Keep those that a base checkpoint made, by its digest, in a folder for nothing else."""
        self._folder = folder / base_digest[:16]
        self._segmenter = segmenter
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._present: Counter[str] = Counter()
        self._made = 0
        self._folder.mkdir(parents=True, exist_ok=True)

    def make(self, sample: Sample) -> Lesson:
        """A sample as a lesson."""
        sample = replace(  # its file does not tell which label is where
            sample,
            masks=dict(sorted(sample.masks.items())),
            corrected=dict(sorted(sample.corrected.items())),
        )
        present = tuple(sample.masks)
        absent = tuple(label for label in sample.labels if label not in sample.masks)
        corrected = tuple(sample.corrected)
        count = views_of(self._made)
        self._made += 1
        self._present.update(present)
        shown = [self._present[label] <= MOST_EXEMPLARS for label in present]
        # all that decides what is in it, so that what is found there is what would be made
        bits = np.packbits(np.array(shown, bool)).tobytes().hex()
        path = self._folder / f"{sample.digest()}-{count}-{bits}.safetensors"
        try:
            grid, windows = _form(path)
        except (FileNotFoundError, SafetensorError) as error:
            if isinstance(error, SafetensorError):
                log.warning("%s is damaged and is made anew: %s", path, error)
            self._write(path, sample, count, shown)
            grid, windows = _form(path)
        image = sample.image.digest
        return Lesson(path, sample.task, image, count, grid, windows, present, absent, corrected)

    def _write(self, path: Path, sample: Sample, count: int, shown: Sequence[bool]) -> None:
        masks = {("present", label): mask for label, mask in sample.masks.items()}
        masks |= {("corrected", label): mask for label, mask in sample.corrected.items()}
        seed = int(sample.digest()[:16], 16)
        features: list[ImageFeatures] = []
        covered: dict[str, list[Mask]] = {kind: [] for kind in LEAST}
        # one by one, so that memory holds one however many there are
        for view in views(sample.image.image, masks, count, seed):
            features += self._segmenter.encode_image([view.image])
            size = self._size(features[0])
            for (kind, _), mask in view.masks.items():
                covered[kind].append(shrunk(mask, size, LEAST[kind]))
        plain = features[0]
        tensors = {
            f"part{i}": torch.stack([one.parts[i] for one in features]).half().cpu()
            for i in range(len(plain.parts))
        }
        for name in ("grid", "windows"):
            tensors[name] = torch.tensor(getattr(plain, name))
        tensors["size"] = torch.tensor(self._size(plain))
        tensors |= {kind: _packed(found) for kind, found in covered.items()}
        tensors["exemplars"] = self._exemplars(sample, shown)
        rewrite(path, save(tensors))

    def keep_only(self, lessons: Collection[Lesson]) -> None:
        """Delete what these do not need: other data's, other base checkpoints', unfinished ones.

        The log tells how much of the disk these take, which nothing but their number bounds.
        """
        needed = {lesson.path for lesson in lessons}
        for path in self._folder.parent.glob("*/*"):
            if path not in needed and path.is_file():
                path.unlink()
        for folder in self._folder.parent.iterdir():
            with suppress(OSError):  # it holds lessons, or is a file that others put here
                folder.rmdir()
        log.info(
            "%d encoded images take %.1f MB in %s, and stay for the next training",
            len(needed),
            sum(path.stat().st_size for path in needed) / 2**20,
            self._folder.parent,
        )

    def _exemplars(self, sample: Sample, shown: Sequence[bool]) -> Tensor:
        width = self._segmenter.encode_text([]).shape[1]
        rows = [torch.full((width,), torch.nan)]
        for mask, made in zip(sample.masks.values(), shown, strict=True):
            if made:
                rows.append(self._segmenter.encode_exemplar(Exemplar(sample.image.image, mask))[0])
            else:
                rows.append(rows[0])
        return torch.stack([row.float().cpu() for row in rows])[1:].clone()

    def _size(self, features: ImageFeatures) -> tuple[int, int]:
        """Height and width of what the model draws for a grid of patches."""
        if features.grid not in self._sizes:
            width = self._segmenter.encode_text([]).shape[1]
            drawn = self._segmenter.probabilities(features, torch.ones(1, width))
            self._sizes[features.grid] = int(drawn.shape[1]), int(drawn.shape[2])
        return self._sizes[features.grid]


def _form(path: Path) -> tuple[tuple[int, int], Windows]:
    """The grid and the windows of a lesson's features.

    Raises:
        FileNotFoundError: there is no such file.
        SafetensorError: it is damaged.
    """
    with safe_open(path, framework="pt") as held:
        rows, columns = held.get_tensor("grid").tolist()
        windows = tuple((top, left) for top, left in held.get_tensor("windows").tolist())
    return (rows, columns), windows


def _packed(masks: Sequence[Mask]) -> Tensor:
    """Masks of one size as bits, one after the other."""
    bits = [np.packbits(mask) for mask in masks]
    return torch.from_numpy(np.concatenate(bits) if bits else np.zeros(0, np.uint8))


def _unpacked(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """The masks again, as 0 and 1: (..., H, W)."""
    pixels = shape[-2] * shape[-1]
    rows = packed.numpy().reshape(-1, -(-pixels // 8))
    return torch.from_numpy(np.unpackbits(rows, axis=1, count=pixels)).view(*shape)
