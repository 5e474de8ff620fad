"""Transformer parts that every tower is made of, written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.outputs import Trace


def quick_gelu(x: Tensor) -> Tensor:
    """The sigmoid form of GELU that CLIP was trained with (github.com/openai/CLIP, model.py)."""
    return x * torch.sigmoid(1.702 * x)


def gelu_new(x: Tensor) -> Tensor:
    """The tanh form of GELU (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_new": gelu_new,
    "relu": F.relu,
    "selu": F.selu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function behind a `hidden_act`; ValueError names those there are."""
    if name not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {name!r}; known: {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]


def normal(tensor: Tensor, std: float) -> Tensor:
    """Drawn anew in place; not on "meta", where torch imports its compiler to draw nothing."""
    return tensor if tensor.is_meta else nn.init.normal_(tensor, std=std)


def table(count: int, width: int, std: float) -> nn.Embedding:
    """`count` vectors of `width` to look up, drawn anew."""
    drawn = normal(torch.empty(count, width), std)
    return nn.Embedding.from_pretrained(drawn, freeze=False)


class Attention(nn.Module):
    """Multi-head attention, to itself unless there is a context."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"Width {width} cannot be split into {heads} attention heads.")
        self.heads = heads
        self.dropout = dropout
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """Mix tokens: (B, L, D), from a context (B, K, D) if given -> (B, L, D).

        `mask` is True where attending is allowed.
        """
        context = x if context is None else context
        q = self._split(self.q_proj(x))
        k, v = self._split(self.k_proj(context)), self._split(self.v_proj(context))
        dropout = self.dropout if self.training else 0.0
        wanted = trace is not None and trace.wants_attentions
        # not infinity: a token that may attend to none would become NaN, and spread
        lowest = torch.finfo(q.dtype).min
        if wanted or (self.training and x.device.type == "cpu"):  # the fused backward is slower
            scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask, lowest)
            weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
            if trace is not None:
                trace.attention(weights)
            y = F.dropout(weights, dropout) @ v
        else:
            if mask is not None:  # as numbers: of truths, the kernel would give such a token zeros
                mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, lowest)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, A, L, D/A)


class MLP(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, width: int, hidden: int, act: str, out: int | None = None) -> None:
        super().__init__()
        self.act = activation(act)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), or to the width of the output."""
        return self.fc2(self.act(self.fc1(x)))


class PreNormLayer(nn.Module):
    """A block of CLIP's towers: normalise, mix, add."""

    def __init__(
        self, width: int, heads: int, hidden: int, act: str, eps: float, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, dropout)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, act)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def forward(self, x: Tensor, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.self_attn(self.layer_norm1(x), mask, trace=trace)
        return x + self.mlp(self.layer_norm2(x))

    def initialise(self, factor: float, depth: int) -> None:
        """CLIP's initialisation of one of `depth` blocks."""
        attention, mlp = self.self_attn, self.mlp
        width = attention.out_proj.in_features
        shrink = (2 * depth) ** -0.5 * factor
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
            normal(projection.weight, width**-0.5 * shrink)
        normal(attention.out_proj.weight, width**-0.5 * factor)
        normal(mlp.fc1.weight, (2 * width) ** -0.5 * factor)
        normal(mlp.fc2.weight, width**-0.5 * shrink)
        for module in (*attention.children(), *mlp.children()):
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


class PostNormLayer(PreNormLayer):
    """A block of CLIPSeg's decoder: the same parts, mix, add, then normalise."""

    def forward(self, x: Tensor, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = self.layer_norm1(x + self.self_attn(x, mask, trace=trace))
        return self.layer_norm2(x + self.mlp(x))


class Encoder(nn.Module):
    """A stack of pre-norm blocks."""

    def __init__(
        self,
        depth: int,
        width: int,
        heads: int,
        hidden: int,
        act: str,
        eps: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PreNormLayer(width, heads, hidden, act, eps, dropout) for _ in range(depth)
        )

    def initialise(self, factor: float) -> None:
        """CLIP's initialisation: residual branches shrink with depth (Radford et al. 2021)."""
        for layer in self.blocks():
            layer.initialise(factor, depth=len(self.layers))

    def blocks(self) -> Iterator[PreNormLayer]:
        """The blocks, first to last."""
        return (layer for layer in self.layers if isinstance(layer, PreNormLayer))

    def forward(self, x: Tensor, mask: Tensor | None = None, trace: Trace | None = None) -> Tensor:
        """All blocks: (B, L, D) -> (B, L, D)."""
        for layer in self.blocks():
            if trace is not None:
                trace.hidden(x)
            x = layer(x, mask, trace)
        if trace is not None:
            trace.hidden(x)
        return x
