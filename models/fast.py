"""Both models on a CPU, several times faster than through their modules, to the same masks.

Blocks, patches and the upsampling head are those of `models.packed`; positions are interpolated
once per size. `benchmarks/RESULTS.md` has what that is worth.

Packed products are a private operator of torch, so `prepare` compares one input with the plain
modules, and says so loudly and gives nothing if they differ or the operator is gone.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from models.clip import check_patches
from models.clipseg import CLIPSegForImageSegmentation, Decoder
from models.groupvit import GroupViTModel
from models.outputs import Trace
from models.packed import PackedBlock, PackedLinear, PackedPatches, PackedUpsampling

log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5}  # of the output's standard deviation
SIZES = 16  # input sizes whose positions are remembered


class Fast(Protocol):
    """What can be checked against the modules that it stands for."""

    def compare(self) -> tuple[Tensor, Tensor]:
        """The output for one input by this path and by the modules."""


T = TypeVar("T", bound=Fast)


class UnusableDtype(ValueError):
    """A device cannot compute in a dtype."""


def prepare(build: Callable[[torch.dtype], T], dtype: torch.dtype) -> T | None:
    """A fast form that gives what the modules give, or None where it cannot be had.

    The model itself stays in float32; `dtype` is that of the products.

    Raises:
        UnusableDtype: `dtype` is neither float32 nor bfloat16.
    """
    if dtype not in TOLERANCE:
        said = str(dtype).removeprefix("torch.")
        raise UnusableDtype(f"On a CPU dtype is float32 or bfloat16, not {said}.")
    try:
        with torch.inference_mode():
            fast = build(dtype)
            found, expected = fast.compare()
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        if dtype != torch.float32:  # which the plain path computes in, slower than the fast one
            log.warning("no %s on this machine (%s): computing in float32", dtype, error)
            return prepare(build, torch.float32)
        log.warning("no fast path on this machine (%s): using the plain one", error)
        return None
    off = float((found - expected).abs().max() / expected.std().clamp(min=1e-6))
    if not off < TOLERANCE[dtype]:
        log.warning("the fast path is off by %.2g of the output's spread: using the plain one", off)
        return None
    return fast


def sample(side: int) -> Tensor:
    """An input (1, 3, side, side) to compare on: smooth, the same every time."""
    return torch.linspace(-2, 2, 3 * side**2).sin().view(1, 3, side, side)


class FastCLIPSeg:
    """The two halves that a segmenter runs: image to reduced activations, those to logits."""

    def __init__(self, model: CLIPSegForImageSegmentation, dtype: torch.dtype) -> None:
        vision = model.clip.vision_model
        self._dtype = dtype
        self._wanted = list(model.config.extract_layers)
        self._embeddings, self._norm = vision.embeddings, vision.pre_layrnorm
        self._positions = lru_cache(SIZES)(vision.embeddings.positions)
        self._patches = PackedPatches(vision.embeddings.patch_embedding, dtype)
        blocks = list(vision.encoder.blocks())[: max(self._wanted) + 1]
        self._blocks = [PackedBlock(block, dtype) for block in blocks]
        self._take_decoder(model)

    def _take_decoder(self, model: CLIPSegForImageSegmentation) -> None:
        self._model = model
        self._steps = [PackedBlock(step, self._dtype) for step in model.decoder.steps()]
        self._head = _Head(model.decoder, self._dtype)

    def with_decoder(self, model: CLIPSegForImageSegmentation) -> Self:
        """The same for a model that differs in its decoder alone; the rest stays packed."""
        tuned = copy.copy(self)
        tuned._take_decoder(model)
        return tuned

    def encode(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> reduced activations, each (B, 1 + h*w, R), deepest first."""
        check_patches(pixel_values, self._embeddings.patch_size)
        patches = self._patches(pixel_values)
        cls = self._embeddings.class_embedding.expand(len(patches), 1, -1)
        x = torch.cat([cls, patches], dim=1) + self._positions(*self._model.grid(pixel_values))
        x = self._norm(x)
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(self._blocks):
            x = block(x)
            if index in self._wanted:
                kept[index] = x
        return self._model.decoder.reduce([kept[index] for index in self._wanted])

    def decode(
        self, reduced: Sequence[Tensor], conditions: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Reduced (1, T, R) and conditions (N, C) -> logits (N, H, W)."""
        return self._head(self._model.decoder.mix(self._steps, reduced, conditions), grid)

    def compare(self) -> tuple[Tensor, Tensor]:
        """Logits of one input by this path and by the modules."""
        model, config = self._model, self._model.config
        pixels = sample(4 * config.vision_config.patch_size)
        conditions = torch.linspace(-1, 1, 2 * config.projection_dim).view(2, -1)
        grid = model.grid(pixels)
        plain = model.decoder(model.decoder.reduce(model.encode_image(pixels)), conditions, grid)
        return self.decode(self.encode(pixels), conditions, grid), plain


class _Head:
    """The decoder's states to logits."""

    def __init__(self, decoder: Decoder, dtype: torch.dtype) -> None:
        head = decoder.transposed_convolution
        self._dtype = dtype
        self._smooth: nn.Conv2d | None = None
        upsampling = [m for m in head.modules() if isinstance(m, nn.ConvTranspose2d)]
        acts = ["relu"] * (len(upsampling) - 1) + ["none"]
        self._steps = [
            PackedUpsampling(step, dtype, act) for step, act in zip(upsampling, acts, strict=True)
        ]
        for module in head.modules():
            if isinstance(module, nn.Conv2d):
                self._smooth = copy.deepcopy(module).to(dtype)

    def __call__(self, states: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, 1 + h*w, R) -> (N, H, W) in float32."""
        cells = states[:, 1:].unflatten(1, grid).to(self._dtype)
        if self._smooth is not None:
            cells = self._smooth(cells.permute(0, 3, 1, 2)).relu_().permute(0, 2, 3, 1)
        for step in self._steps:
            cells = step(cells)
        return cells.squeeze(3).float()


def _pack(module: nn.Module, dtype: torch.dtype) -> None:
    """Put packed layers in the place of the linear ones inside a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child, dtype))
        else:
            _pack(child, dtype)


class FastGroupViT:
    """The grouping tower with every product packed."""

    def __init__(self, model: GroupViTModel, dtype: torch.dtype) -> None:
        self._model = model
        self._tower = copy.deepcopy(model.vision_model)
        for stage in self._tower.encoder.blocks():
            stage.layers = nn.ModuleList(PackedBlock(layer, dtype) for layer in stage.blocks())
            if stage.downsample is not None:
                _pack(stage.downsample, torch.float32)  # a hard choice hangs on it

    def encode(self, pixel_values: Tensor, trace: Trace) -> Tensor:
        """(B, 3, H, W) -> groups (B, G, D); the soft maps go to the trace's attentions."""
        groups: Tensor = self._tower(pixel_values, trace).last_hidden_state
        return groups

    def compare(self) -> tuple[Tensor, Tensor]:
        """Groups of one input by this path and by the modules."""
        embeddings = self._tower.embeddings
        pixels = sample(embeddings.native * embeddings.patch_size)  # whole patches of its size
        return self.encode(pixels, Trace()), self._model.vision_model(pixels).last_hidden_state
