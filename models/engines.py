"""What `Segmenter` needs of a model, for each of the two.

An engine encodes images without knowing a prompt, and compares what it kept with conditions.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from models.clipseg import CLIPSegForImageSegmentation
from models.config import GroupViTConfig, PretrainedConfig
from models.fast import FastCLIPSeg, FastGroupViT, prepare
from models.groupvit import GroupViTModel
from models.image_processor import ImageProcessor, kept_ratio
from models.outputs import Trace
from models.towers import unit

PROMPTS_PER_PASS = 4  # 1 to 8 cost the same per prompt; few keep the decoder's memory small

# A longer input than this many times its shorter side is squeezed: attention is quadratic in it,
# and windows are as many more.
LONGEST = 4

# Averaged before normalising, as GroupViT's authors do; the plain phrase helps short labels.
TEMPLATES = ("{}", "a photo of a {}.")
PLAIN = ("{}",)
# The cosine that a group must reach to be more of a label than of background.
BACKGROUND = 0.1


Windows = tuple[tuple[int, int], ...]  # row and column in patches of each


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """One encoded image: all that a prompt needs of it."""

    parts: tuple[Tensor, ...]  # the engine's own
    grid: tuple[int, int]  # h, w in patches
    size: tuple[int, int]  # H, W in pixels, as displayed
    windows: Windows = ((0, 0),)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(part.nbytes for part in self.parts)


def templates_of(config: PretrainedConfig) -> Sequence[str]:
    """How a phrase is put to a model's text tower."""
    competes = isinstance(config, GroupViTConfig)
    return tuple(config.extra.get("templates", TEMPLATES)) if competes else PLAIN


class Engine(Protocol):
    """A model behind the door; conditions are (N, C) in the model's joint space."""

    name: str
    width: int  # C
    competes: bool  # whether what one condition wins, another loses
    templates: Sequence[str]  # how a phrase is put to the text tower; conditions are averaged
    of_features: tuple[str, ...]  # how parameters begin that features depend on
    of_texts: tuple[str, ...]  # and those that texts' conditions do

    def tuned(self, model: Any, changed: Collection[str]) -> Engine:
        """The same for a model that differs in some parameters; the others are not packed again."""

    def encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """RGB images to features."""

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids (N, L) to conditions (N, C)."""

    def embed_image(self, pixel_values: Tensor) -> Tensor:
        """Prepared exemplars (N, 3, H, W) to conditions (N, C)."""

    def probabilities(self, features: ImageFeatures, conditions: Tensor) -> Tensor:
        """One image against N conditions: (N, h', w') in [0, 1]."""

    def patches(self, features: ImageFeatures) -> Tensor:
        """What is in each patch of an image, as numbers: (D, h, w)."""


class CLIPSegEngine:
    """Each condition gets a mask of its own; conditions do not compete."""

    name = "clipseg"
    competes = False
    templates: Sequence[str] = PLAIN
    of_features: tuple[str, ...] = ("clip.vision_model.", "decoder.reduces.")
    of_texts: tuple[str, ...] = ("clip.text",)

    def __init__(
        self, model: CLIPSegForImageSegmentation, processor: ImageProcessor, dtype: torch.dtype
    ) -> None:
        self._model = model
        self._processor = processor
        self._dtype = dtype
        self.width = int(model.config.projection_dim)
        on_cpu = model.clip.logit_scale.device.type == "cpu"
        self._fast = prepare(lambda d: FastCLIPSeg(model, d), dtype) if on_cpu else None

    def tuned(self, model: CLIPSegForImageSegmentation, changed: Collection[str]) -> CLIPSegEngine:
        """Shares all but the decoder, as long as CLIP is the same."""
        if any(name.startswith("clip.") for name in changed):
            return CLIPSegEngine(model, self._processor, self._dtype)
        engine, fast = copy.copy(self), self._fast
        engine._model = model
        if fast is not None:
            engine._fast = prepare(lambda _: fast.with_decoder(model), self._dtype)
        return engine

    def encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """The decoder's prompt-independent part: each (1, 1 + h*w, R), deepest first."""
        shapes: dict[ImageProcessor, list[int]] = {}
        for index, image in enumerate(images):
            shapes.setdefault(self._processor_of(image), []).append(index)
        encoded: dict[int, ImageFeatures] = {}
        for processor, indices in shapes.items():
            together = self._encode([images[i] for i in indices], processor)
            encoded |= zip(indices, together, strict=True)
        return [encoded[index] for index in range(len(images))]

    def _processor_of(self, image: Image.Image) -> ImageProcessor:
        """Where the checkpoint keeps the ratio, inputs are rectangles of whole patches."""
        side, patch = self._processor.shortest_edge, self._model.config.vision_config.patch_size
        if side is None or self._processor.fixed:
            return self._processor
        sizes = (min(length, LONGEST * side) for length in kept_ratio(image.size, side))
        width, height = (patch * max(1, round(length / patch)) for length in sizes)
        return self._processor.at(width, height)

    def _encode(
        self, images: Sequence[Image.Image], processor: ImageProcessor
    ) -> list[ImageFeatures]:
        pixels = processor(images).to(self._model.decoder.film_mul.weight)
        if self._fast is not None:
            reduced = self._fast.encode(pixels)
        else:
            reduced = self._model.decoder.reduce(self._model.encode_image(pixels))
        grid = self._model.grid(pixels)
        return [
            ImageFeatures(
                tuple(r[i : i + 1].clone() for r in reduced), grid, (image.height, image.width)
            )
            for i, image in enumerate(images)
        ]

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Projected texts, not normalised: the decoder was trained on them as they are."""
        return self._model.get_conditional_embeddings(input_ids, attention_mask)

    def embed_image(self, pixel_values: Tensor) -> Tensor:
        """Projected exemplars, not normalised."""
        return self._model.get_conditional_embeddings(conditional_pixel_values=pixel_values)

    def probabilities(self, features: ImageFeatures, conditions: Tensor) -> Tensor:
        """The decoder on every condition: (N, H, W) at the model's input size."""
        decode = self._model.decoder if self._fast is None else self._fast.decode
        logits = [
            decode(features.parts, part, features.grid)
            for part in conditions.split(PROMPTS_PER_PASS)
        ]
        return torch.cat(logits).float().sigmoid()

    def patches(self, features: ImageFeatures) -> Tensor:
        """The deepest of the decoder's inputs, without the class token."""
        return features.parts[0][0, 1:].T.reshape(-1, *features.grid)


class GroupViTEngine:
    """Conditions compete for every patch, with each other and with the background.

    As published: the shorter side is resized to twice the training size, windows of that size
    slide by half of it, and positions are interpolated (Xu et al., arXiv 2202.11094, section 4.3;
    the checkpoint may name another side as `segmentation_side`). Unlike there, the background is
    not a threshold on the winner: it is a competitor whose cosine is fixed, so that a single label
    can lose too.
    """

    name = "groupvit"
    competes = True
    of_features: tuple[str, ...] = ("vision_model.",)
    of_texts: tuple[str, ...] = ("text_",)

    def __init__(self, model: GroupViTModel, processor: ImageProcessor, dtype: torch.dtype) -> None:
        self._model = model
        self._processor = processor
        self._dtype = dtype
        on_cpu = model.logit_scale.device.type == "cpu"
        self._fast = prepare(lambda d: FastGroupViT(model, d), dtype) if on_cpu else None
        config = model.config
        patch = config.vision_config.patch_size
        side = config.extra.get("segmentation_side") or 2 * config.vision_config.image_size
        self._window = max(1, round(side / patch))  # in patches
        self._patch = patch
        self._background = background_of(model)
        self.templates = templates_of(config)
        self.width = int(config.projection_dim)

    def tuned(self, model: GroupViTModel, changed: Collection[str]) -> GroupViTEngine:
        """Shares the packed grouping tower, as long as that is the same."""
        if any(name.startswith("vision_model.") for name in changed):
            return GroupViTEngine(model, self._processor, self._dtype)
        engine = copy.copy(self)
        engine._model = model
        return engine

    def encode(self, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        """Groups (W, G, D), not projected, and their maps (W, G, h, w), per window."""
        return [self._encode(image) for image in images]

    def _encode(self, image: Image.Image) -> ImageFeatures:
        side = self._window * self._patch
        sizes = (min(length, LONGEST * side) for length in kept_ratio(image.size, side))
        columns, rows = (max(1, round(length / self._patch)) for length in sizes)
        processor = self._processor.at(columns * self._patch, rows * self._patch)
        whole = processor([image]).to(self._model.logit_scale)
        windows = [
            (top, left)
            for top in slides(rows, self._window)
            for left in slides(columns, self._window)
        ]
        views = torch.cat(
            [
                whole[
                    ...,
                    top * self._patch : (top + self._window) * self._patch,
                    left * self._patch : (left + self._window) * self._patch,
                ]
                for top, left in windows
            ]
        )
        trace = Trace(attentions=True)
        if self._fast is not None:
            groups = self._fast.encode(views, trace)
        else:
            groups = self._model.vision_model(views, trace).last_hidden_state
        return ImageFeatures(
            (groups, self._model.group_maps(trace.attentions or (), views)),
            (rows, columns),
            (image.height, image.width),
            tuple(windows),
        )

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Projected texts, not normalised, so that templates can be averaged."""
        return self._model.get_text_features(input_ids, attention_mask)

    def embed_image(self, pixel_values: Tensor) -> Tensor:
        """Projected exemplars, not normalised."""
        return self._model.get_image_features(pixel_values)

    def probabilities(self, features: ImageFeatures, conditions: Tensor) -> Tensor:
        """Shares of the patches: (N, h, w), which with the background's sum to one."""
        groups, maps = features.parts
        cosines = self._model.group_similarity(groups, unit(conditions))  # (W, G, N)
        shares = shared_out(cosines, self._model.logit_scale, self._background)
        patches = torch.einsum("wgn,wghx->wnhx", shares, maps)
        return gathered(patches, features.grid, features.windows).float()

    def patches(self, features: ImageFeatures) -> Tensor:
        """The groups that have gathered them, as far as each has."""
        groups, maps = features.parts
        patches = torch.einsum("wgd,wghx->wdhx", groups, maps)
        return gathered(patches, features.grid, features.windows)


def background_of(model: GroupViTModel) -> float:
    """The background's cosine."""
    told = model.config.extra.get("background_similarity")
    return BACKGROUND if told is None else float(told)


def gathered(patches: Tensor, grid: tuple[int, int], windows: Windows) -> Tensor:
    """Windows (W, N, h, w) on a grid (N, h', w'), where they overlap the mean."""
    total = patches.new_zeros(patches.shape[1], *grid)
    seen = patches.new_zeros(grid)
    for (top, left), part in zip(windows, patches, strict=True):
        rows, columns = part.shape[-2:]
        total[:, top : top + rows, left : left + columns] += part
        seen[top : top + rows, left : left + columns] += 1
    return total / seen


def shared_out(cosines: Tensor, logit_scale: Tensor, background: float) -> Tensor:
    """What each label has of a group, (..., N) -> the same; one less their sum is background's."""
    rivals = torch.cat([cosines, torch.full_like(cosines[..., :1], background)], dim=-1)
    return (rivals * logit_scale.exp()).softmax(dim=-1)[..., :-1]


def slides(length: int, window: int) -> list[int]:
    """Where windows start so that they overlap by half and the last one ends at the end."""
    if length <= window:
        return [0]
    step = max(1, window // 2)
    return [*range(0, length - window, step), length - window]
