"""CLIPSeg: a mask for a text or an image, from CLIP's activations and a small decoder.

Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", CVPR 2022
(arXiv 2112.10003), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.clip import VisionTower
from models.config import CLIPSegConfig, CLIPSegTextConfig, CLIPSegVisionConfig
from models.layers import PostNormLayer, normal
from models.outputs import (
    CLIPSegDecoderOutput,
    CLIPSegImageSegmentationOutput,
    CLIPSegOutput,
    Trace,
)
from models.pretrained import PretrainedModel
from models.towers import TextModel, TwoTowers, VisionModel


class CLIPSegTextModel(TextModel):
    """CLIPSeg's text tower alone."""

    config_class = CLIPSegTextConfig


class CLIPSegVisionModel(VisionModel):
    """CLIPSeg's vision tower alone; pooled is the normalised class token."""

    config_class = CLIPSegVisionConfig

    def __init__(self, config: CLIPSegVisionConfig) -> None:
        super().__init__(config)
        self.vision_model = VisionTower(config)


class CLIPSegModel(TwoTowers):
    """CLIP: two towers with linear projections into one space."""

    config_class = CLIPSegConfig
    vision_model: VisionTower

    def __init__(self, config: CLIPSegConfig) -> None:
        super().__init__(config)
        text, vision = config.text_config, config.vision_config
        self.vision_model = VisionTower(vision)
        self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
        for projection in (self.visual_projection, self.text_projection):
            normal(projection.weight, projection.in_features**-0.5)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        return_loss: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CLIPSegOutput | tuple[Any, ...]:
        """Texts (N, L) and images (B, 3, H, W) -> similarities, and CLIP's loss if asked for."""
        asked = output_attentions, output_hidden_states
        vision = self.vision_model(pixel_values, self._trace(*asked))
        text = self.text_model(input_ids, attention_mask, position_ids, self._trace(*asked))
        output = CLIPSegOutput(**self._compare(text, vision, return_loss))
        return self._answer(output, return_dict)


class Decoder(nn.Module):
    """Reduced activations, modulated by a condition (FiLM), to one logit per pixel.

    Activations arrive deepest first: step 0 reads the last of `extract_layers`. The condition is
    applied at step `conditional_layer`.
    """

    def __init__(self, config: CLIPSegConfig) -> None:
        super().__init__()
        width, vision = config.reduce_dim, config.vision_config
        steps, patch = len(config.extract_layers), vision.patch_size
        self.conditional_layer = config.conditional_layer
        self.film_mul = nn.Linear(config.projection_dim, width)
        self.film_add = nn.Linear(config.projection_dim, width)
        self.transposed_convolution: nn.Module
        if config.use_complex_transposed_convolution:
            self.transposed_convolution = nn.Sequential(
                nn.Conv2d(width, width, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.ConvTranspose2d(width, width // 2, kernel_size=patch // 4, stride=patch // 4),
                nn.ReLU(),
                nn.ConvTranspose2d(width // 2, 1, kernel_size=patch // 4, stride=patch // 4),
            )
        else:
            self.transposed_convolution = nn.ConvTranspose2d(width, 1, patch, stride=patch)
        self.reduces = nn.ModuleList(nn.Linear(vision.hidden_size, width) for _ in range(steps))
        # ReLU whatever `decoder_hidden_act` says: that is how the published weights were trained.
        self.layers = nn.ModuleList(
            PostNormLayer(
                width,
                config.decoder_num_attention_heads,
                config.decoder_intermediate_size,
                "relu",
                vision.layer_norm_eps,
                config.decoder_attention_dropout,
            )
            for _ in range(steps)
        )

    def reduce(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """The prompt-independent part: each (B, T, D) -> (B, T, R), deepest first."""
        deepest_first = list(activations)[::-1]
        return [r(a) for r, a in zip(self.reduces, deepest_first, strict=True)]

    def steps(self) -> list[PostNormLayer]:
        """The transformer blocks, in the order of the steps."""
        return [layer for layer in self.layers if isinstance(layer, PostNormLayer)]

    def forward(
        self,
        reduced: Sequence[Tensor],
        conditions: Tensor,
        grid: tuple[int, int],
        trace: Trace | None = None,
    ) -> Tensor:
        """Reduced (B, T, R) and conditions (B, C) -> logits (B, H, W); B may broadcast from 1."""
        trace = trace or Trace()
        steps = [partial(step, trace=trace) for step in self.steps()]
        x = self.mix(steps, reduced, conditions, trace)
        cells = x[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, R, h, w), class token dropped
        return self.transposed_convolution(cells).squeeze(1)

    def mix(
        self,
        steps: Sequence[Callable[[Tensor], Tensor]],
        reduced: Sequence[Tensor],
        conditions: Tensor,
        trace: Trace | None = None,
    ) -> Tensor:
        """The states before the head, by any implementation of the blocks: (B, T, R)."""
        x = reduced[0]
        for index, step in enumerate(steps):
            if index:
                x = x + reduced[index]
            if index == self.conditional_layer:
                x = self.film_mul(conditions)[:, None] * x + self.film_add(conditions)[:, None]
            x = step(x)
            if trace is not None:
                trace.hidden(x)
        return x


class CLIPSegForImageSegmentation(PretrainedModel):
    """CLIPSeg with the parameter names of the published checkpoints.

    The parts that a caller may want apart are methods: `encode_image` does not depend on a
    prompt, `get_conditional_embeddings` does not depend on the image, `decode` joins them.
    """

    config_class = CLIPSegConfig

    def __init__(self, config: CLIPSegConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = CLIPSegModel(config)
        self.decoder = Decoder(config)

    def grid(self, pixel_values: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of an input (B, 3, H, W)."""
        patch = self.config.vision_config.patch_size
        return pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch

    def encode_image(self, pixel_values: Tensor) -> list[Tensor]:
        """Activations of the blocks in `extract_layers`: (B, 3, H, W) -> each (B, 1 + h*w, D)."""
        return self.clip.vision_model.activations(pixel_values, self.config.extract_layers)

    def get_conditional_embeddings(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        conditional_pixel_values: Tensor | None = None,
    ) -> Tensor:
        """Texts (N, L) or prepared exemplars (N, 3, H, W) -> conditions (N, C), not normalised.

        The decoder was trained on the projections as they are (paper, section 3.1).
        """
        if input_ids is not None and conditional_pixel_values is None:
            return self.clip.get_text_features(input_ids, attention_mask, position_ids)
        if conditional_pixel_values is not None and input_ids is None:
            return self.clip.get_image_features(conditional_pixel_values)
        raise ValueError("Give either input_ids or conditional_pixel_values.")

    def decode(
        self,
        activations: Sequence[Tensor],
        conditions: Tensor,
        grid: tuple[int, int] | None = None,
    ) -> Tensor:
        """Activations (B, 1 + h*w, D) and conditions (B, C) -> logits (B, H, W).

        `grid` is (h, w); without it a square input is assumed.
        """
        side = round((activations[0].shape[1] - 1) ** 0.5)
        return self.decoder(self.decoder.reduce(activations), conditions, grid or (side, side))

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        conditional_pixel_values: Tensor | None = None,
        conditional_embeddings: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CLIPSegImageSegmentationOutput | tuple[Any, ...]:
        """Images (B, 3, H, W), each with one condition -> logits (B, H, W); with labels, a loss.

        Exactly one of `input_ids` (B, L), `conditional_pixel_values` (B, 3, H, W) and
        `conditional_embeddings` (B, C) says what to look for. Labels are floats in [0, 1] of the
        logits' shape. Only the decoder gets gradients: CLIP stays as it is (paper, section 3).

        Raises:
            ValueError: none or several conditions, or not one per image.
        """
        if pixel_values is None:
            raise ValueError("Give pixel_values.")
        wants_hidden = self.config.switch("output_hidden_states", output_hidden_states)
        with torch.no_grad():
            seen = self._trace(output_attentions, True)
            vision = self.clip.vision_model(pixel_values, seen)
            pooled = self.clip.visual_projection(vision.pooler_output)
            conditions = self._conditions(
                len(pixel_values),
                conditional_embeddings,
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                conditional_pixel_values=conditional_pixel_values,
            )
        states = vision.hidden_states or ()
        activations = [states[block + 1] for block in self.config.extract_layers]
        trace = self._trace(output_attentions, output_hidden_states)
        reduced = self.decoder.reduce(activations)
        logits = self.decoder(reduced, conditions, self.grid(pixel_values), trace)
        loss = None
        if labels is not None:
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        output = CLIPSegImageSegmentationOutput(
            loss=loss,
            logits=logits,
            conditional_embeddings=conditions,
            pooled_output=pooled,
            vision_model_output=replace(
                vision, hidden_states=vision.hidden_states if wants_hidden else None
            ),
            decoder_output=CLIPSegDecoderOutput(logits, trace.hidden_states, trace.attentions),
        )
        return self._answer(output, return_dict)

    def _conditions(
        self, images: int, embeddings: Tensor | None, **encodable: Tensor | None
    ) -> Tensor:
        kinds = (embeddings, encodable["input_ids"], encodable["conditional_pixel_values"])
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError(
                "Give exactly one of input_ids, conditional_pixel_values and "
                "conditional_embeddings."
            )
        given = next(kind for kind in kinds if kind is not None)
        if len(given) != images:
            raise ValueError(
                f"There are {len(given)} conditions for {images} images: give one per image."
            )
        if embeddings is None:
            return self.get_conditional_embeddings(**encodable)
        if embeddings.shape[1] != self.config.projection_dim:
            raise ValueError(
                f"conditional_embeddings have {embeddings.shape[1]} values each, where the "
                f"model's projection_dim is {self.config.projection_dim}."
            )
        return embeddings
