"""GroupViT: segments that emerge from grouping patches, named by texts.

Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022
(arXiv 2202.11094). Patches are grouped in stages: learned group tokens gather patches by
attention, each patch goes to one group, and the groups are the next stage's tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.clip import check_patches, interpolated
from models.config import GroupViTConfig, GroupViTTextConfig, GroupViTVisionConfig
from models.layers import MLP, Attention, PreNormLayer
from models.outputs import BaseModelOutputWithPooling, GroupViTModelOutput, Trace
from models.towers import TextModel, TwoTowers, VisionModel, unit


class PatchProjection(nn.Module):
    """Patches to vectors."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, size, stride=size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h*w, D)."""
        return self.projection(pixel_values).flatten(2).transpose(1, 2)


class PatchEmbeddings(nn.Module):
    """Normalised patches with positions; there is no class token."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.native = config.image_size // config.patch_size
        self.patch_embeddings = PatchProjection(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        # zeros would leave all positions, and so all groups, alike (paper's code: 0.02)
        self.position_embeddings = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(1, self.native**2, config.hidden_size), std=0.02)
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, h*w, D)."""
        check_patches(pixel_values, self.patch_size)
        rows, columns = (side // self.patch_size for side in pixel_values.shape[-2:])
        tokens = self.layernorm(self.patch_embeddings(pixel_values))
        positions = interpolated(self.position_embeddings[0], self.native, rows, columns)
        return self.dropout(tokens + positions)


class MixerMLP(MLP):
    """An MLP over the tokens instead of over their values (Tolstikhin et al., 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L', D)."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class CrossAttentionLayer(nn.Module):
    """Group tokens look at image tokens."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.attn = Attention(width, config.num_attention_heads, config.attention_dropout)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)
        self.norm_post = nn.LayerNorm(width, eps=eps)

    def forward(self, groups: Tensor, image: Tensor) -> Tensor:
        """Groups (B, G, D) and image tokens (B, L, D) -> groups (B, G, D)."""
        groups = groups + self.attn(groups, context=image)
        return self.norm_post(groups + self.mlp(self.norm2(groups)))


class Assignment(nn.Module):
    """Each image token goes to one group; a group's value is the mean of what went there."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.scale = width**-0.5
        self.assign_eps = config.assign_eps
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, groups: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Groups (B, G, D), image tokens (B, L, D) -> values (B, G, D), soft map (B, G, L)."""
        raw = self.q_proj(groups) @ self.k_proj(image).transpose(1, 2) * self.scale
        soft = raw.softmax(dim=1)
        hard = self._hard(raw, soft)
        shares = hard / (hard.sum(dim=-1, keepdim=True) + self.assign_eps)
        return self.proj(shares @ self.v_proj(image)), soft

    def _hard(self, raw: Tensor, soft: Tensor) -> Tensor:
        """One group per token, with the soft map's gradient; drawn by Gumbel noise in training."""
        if self.training:
            return F.gumbel_softmax(raw, tau=1.0, hard=True, dim=1)
        winner = raw.argmax(dim=1, keepdim=True)
        one_hot = torch.zeros_like(raw).scatter_(1, winner, 1.0)
        return one_hot + soft - soft.detach()


class GroupingBlock(nn.Module):
    """From many tokens to few: the paper's grouping block (section 3.1)."""

    def __init__(self, config: GroupViTVisionConfig, tokens: int, groups: int) -> None:
        super().__init__()
        width, eps, act = config.hidden_size, config.layer_norm_eps, config.hidden_act
        across, along = (int(ratio * width) for ratio in config.assign_mlp_ratio)
        self.norm_tokens = nn.LayerNorm(width, eps=eps)
        self.mlp_inter = MixerMLP(tokens, across, act, out=groups)
        self.norm_post_tokens = nn.LayerNorm(width, eps=eps)
        self.norm_x = nn.LayerNorm(width, eps=eps)
        self.pre_assign_attn = CrossAttentionLayer(config)
        self.assign = Assignment(config)
        self.norm_new_x = nn.LayerNorm(width, eps=eps)
        self.mlp_channels = MLP(width, along, act)

    def forward(self, image: Tensor, group_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Image (B, L, D), group tokens (B, T, D) -> new tokens (B, G, D), map (B, G, L)."""
        groups = self.norm_post_tokens(self.mlp_inter(self.norm_tokens(group_tokens)))
        image = self.norm_x(image)
        groups = self.pre_assign_attn(groups, image)
        values, soft = self.assign(groups, image)
        new = values + groups
        return new + self.mlp_channels(self.norm_new_x(new)), soft


class Stage(nn.Module):
    """Blocks over image and group tokens together, then grouping if there are group tokens."""

    def __init__(self, config: GroupViTVisionConfig, index: int) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        tokens = config.num_group_tokens[index]
        before = config.num_group_tokens[index - 1] if index else 0
        self.group_token = self.downsample = self.group_projector = None
        if tokens:
            start = torch.zeros(1, tokens, width)
            # a projection of the previous groups tells these apart; the first have nothing else
            self.group_token = nn.Parameter(
                start if before else nn.init.trunc_normal_(start, std=0.02)
            )
            self.downsample = GroupingBlock(config, tokens, config.num_output_groups[index])
        if tokens and before:
            self.group_projector = nn.Sequential(
                nn.LayerNorm(width, eps=eps),
                MixerMLP(before, width // 2, config.hidden_act, out=tokens),
            )
        self.layers = nn.ModuleList(
            PreNormLayer(
                width,
                config.num_attention_heads,
                config.intermediate_size,
                config.hidden_act,
                eps,
                config.attention_dropout,
            )
            for _ in range(config.depths[index])
        )

    def blocks(self) -> Iterator[PreNormLayer]:
        """The blocks before grouping, first to last."""
        return (layer for layer in self.layers if isinstance(layer, PreNormLayer))

    def forward(
        self, image: Tensor, previous: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Image (B, L, D), previous group tokens -> image (B, L', D), groups, soft map."""
        groups: Tensor | None = None
        if self.group_token is not None:
            groups = self.group_token.expand(len(image), -1, -1)
            if self.group_projector is not None:
                groups = groups + self.group_projector(previous)
        length = image.shape[1]
        x = image if groups is None else torch.cat([image, groups], dim=1)
        for layer in self.layers:
            x = layer(x)
        if self.downsample is None:
            return x, None, None
        image, groups = x[:, :length], x[:, length:]
        image, soft = self.downsample(image, groups)
        return image, groups, soft


class StageStack(nn.Module):
    """All stages."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(config, i) for i in range(len(config.depths)))

    def blocks(self) -> Iterator[Stage]:
        """The stages, first to last."""
        return (stage for stage in self.stages if isinstance(stage, Stage))

    def forward(self, x: Tensor, trace: Trace) -> Tensor:
        """(B, L, D) -> (B, G, D), one token per group of the last grouping stage."""
        groups: Tensor | None = None
        for stage in self.blocks():
            trace.hidden(x)
            x, groups, soft = stage(x, groups)
            if soft is not None:
                trace.attention(soft)
        trace.hidden(x)
        return x


class GroupingTower(nn.Module):
    """Pixels to groups."""

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__()
        self.embeddings = PatchEmbeddings(config)
        self.encoder = StageStack(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, pixel_values: Tensor, trace: Trace | None = None
    ) -> BaseModelOutputWithPooling:
        """(B, 3, H, W) -> groups (B, G, D), their mean (B, D); attentions are the soft maps."""
        trace = trace or Trace()
        groups = self.layernorm(self.encoder(self.embeddings(pixel_values), trace))
        pooled = groups.mean(dim=1)
        return BaseModelOutputWithPooling(groups, pooled, trace.hidden_states, trace.attentions)


class GroupViTTextModel(TextModel):
    """GroupViT's text tower alone."""

    config_class = GroupViTTextConfig


class GroupViTVisionModel(VisionModel):
    """GroupViT's vision tower alone; pooled is the mean of the groups."""

    config_class = GroupViTVisionConfig

    def __init__(self, config: GroupViTVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = GroupingTower(config)


class GroupViTModel(TwoTowers):
    """Both towers with their projections."""

    config_class = GroupViTConfig
    vision_model: GroupingTower

    def __init__(self, config: GroupViTConfig) -> None:
        super().__init__(config)
        self.vision_model = GroupingTower(config.vision_config)
        self.visual_projection = self._projection(config.vision_config.hidden_size)
        self.text_projection = self._projection(config.text_config.hidden_size)

    def _projection(self, width: int) -> nn.Sequential:
        between = self.config.projection_intermediate_dim
        return nn.Sequential(
            nn.Linear(width, between),
            nn.BatchNorm1d(between),
            nn.ReLU(),
            nn.Linear(between, self.config.projection_dim),
        )

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_segmentation: bool | None = None,
        return_dict: bool | None = None,
    ) -> GroupViTModelOutput | tuple[Any, ...]:
        """Texts (N, L) and images (B, 3, H, W) -> similarities; logits per pixel if asked for."""
        segment = self.config.switch("output_segmentation", output_segmentation)
        asked = (segment or output_attentions, output_hidden_states)
        vision = self.vision_model(pixel_values, self._trace(*asked))
        text = self.text_model(input_ids, attention_mask, position_ids, self._trace(*asked))
        compared = self._compare(text, vision, return_loss)
        logits = self._pixels(vision, compared["text_embeds"], pixel_values) if segment else None
        output = GroupViTModelOutput(segmentation_logits=logits, **compared)
        return self._answer(output, return_dict)

    def _pixels(
        self, vision: BaseModelOutputWithPooling, text_embeds: Tensor, pixel_values: Tensor
    ) -> Tensor:
        """Documented segmentation logits (B, N, H, W); they carry the scale twice."""
        scale = self.logit_scale.exp()
        likeness = self.group_similarity(vision.last_hidden_state, text_embeds) * scale
        maps = self.group_maps(vision.attentions or (), pixel_values)
        full = F.interpolate(maps, pixel_values.shape[-2:], mode="bilinear", align_corners=False)
        return torch.einsum("bgn,bghw->bnhw", likeness, full) * scale

    def group_similarity(self, groups: Tensor, text_embeds: Tensor) -> Tensor:
        """Cosine of groups (B, G, D) and texts (N, C) -> (B, G, N)."""
        embeds = unit(self.visual_projection(groups.flatten(0, 1)))
        return (embeds @ text_embeds.T).unflatten(0, groups.shape[:2])

    def group_maps(self, soft: Sequence[Tensor], pixel_values: Tensor) -> Tensor:
        """Which group a patch belongs to, through all stages: (B, G, h, w), sums of one."""
        total = soft[0]
        for _, later in pairwise(soft):
            total = later @ total
        patch = self.config.vision_config.patch_size
        return total.unflatten(2, tuple(side // patch for side in pixel_values.shape[-2:]))
