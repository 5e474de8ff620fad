"""PIL images to normalised pixels, as `preprocessor_config.json` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from models import checkpoint

# The published CLIPSeg checkpoints use ImageNet's statistics (huggingface/transformers pull
# request 20995 corrected the first upload, which had 0.5).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def displayed(image: Image.Image) -> Image.Image:
    """The image as people see it: EXIF orientation applied, three channels."""
    return ImageOps.exif_transpose(image).convert("RGB")


@dataclass(frozen=True, slots=True)
class ImageProcessor:
    """Resize to the model's input, scale to [0, 1], normalise."""

    height: int = 352
    width: int = 352
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    resample: int = Image.Resampling.BILINEAR
    rescale_factor: float = 1 / 255

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read `preprocessor_config.json`; without one, the published CLIPSeg values."""
        folder = Path(folder)
        if not (folder / "preprocessor_config.json").is_file():
            return cls()
        raw = checkpoint.read_json(folder, "preprocessor_config.json")
        try:
            return cls.from_dict(raw)
        except (TypeError, ValueError, KeyError) as error:
            path = folder / "preprocessor_config.json"
            raise checkpoint.CheckpointError(f"{path} cannot be used: {error}") from error

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From the published keys; `size` may be an int or a mapping."""
        size = raw.get("size", 352)
        side = size if isinstance(size, int) else size.get("shortest_edge")
        height = int(side if side is not None else size["height"])
        width = int(side if side is not None else size["width"])
        return cls(
            height,
            width,
            tuple(raw.get("image_mean") or IMAGENET_MEAN),
            tuple(raw.get("image_std") or IMAGENET_STD),
            int(raw.get("resample", Image.Resampling.BILINEAR)),
            float(raw.get("rescale_factor", 1 / 255)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`."""
        return {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "size": {"height": self.height, "width": self.width},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "resample": int(self.resample),
            "rescale_factor": self.rescale_factor,
        }

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size -> (B, 3, H, W) float32; the aspect ratio is not kept."""
        size, resample = (self.width, self.height), Image.Resampling(self.resample)
        pixels = np.stack([np.asarray(image.resize(size, resample)) for image in images])
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * self.rescale_factor
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        return (scaled - mean) / std
