"""Transformer blocks for CPUs: the weights of `models.layers`, laid out and fused for speed.

- Weights lie in oneDNN's own layout, packed once; activations are fused into their products
  (`x * sigmoid(1.702 x)` is SiLU once 1.702 is folded into the weights around it).
- Queries, keys and values come from one product.
- Attention in bfloat16 is written out, which beats torch's fused kernel on CPUs; in float32 the
  fused kernel wins.
- In bfloat16, products and attention are; residuals and normalisation stay in float32.

The packed product is a private operator of torch: `models.fast` checks it before it is used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.layers import MLP, Attention, PostNormLayer, PreNormLayer, quick_gelu

QUICK = 1.702  # of quick_gelu
FUSED = {F.relu: "relu", F.gelu: "gelu"}


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
        # the last argument chooses gelu's form: "none" is the exact one
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, self._act, [], "none" if self._act == "gelu" else ""
        )
        return y


class PackedAttention:
    """Self-attention with one product for queries, keys and values."""

    def __init__(self, module: Attention, dtype: torch.dtype) -> None:
        self._heads = module.heads
        self._written_out = dtype == torch.bfloat16
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
        q, k, v = self._qkv(x).view(b, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        if self._written_out:
            flat = (part.reshape(b * self._heads, length, -1) for part in (q, k, v))
            mixed = _attend(*flat).view(b, self._heads, length, -1)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self._out(mixed.transpose(1, 2).reshape(b, length, width))


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled queries, keys, values (B*A, L, d) -> (B*A, L, d)."""
    return torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1), v)


class PackedMLP:
    """Two products with the activation inside the first."""

    def __init__(self, module: MLP, dtype: torch.dtype) -> None:
        first, second = module.fc1, module.fc2
        if module.act is quick_gelu:
            self._first = Packed(first.weight * QUICK, first.bias * QUICK, dtype, "swish")
            self._second = Packed(second.weight / QUICK, second.bias, dtype)
        elif module.act in FUSED:
            self._first = Packed(first.weight, first.bias, dtype, FUSED[module.act])
            self._second = Packed(second.weight, second.bias, dtype)
        else:
            raise NotImplementedError(f"no fused form of {module.act}")

    def __call__(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self._second(self._first(x))


class PackedBlock(nn.Module):
    """A pre-norm or post-norm block; (B, L, D) float32 in and out."""

    def __init__(self, module: PreNormLayer, dtype: torch.dtype) -> None:
        super().__init__()
        self._post = isinstance(module, PostNormLayer)
        self._attention = PackedAttention(module.self_attn, dtype)
        self._mlp = PackedMLP(module.mlp, dtype)
        self._norm1, self._norm2 = module.layer_norm1, module.layer_norm2
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        if self._post:
            x = self._norm1(x + self._attention(x.to(self._dtype)))
            return self._norm2(x + self._mlp(x.to(self._dtype)))
        x = x + self._attention(self._norm1(x).to(self._dtype))
        return x + self._mlp(self._norm2(x).to(self._dtype))


class PackedLinear(nn.Module):
    """A linear layer amid modules; float32 in and out."""

    def __init__(self, module: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self._product = Packed(module.weight, module.bias, dtype)
        self._dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D')."""
        return self._product(x.to(self._dtype)).float()


class PackedPatches:
    """Patches as one product: what a convolution with stride = kernel is."""

    def __init__(self, module: nn.Conv2d, dtype: torch.dtype) -> None:
        self._side = int(module.kernel_size[0])
        self._product = Packed(module.weight.flatten(1), module.bias, dtype)
        self._dtype = dtype

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h*w, D) in float32."""
        side = self._side
        cells = pixels.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, 3, h, p, w, p)
        rows = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return self._product(rows.to(self._dtype)).float()


class PackedUpsampling:
    """A transposed convolution with stride = kernel is one product and a rearrangement."""

    def __init__(self, module: nn.ConvTranspose2d, dtype: torch.dtype, act: str = "none") -> None:
        self._side = int(module.kernel_size[0])
        weight = module.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (k * k * out, in)
        bias = None if module.bias is None else module.bias.repeat(self._side**2)
        self._product = Packed(weight, bias, dtype, act)

    def __call__(self, cells: Tensor) -> Tensor:
        """(B, h, w, D) -> (B, h * k, w * k, D')."""
        side = self._side
        grown = self._product(cells).unflatten(3, (side, side, -1))  # (B, h, w, k, k, D')
        return grown.transpose(2, 3).flatten(3, 4).flatten(1, 2)
