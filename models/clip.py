"""CLIP's two towers, with the parameter names of the published checkpoints.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import CLIPSegTextConfig, CLIPSegVisionConfig, GroupViTTextConfig
from models.layers import Encoder, normal, table
from models.outputs import BaseModelOutputWithPooling, Trace

# Configurations written before the end-of-text id was stored correctly carry this value, and
# their checkpoints pool at the largest id instead (huggingface/transformers pull request 24773).
LEGACY_EOS = 2


class TextEmbeddings(nn.Module):
    """Token plus position embeddings."""

    def __init__(self, config: CLIPSegTextConfig | GroupViTTextConfig) -> None:
        super().__init__()
        width, spread = config.hidden_size, config.initializer_range
        self.token_embedding = table(config.vocab_size, width, spread)
        self.position_embedding = table(config.max_position_embeddings, width, spread)

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """(N, L) ids -> (N, L, D); positions count from 0 unless they are given."""
        length, limit = input_ids.shape[-1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(f"A text of {length} tokens is longer than the tower's {limit}.")
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device)
        return self.token_embedding(input_ids) + self.position_embedding(position_ids)


class TextTower(nn.Module):
    """Token ids to hidden states, and to one vector per text."""

    def __init__(self, config: CLIPSegTextConfig | GroupViTTextConfig) -> None:
        super().__init__()
        self.eos_token_id = config.eos_token_id
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.hidden_act,
            config.layer_norm_eps,
            config.attention_dropout,
        )
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder.initialise(config.initializer_factor)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        trace: Trace | None = None,
    ) -> BaseModelOutputWithPooling:
        """(N, L) ids -> normalised states (N, L, D), pooled at the end of text (N, D)."""
        trace = trace or Trace()
        n, length = input_ids.shape
        mask = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None, :].bool()  # (N, 1, L, L)
        x = self.encoder(self.embeddings(input_ids, position_ids), mask, trace)
        x = self.final_layer_norm(x)
        pooled = x[torch.arange(n, device=x.device), self._end(input_ids)]
        return BaseModelOutputWithPooling(x, pooled, trace.hidden_states, trace.attentions)

    def _end(self, input_ids: Tensor) -> Tensor:
        if self.eos_token_id == LEGACY_EOS:
            return input_ids.argmax(dim=-1)
        return (input_ids == self.eos_token_id).int().argmax(dim=-1)


def check_patches(pixel_values: Tensor, patch_size: int) -> None:
    """Raise ValueError for an input that patches do not fill."""
    height, width = pixel_values.shape[-2:]
    if height % patch_size or width % patch_size or not height or not width:
        raise ValueError(
            f"An input of {height}x{width} pixels is not a multiple of the patch size {patch_size}."
        )


def interpolated(positions: Tensor, side: int, height: int, width: int) -> Tensor:
    """Positions of a grid (side*side, D) for another one: (height*width, D)."""
    if (height, width) == (side, side):
        return positions
    grid = positions.T.unflatten(1, (side, side))[None].float()
    resized = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return resized[0].flatten(1).T.to(positions.dtype)


class VisionEmbeddings(nn.Module):
    """Patches and a class token, with positions."""

    def __init__(self, config: CLIPSegVisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.native = config.image_size // config.patch_size
        spread = config.hidden_size**-0.5 * config.initializer_factor
        self.class_embedding = nn.Parameter(normal(torch.empty(config.hidden_size), spread))
        self.patch_embedding = nn.Conv2d(
            config.num_channels,
            config.hidden_size,
            kernel_size=config.patch_size,
            stride=config.patch_size,
            bias=False,
        )
        self.position_embedding = table(self.native**2 + 1, config.hidden_size, spread)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + h*w, D) with h, w = H, W over the patch size."""
        check_patches(pixel_values, self.patch_size)
        patches = self.patch_embedding(pixel_values)  # (B, D, h, w)
        tokens = patches.flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(tokens.shape[0], 1, -1)
        return torch.cat([cls, tokens], dim=1) + self.positions(*patches.shape[-2:])

    def positions(self, height: int, width: int) -> Tensor:
        """Positions of the class token and of a grid: (1 + h*w, D)."""
        weight = self.position_embedding.weight
        return torch.cat([weight[:1], interpolated(weight[1:], self.native, height, width)])


class VisionTower(nn.Module):
    """Pixels to hidden states, to one vector per image, or to activations of chosen blocks."""

    def __init__(self, config: CLIPSegVisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # sic
        self.encoder = Encoder(
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.hidden_act,
            config.layer_norm_eps,
            config.attention_dropout,
        )
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder.initialise(config.initializer_factor)

    def forward(
        self, pixel_values: Tensor, trace: Trace | None = None
    ) -> BaseModelOutputWithPooling:
        """(B, 3, H, W) -> states (B, 1 + h*w, D), normalised class token (B, D)."""
        trace = trace or Trace()
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixel_values)), trace=trace)
        pooled = self.post_layernorm(x[:, 0])
        return BaseModelOutputWithPooling(x, pooled, trace.hidden_states, trace.attentions)

    def activations(self, pixel_values: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of the 0-based `blocks`, each (B, 1 + h*w, D); later blocks are not run."""
        x = self.pre_layrnorm(self.embeddings(pixel_values))
        outputs: list[Tensor] = []
        for layer in islice(self.encoder.blocks(), max(blocks) + 1):
            x = layer(x)
            outputs.append(x)
        return [outputs[i] for i in blocks]
