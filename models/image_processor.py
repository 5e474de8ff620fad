"""PIL images to normalised pixels, as a checkpoint says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from models import checkpoint

# The published CLIPSeg checkpoints use ImageNet's statistics (huggingface/transformers pull
# request 20995 corrected the first upload, which had 0.5).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

# What a file's kind means where the file says nothing, as for transformers; and without a kind,
# the published CLIPSeg values.
KINDS: dict[str, dict[str, Any]] = {
    "CLIP": {
        "size": {"shortest_edge": 224},
        "do_center_crop": True,
        "crop_size": 224,
        "resample": Image.Resampling.BICUBIC,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    },
    "ViT": {"size": 224, "image_mean": 0.5, "image_std": 0.5},
    "": {"size": 352, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
}
LARGEST = 4096 * 4096  # pixels of an input; attention to all of them would fit in no memory

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # more than 8 bits a pixel


def displayed(image: Image.Image) -> Image.Image:
    """The image as people see it: EXIF orientation applied, on white, three channels of bytes.

    Of more than eight bits the brightest value is white: Pillow would make all from 255 on white.
    An image that is all that already is given back as it is, since copies of large ones fill the
    memory.
    """
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        upright = ImageOps.exif_transpose(image) if turned else image
    except Exception:  # unreadable EXIF; such an image is shown as it is stored
        upright = image
    upright = straight(upright)
    if upright.mode in DEEP_MODES:
        levels = np.nan_to_num(np.asarray(upright, np.float32), posinf=0.0).clip(min=0.0)
        levels *= 255 / max(float(levels.max()), 1e-9)
        upright = Image.fromarray(levels.astype(np.uint8))
    elif upright.has_transparency_data:
        drawn = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn)
    return upright if upright.mode == "RGB" else upright.convert("RGB")


def straight(image: Image.Image) -> Image.Image:
    """The image, whose grey is not multiplied by its alpha: of that Pillow makes no other mode."""
    return image.convert("LA") if image.mode == "La" else image


@dataclass(frozen=True, slots=True)
class ImageProcessor:
    """Resize to the model's input, crop if asked, scale to [0, 1], normalise.

    Without `shortest_edge` the input is `height` x `width` whatever the aspect ratio; with it, the
    shorter side becomes that long and the ratio is kept. `crop`, a height and a width, is cut out
    of the centre, with black where the image is smaller.
    """

    height: int = 352
    width: int = 352
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    resample: int = Image.Resampling.BILINEAR
    rescale_factor: float = 1 / 255
    shortest_edge: int | None = None
    crop: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no input of any image.

        Raises:
            ValueError: it has no pixels or too many, an unknown resampling, statistics not of three
                colours, or makes numbers that are infinite or none.
        """
        for height, width in ((self.height, self.width), self.crop or (1, 1)):
            if min(height, width) < 1 or height * width > LARGEST:
                raise ValueError(f"size {height}x{width} is no size of an input")
        Image.Resampling(self.resample)
        if len(self.mean) != 3 or len(self.std) != 3 or not all(self.std):
            raise ValueError(
                f"image_mean {self.mean} and image_std {self.std} must have three numbers each, "
                "and no deviation be 0"
            )
        numbers = (self.rescale_factor, *self.mean, *self.std)
        most = (255 * abs(self.rescale_factor) + max(map(abs, self.mean))) / min(map(abs, self.std))
        if not all(map(math.isfinite, numbers)) or most > torch.finfo(torch.float32).max:
            raise ValueError(
                f"rescale_factor {self.rescale_factor}, image_mean {self.mean} and image_std "
                f"{self.std} make numbers that are infinite or none"
            )

    @classmethod
    def from_pretrained(cls, folder: str | Path, default: Self | None = None) -> Self:
        """As the folder says; where it says nothing, the default, or the published CLIPSeg values.

        It is said in `processor_config.json`, under "image_processor", which counts first as it
        does for transformers, or in `preprocessor_config.json`.
        """
        folder = Path(folder)
        path, raw = folder / checkpoint.PROCESSOR, None
        if path.is_file():
            raw = checkpoint.read_json(folder, path.name).get("image_processor")
        if raw is None:
            path = folder / checkpoint.PREPROCESSOR
            if not path.is_file():
                return default or cls()
            raw = checkpoint.read_json(folder, path.name)
        try:
            return cls.from_dict(raw)
        except (AttributeError, TypeError, ValueError, KeyError) as error:
            raise checkpoint.CheckpointError(f"{path} cannot be used: {error}") from error

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From the published keys; `size` and `crop_size` may be an int or a mapping.

        What the int of `size` is, the file's kind tells: CLIP's shorter side, else both; and what
        holds where a key is missing. A key that is null says nothing.

        Raises:
            ValueError: images are to be padded, or taken in whatever size they have, or a value is
                none.
        """
        name = str(raw.get("image_processor_type") or raw.get("feature_extractor_type") or "")
        kind = next(kind for kind in KINDS if kind in name)
        raw = KINDS[kind] | {key: value for key, value in raw.items() if value is not None}
        if not raw.get("do_resize", True):
            raise ValueError("do_resize is false, and the model needs inputs of one size")
        if raw.get("do_pad"):
            raise ValueError("do_pad is true, and inputs are not padded here")
        size = raw["size"]
        if kind == "CLIP" and isinstance(size, int):
            size = {"shortest_edge": size}
        keeps_ratio = isinstance(size, Mapping) and list(size) == ["shortest_edge"]
        height, width = _sides("size", size["shortest_edge"] if keeps_ratio else size)
        mean, std = _colours(raw["image_mean"]), _colours(raw["image_std"])
        if not raw.get("do_normalize", True):
            mean, std = (0.0,) * 3, (1.0,) * 3
        crops, scales = raw.get("do_center_crop", False), raw.get("do_rescale", True)
        return cls(
            height=height,
            width=width,
            mean=mean,
            std=std,
            resample=int(raw.get("resample", Image.Resampling.BILINEAR)),
            rescale_factor=float(raw.get("rescale_factor", 1 / 255)) if scales else 1.0,
            shortest_edge=height if keeps_ratio else None,
            crop=_sides("crop_size", raw.get("crop_size")) if crops else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`."""
        keeps_ratio = self.shortest_edge is not None
        raw: dict[str, Any] = {
            "image_processor_type": "CLIPImageProcessor" if keeps_ratio else "ViTImageProcessor",
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "size": {"height": self.height, "width": self.width},
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "resample": int(self.resample),
            "rescale_factor": self.rescale_factor,
        }
        if keeps_ratio:
            raw |= {"size": {"shortest_edge": self.shortest_edge}, "do_convert_rgb": True}
            raw["do_center_crop"] = self.crop is not None
        if self.crop is not None:
            raw["do_center_crop"] = True
            raw["crop_size"] = dict(zip(("height", "width"), self.crop, strict=True))
        return raw

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images -> (B, 3, H, W) float32.

        Raises:
            ValueError: there is none, or they become inputs of different sizes.
        """
        resized = [np.asarray(self._cropped(self._resized(image))) for image in images]
        sizes = {pixels.shape for pixels in resized}
        if len(sizes) != 1:
            raise ValueError(f"{len(images)} images give inputs of {len(sizes)} sizes, not one.")
        return self.normalise(np.stack(resized))

    def normalise(self, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        """Bytes (B, H, W, 3) -> (B, 3, H, W) float32."""
        scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * self.rescale_factor
        mean = torch.tensor(self.mean).view(3, 1, 1)
        std = torch.tensor(self.std).view(3, 1, 1)
        return (scaled - mean) / std

    @property
    def fixed(self) -> bool:
        """Whether inputs have one size, whatever the images have."""
        return self.shortest_edge is None or self.crop is not None

    def at(self, width: int, height: int) -> Self:
        """The same processing to another, fixed size."""
        return replace(self, width=width, height=height, shortest_edge=None, crop=None)

    def _resized(self, image: Image.Image) -> Image.Image:
        size = (self.width, self.height)
        if self.shortest_edge is not None:
            size = kept_ratio(image.size, self.shortest_edge)
        return image.resize(size, Image.Resampling(self.resample))

    def _cropped(self, image: Image.Image) -> Image.Image:
        if self.crop is None:
            return image
        height, width = self.crop
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))


def _sides(what: str, given: object) -> tuple[int, int]:
    """Height and width, of a number for both, or of a mapping of the two."""
    if isinstance(given, Mapping) and given.keys() == {"height", "width"}:
        sides = (given["height"], given["width"])
    else:
        sides = (given, given)
    if not all(type(side) is int for side in sides):
        raise ValueError(
            f"{what} {given!r} is neither a number of pixels nor a height and a width in pixels"
        )
    return sides


def _colours(given: float | Sequence[float]) -> tuple[float, ...]:
    """A number of each colour; a single one is that of all three."""
    return tuple(float(one) for one in (given if isinstance(given, Sequence) else [given] * 3))


def kept_ratio(size: tuple[int, int], shortest_edge: int) -> tuple[int, int]:
    """Width and height with the shorter one `shortest_edge`, the longer one rounded down."""
    width, height = size
    if width <= height:
        return shortest_edge, int(shortest_edge * height / width)
    return int(shortest_edge * width / height), shortest_edge
