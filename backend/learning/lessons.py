"""Samples as training needs them, on disk: encoded once, however many steps look at them.

CLIP and the decoder's `reduces` stay as they are, so that what the decoder reads of an image never
changes: one list of small arrays, the mirrored image's beside it. In half precision that is 0.4 MB
an image at the published size. Training reads what a step needs; the rest stays on disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ImageOps
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.errors import TooLittleData
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Part, Sample, part_of
from models import CLIPSegForImageSegmentation, Exemplar, Segmenter
from models.clipseg import Decoder

MOST_EXEMPLARS = 64  # images that each label is shown from; each costs a pass of the vision tower


@dataclass(frozen=True, slots=True)
class Lesson:
    """A sample on disk."""

    path: Path
    task: int
    grid: tuple[int, int]
    present: tuple[str, ...]
    absent: tuple[str, ...]

    @property
    def part(self) -> Part:
        """What it is for."""
        return part_of(self.task)

    def read(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """What the decoder reads, each (2, T, R), plain and mirrored; targets (N, H, W); exemplars.

        Targets and exemplars, (N, C), are of the labels that are present; an exemplar that was
        not made is nothing but NaN.
        """
        held = load_file(self.path)
        parts = [held[f"part{i}"].float() for i in range(len(held) - 4)]
        height, width = held["size"].tolist()
        packed = held["targets"].numpy().reshape(len(self.present), -(-height * width // 8))
        bits = np.unpackbits(packed, axis=1, count=height * width)
        targets = torch.from_numpy(bits).view(len(self.present), height, width)
        return parts, targets, held["exemplars"]


class Lessons:
    """Makes lessons in a folder; those that are there already are not made again."""

    def __init__(self, folder: Path, segmenter: Segmenter) -> None:
        self._folder = folder
        self._segmenter = segmenter
        self._sizes: dict[tuple[int, int], tuple[int, int]] = {}
        self._shown: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, sample: Sample) -> Lesson:
        """A sample as a lesson."""
        present = tuple(sample.masks)
        absent = tuple(label for label in sample.labels if label not in sample.masks)
        path = self._folder / f"{sample.digest()}.safetensors"
        if path.exists():
            with safe_open(path, framework="pt") as held:
                rows, columns = held.get_tensor("grid").tolist()
            return Lesson(path, sample.task, (rows, columns), present, absent)
        image = sample.image.image
        plain, mirrored = self._segmenter.encode_image([image, ImageOps.mirror(image)])
        size = self._size(plain.grid)
        masks = [_shrunk(sample.masks[label], size) for label in present]
        both = zip(plain.parts, mirrored.parts, strict=True)
        tensors = {f"part{i}": torch.cat(pair).half().cpu() for i, pair in enumerate(both)}
        tensors["grid"], tensors["size"] = torch.tensor(plain.grid), torch.tensor(size)
        tensors["targets"] = torch.from_numpy(
            np.concatenate([np.packbits(mask) for mask in masks])
            if masks
            else np.zeros(0, np.uint8)
        )
        tensors["exemplars"] = self._exemplars(sample)
        unfinished = path.with_suffix(f".{os.getpid()}")
        save_file(tensors, unfinished)
        unfinished.replace(path)
        return Lesson(path, sample.task, plain.grid, present, absent)

    def _exemplars(self, sample: Sample) -> Tensor:
        width = self._segmenter.encode_text([]).shape[1]
        rows = [torch.full((width,), torch.nan)]
        for label, mask in sample.masks.items():
            self._shown[label] = self._shown.get(label, 0) + 1
            if self._shown[label] <= MOST_EXEMPLARS:
                rows.append(self._segmenter.encode_exemplar(Exemplar(sample.image.image, mask))[0])
            else:
                rows.append(rows[0])
        return torch.stack([row.float().cpu() for row in rows])[1:].clone()

    def _size(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what the decoder draws for a grid of patches."""
        if grid not in self._sizes:
            decoder = decoder_of(self._segmenter)
            width = decoder.film_mul.out_features
            tokens = torch.zeros(1, 1 + grid[0] * grid[1], width, device=self._segmenter.device)
            condition = torch.zeros(1, decoder.film_mul.in_features, device=self._segmenter.device)
            with torch.inference_mode():
                logits = decoder([tokens] * len(decoder.reduces), condition, grid)
            self._sizes[grid] = int(logits.shape[-2]), int(logits.shape[-1])
        return self._sizes[grid]


def decoder_of(segmenter: Segmenter) -> Decoder:
    """What is trained.

    Raises:
        TooLittleData: the model is no CLIPSeg.
    """
    if not isinstance(segmenter.model, CLIPSegForImageSegmentation):
        raise TooLittleData(f"A {segmenter.name} cannot be trained yet: serve a CLIPSeg.")
    return segmenter.model.decoder


def conditions(
    segmenter: Segmenter, prompts: Mapping[str, Sequence[str]], templates: Sequence[str]
) -> dict[str, Tensor]:
    """What labels may be asked with, (V, C) each: as served first, then in other words."""
    rows = {
        label: torch.stack(
            [
                segmenter.condition([template.format(text) for text in texts])
                for template in templates
            ]
        )
        for label, texts in prompts.items()
    }
    return {label: row.float().cpu().clone() for label, row in rows.items()}


def _shrunk(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size: pixels that it covers by half."""
    share = F.interpolate(torch.from_numpy(mask)[None, None].float(), size, mode="area")
    shrunk: Mask = (share[0, 0] >= 0.5).numpy()
    return shrunk
