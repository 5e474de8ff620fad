"""Texts and images to what a model's `forward` takes: the documented processors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models import checkpoint
from models.image_processor import CLIP_MEAN, CLIP_STD, ImageProcessor, displayed
from models.tokenizer import CLIPTokenizer

COLOURS = {1, 3, 4}  # how many an array's image may have
TEXT_OPTIONS = {"padding", "truncation", "max_length"}

Picture = Image.Image | np.ndarray[Any, Any] | Tensor


class BatchEncoding(dict[str, Any]):
    """Tensors by name, also as attributes; unpacks into a forward with `**`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"There is no {name!r}; there is {', '.join(self)}.") from None

    def to(self, device: str | torch.device) -> Self:
        """The same with every tensor on a device."""
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self.items()}
        return type(self)(moved)


class Processor:
    """A tokenizer and an image processor, together."""

    default_image_processor: ClassVar[ImageProcessor]

    def __init__(
        self,
        image_processor: ImageProcessor | None = None,
        tokenizer: CLIPTokenizer | None = None,
        **kwargs: Any,
    ) -> None:
        # `feature_extractor` is what image processors were called before
        self.image_processor = image_processor or kwargs.pop("feature_extractor", None)
        if self.image_processor is None:
            raise ValueError("You need to specify an `image_processor`.")
        if tokenizer is None:
            raise ValueError("You need to specify a `tokenizer`.")
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, id_or_folder: str | Path) -> Self:
        """Load both from a folder or a hub id; CheckpointError says what is missing."""
        folder = checkpoint.locate(id_or_folder)
        images = ImageProcessor.from_pretrained(folder, cls.default_image_processor)
        return cls(images, CLIPTokenizer.from_pretrained(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `preprocessor_config.json` and `tokenizer.json`."""
        folder = Path(folder)
        self.tokenizer.save_pretrained(folder)
        text = json.dumps(self.image_processor.to_dict(), indent=2) + "\n"
        (folder / checkpoint.PREPROCESSOR).write_text(text, encoding="utf-8")

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Picture | Sequence[Picture] | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """`input_ids` and `attention_mask` for texts, `pixel_values` for images, or both.

        `return_tensors` is "pt", "np", or None for lists; `padding`, `truncation` and
        `max_length` go to the tokenizer. What becomes of images is the image processor's to say.
        """
        if text is None and images is None:
            raise ValueError("You have to specify either text or images.")
        _check_options(kwargs)
        encoded = BatchEncoding()
        if text is not None:
            encoded.update(self._texts(text, return_tensors, kwargs))
        if images is not None:
            encoded["pixel_values"] = self._pixels(images, return_tensors)
        return encoded

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[str]:
        """Texts of rows of token ids."""
        return [self.decode(row, skip_special_tokens) for row in sequences]

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """The text of token ids."""
        return self.tokenizer.decode(token_ids, skip_special_tokens)

    @property
    def model_input_names(self) -> list[str]:
        """What a model takes of what this makes."""
        return ["input_ids", "attention_mask", "pixel_values"]

    def _texts(
        self, text: str | Sequence[str], return_tensors: str | None, options: dict[str, Any]
    ) -> dict[str, Any]:
        one = isinstance(text, str)
        rows = self.tokenizer.padded([text] if isinstance(text, str) else text, **options)
        if return_tensors is None:
            return {name: value[0] if one else value for name, value in rows.items()}
        return {name: _as(return_tensors, _tensor(value)) for name, value in rows.items()}

    def _pixels(self, images: Picture | Sequence[Picture], return_tensors: str | None) -> Any:
        if isinstance(images, np.ndarray | Tensor):
            images = list(images) if images.ndim == 4 else [images]
        batch = [images] if isinstance(images, Image.Image) else list(images)
        pixels = self.image_processor([_picture(image) for image in batch])
        return list(pixels.numpy()) if return_tensors is None else _as(return_tensors, pixels)


class CLIPSegProcessor(Processor):
    """CLIPSeg's: 352 x 352 whatever the aspect ratio, and visual prompts."""

    default_image_processor = ImageProcessor()

    def __call__(  # type: ignore[override]
        self,
        text: str | Sequence[str] | None = None,
        images: Picture | Sequence[Picture] | None = None,
        visual_prompt: Picture | Sequence[Picture] | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """As `Processor`, and `conditional_pixel_values` for visual prompts.

        Raises:
            ValueError: nothing is given, or both kinds of prompt.
        """
        if text is None and visual_prompt is None and images is None:
            raise ValueError("You have to specify either text, visual prompt or images.")
        if text is not None and visual_prompt is not None:
            raise ValueError(
                "You have to specify exactly one type of prompt. Either text or visual prompt."
            )
        _check_options(kwargs)
        encoded = BatchEncoding()
        if text is not None or images is not None:
            encoded = super().__call__(text, images, return_tensors, **kwargs)
        if visual_prompt is not None:
            encoded["conditional_pixel_values"] = self._pixels(visual_prompt, return_tensors)
        return encoded


class GroupViTProcessor(Processor):
    """GroupViT's: shorter side 224, the square in the centre.

    The border of an image is lost; `Segmenter` sees all of it.
    """

    default_image_processor = ImageProcessor(
        height=224,
        width=224,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        resample=Image.Resampling.BICUBIC,
        shortest_edge=224,
        crop=(224, 224),
    )


def _check_options(given: Mapping[str, Any]) -> None:
    if unknown := given.keys() - TEXT_OPTIONS:
        raise TypeError(f"There is no option {', '.join(sorted(unknown))} of texts or images.")


def _picture(image: Picture) -> Image.Image:
    """A PIL image; arrays and tensors are bytes, (3, H, W), (H, W, 3) or (H, W)."""
    if isinstance(image, Image.Image):
        return displayed(image)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] in COLOURS and pixels.shape[2] not in COLOURS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    try:
        return displayed(Image.fromarray(np.ascontiguousarray(pixels)))
    except TypeError:
        raise ValueError(
            f"An array {pixels.shape} of {pixels.dtype} is no image: give bytes from 0 to 255, "
            "(3, H, W) or (H, W, 3)."
        ) from None


def _tensor(rows: list[list[int]]) -> Tensor:
    if len({len(row) for row in rows}) > 1:
        raise ValueError(
            "Texts of different lengths make no tensor: give padding=True, and truncation=True "
            "if one may be too long."
        )
    return torch.tensor(rows)


def _as(kind: str, tensor: Tensor) -> Any:
    if kind not in {"pt", "np"}:
        raise ValueError(f"return_tensors={kind!r} is unknown: give 'pt', 'np' or None.")
    return tensor if kind == "pt" else tensor.numpy()
