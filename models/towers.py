"""Models of towers: one alone, or two whose projections are compared.

CLIPSeg's and GroupViT's documented classes are these, with their own configurations and parts.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.clip import TextTower
from models.outputs import BaseModelOutputWithPooling
from models.pretrained import PretrainedModel


class TextModel(PretrainedModel):
    """A text tower alone."""

    part = "text_config"

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Token ids (N, L) -> states (N, L, D), pooled at the end of text (N, D)."""
        trace = self._trace(output_attentions, output_hidden_states)
        output = self.text_model(input_ids, attention_mask, position_ids, trace)
        return self._answer(output, return_dict)


class VisionModel(PretrainedModel):
    """A vision tower alone; subclasses make it."""

    part = "vision_config"
    vision_model: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPooling | tuple[Any, ...]:
        """Pixels (B, 3, H, W) -> states (B, L, D), pooled (B, D)."""
        trace = self._trace(output_attentions, output_hidden_states)
        return self._answer(self.vision_model(pixel_values, trace), return_dict)


class TwoTowers(PretrainedModel):
    """Texts and images in one space; subclasses make the vision tower and the projections."""

    vision_model: nn.Module
    visual_projection: nn.Module
    text_projection: nn.Module

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config.text_config)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Texts (N, L) -> projections (N, C), not normalised.

        The last three arguments are documented and change nothing: the result is a tensor.
        """
        pooled = self.text_model(input_ids, attention_mask, position_ids).pooler_output
        return self.text_projection(pooled)

    def get_image_features(
        self,
        pixel_values: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Tensor:
        """Images (B, 3, H, W) -> projections (B, C), not normalised.

        The last three arguments are documented and change nothing: the result is a tensor.
        """
        return self.visual_projection(self.vision_model(pixel_values).pooler_output)

    def _compare(
        self,
        text: BaseModelOutputWithPooling,
        vision: BaseModelOutputWithPooling,
        return_loss: bool | None,
    ) -> dict[str, Any]:
        """The fields that every comparison has, by their documented names."""
        image_embeds = unit(self.visual_projection(vision.pooler_output))
        text_embeds = unit(self.text_projection(text.pooler_output))
        logits_per_text = text_embeds @ image_embeds.T * self.logit_scale.exp()
        return {
            "loss": contrastive_loss(logits_per_text) if return_loss else None,
            "logits_per_image": logits_per_text.T,
            "logits_per_text": logits_per_text,
            "text_embeds": text_embeds,
            "image_embeds": image_embeds,
            "text_model_output": text,
            "vision_model_output": vision,
        }


def unit(x: Tensor) -> Tensor:
    """Vectors of length one: (..., D) -> (..., D)."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def contrastive_loss(logits_per_text: Tensor) -> Tensor:
    """CLIP's loss on similarities (N, N): the diagonal should win in rows and in columns."""
    target = torch.arange(len(logits_per_text), device=logits_per_text.device)
    by_text = F.cross_entropy(logits_per_text, target)
    return (by_text + F.cross_entropy(logits_per_text.T, target)) / 2
