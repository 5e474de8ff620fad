"""CLIPSeg on a CPU, several times faster than through its modules, to the same masks.

What is done differently, each measured in `benchmarks/RESULTS.md`:

- weights lie in oneDNN's own layout, packed once: torch's default for float32 on AMD reaches 40 %
  of what oneDNN does on the same core;
- queries, keys and values come from one product, and activations are fused into theirs
  (`x * sigmoid(1.702 x)` is SiLU once 1.702 is folded into the weights around it);
- attention is written out, which beats torch's fused kernel on CPUs;
- in bfloat16, products and attention are; residuals and normalisation stay in float32.

The packed product is a private operator of torch, so `prepare` compares one input with the plain
modules, and says so loudly and gives nothing if they differ or the operator is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.clipseg import CLIPSegForImageSegmentation
from models.layers import MLP, Attention, PostNormLayer, PreNormLayer, quick_gelu

log = logging.getLogger(__name__)

QUICK = 1.702  # of quick_gelu
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.5}  # of the logits' standard deviation


def prepare(model: CLIPSegForImageSegmentation, dtype: torch.dtype) -> FastCLIPSeg | None:
    """The fast form of a model on a CPU in float32 or bfloat16, or None where it cannot be had.

    The model itself stays in float32; `dtype` is that of the products.
    """
    patch = model.config.vision_config.patch_size
    pixels = torch.linspace(-2, 2, 3 * (4 * patch) ** 2).sin().view(1, 3, 4 * patch, 4 * patch)
    conditions = torch.linspace(-1, 1, 2 * model.config.projection_dim).view(2, -1)
    if dtype not in TOLERANCE:
        raise ValueError(f"On a CPU dtype is float32 or bfloat16, not {dtype}.")
    try:
        fast = FastCLIPSeg(model, dtype)
        found, expected = _both(model, fast, pixels, conditions)
    except (AttributeError, RuntimeError, NotImplementedError) as error:
        log.warning("no fast path on this machine (%s): using the plain one", error)
        return None
    off = float((found - expected).abs().max() / expected.std().clamp(min=1e-6))
    if not off < TOLERANCE[dtype]:
        log.warning("the fast path is off by %.2g of the logits' spread: using the plain one", off)
        return None
    return fast


@torch.inference_mode()
def _both(
    model: CLIPSegForImageSegmentation, fast: FastCLIPSeg, pixels: Tensor, conditions: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits of the fast path and of the modules."""
    grid = model.grid(pixels)
    plain = model.decoder(model.decoder.reduce(model.encode_image(pixels)), conditions, grid)
    return fast.decode(fast.encode(pixels), conditions, grid), plain


class Packed:
    """A linear layer in oneDNN's layout, with its activation fused in."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, act: str = "none"
    ) -> None:
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(dtype), None)
        self._bias = None if bias is None else bias.detach().to(dtype)
        self._act = act

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, self._act, [], ""
        )
        return y


class _Attention:
    def __init__(self, module: Attention, dtype: torch.dtype) -> None:
        self._heads = module.heads
        parts = (module.q_proj, module.k_proj, module.v_proj)
        scale = (module.q_proj.in_features // module.heads) ** -0.5
        weights = [p.weight.detach().float() for p in parts]
        biases = [p.bias.detach().float() for p in parts]
        weights[0], biases[0] = weights[0] * scale, biases[0] * scale
        self._qkv = Packed(torch.cat(weights), torch.cat(biases), dtype)
        self._out = Packed(module.out_proj.weight, module.out_proj.bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        b, length, width = x.shape
        qkv = self._qkv(x).view(b, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = (part.reshape(b * self._heads, length, -1) for part in qkv)
        weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
        mixed = torch.bmm(weights, v).view(b, self._heads, length, -1)
        return self._out(mixed.transpose(1, 2).reshape(b, length, width))


class _MLP:
    def __init__(self, module: MLP, dtype: torch.dtype) -> None:
        first, second = module.fc1, module.fc2
        if module.act is quick_gelu:
            self._first = Packed(first.weight * QUICK, first.bias * QUICK, dtype, "swish")
            self._second = Packed(second.weight / QUICK, second.bias, dtype)
        elif module.act is F.relu:
            self._first = Packed(first.weight, first.bias, dtype, "relu")
            self._second = Packed(second.weight, second.bias, dtype)
        else:
            raise NotImplementedError(f"no fused form of {module.act}")

    def __call__(self, x: Tensor) -> Tensor:
        return self._second(self._first(x))


class _Block:
    """A pre-norm or post-norm block; (B, L, D) float32 in and out."""

    def __init__(self, module: PreNormLayer, dtype: torch.dtype) -> None:
        self._post = isinstance(module, PostNormLayer)
        self._attention = _Attention(module.self_attn, dtype)
        self._mlp = _MLP(module.mlp, dtype)
        self._norm1, self._norm2 = module.layer_norm1, module.layer_norm2
        self._dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        if self._post:
            x = self._norm1(x + self._attention(x.to(self._dtype)))
            return self._norm2(x + self._mlp(x.to(self._dtype)))
        x = x + self._attention(self._norm1(x).to(self._dtype))
        return x + self._mlp(self._norm2(x).to(self._dtype))


class FastCLIPSeg:
    """The two halves that a segmenter runs: image to reduced activations, those to logits."""

    def __init__(self, model: CLIPSegForImageSegmentation, dtype: torch.dtype) -> None:
        vision = model.clip.vision_model
        wanted = model.config.extract_layers
        blocks = list(vision.encoder.blocks())[: max(wanted) + 1]
        self._model = model
        self._wanted = list(wanted)
        self._embeddings, self._norm = vision.embeddings, vision.pre_layrnorm
        self._blocks = [_Block(block, dtype) for block in blocks]
        self._steps = [_Block(step, dtype) for step in model.decoder.steps()]

    def encode(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> reduced activations, each (B, 1 + h*w, R), deepest first."""
        x = self._norm(self._embeddings(pixel_values))
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
        return self._model.decoder.run(self._steps, reduced, conditions, grid)
