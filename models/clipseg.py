"""CLIPSeg: a mask for a text or an image, from CLIP's activations and a small decoder.

Lüddecke and Ecker, "Image Segmentation Using Text and Image Prompts", CVPR 2022
(arXiv 2112.10003), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from models import checkpoint
from models.clip import TextTower, VisionTower
from models.config import CLIPSegConfig
from models.layers import PostNormLayer


class CLIP(nn.Module):
    """The frozen backbone: two towers with projections into one space."""

    def __init__(self, config: CLIPSegConfig) -> None:
        super().__init__()
        text, vision = config.text_config, config.vision_config
        self.text_model = TextTower(text)
        self.vision_model = VisionTower(vision)
        self.visual_projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, config.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        for projection in (self.visual_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)


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

    def forward(
        self, reduced: Sequence[Tensor], conditions: Tensor, grid: tuple[int, int]
    ) -> Tensor:
        """Reduced (B, T, R) and conditions (B, C) -> logits (B, H, W); B may broadcast from 1."""
        x = reduced[0]
        for step, layer in enumerate(self.layers):
            if step:
                x = x + reduced[step]
            if step == self.conditional_layer:
                x = self.film_mul(conditions)[:, None] * x + self.film_add(conditions)[:, None]
            x = layer(x)
        cells = x[:, 1:].transpose(1, 2).unflatten(2, grid)  # (B, R, h, w), class token dropped
        return self.transposed_convolution(cells).squeeze(1)


class CLIPSegForImageSegmentation(nn.Module):
    """CLIPSeg with the parameter names of the published checkpoints.

    The parts that a caller may want apart are methods: `encode_image` does not depend on a
    prompt, `get_conditional_embeddings` does not depend on the image, `decode` joins them.
    """

    def __init__(self, config: CLIPSegConfig) -> None:
        super().__init__()
        self.config = config
        self.clip = CLIP(config)
        self.decoder = Decoder(config)

    @classmethod
    def from_pretrained(cls, id_or_folder: str | Path) -> Self:
        """Load from a folder or a hub id, strictly; CheckpointError says what does not fit."""
        folder = checkpoint.locate(id_or_folder)
        model = cls(checkpoint.read_config(folder, CLIPSegConfig))
        checkpoint.load_weights(model, folder)
        return model.eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write `config.json` and `model.safetensors` as other implementations read them."""
        checkpoint.save(self, self.config.to_dict(), Path(folder), dtype)

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
        conditional_pixel_values: Tensor | None = None,
    ) -> Tensor:
        """Texts (N, L) or prepared exemplars (N, 3, H, W) -> conditions (N, C), not normalised.

        The decoder was trained on the projections as they are (paper, section 3.1).
        """
        if (input_ids is None) == (conditional_pixel_values is None):
            raise ValueError("Give either input_ids or conditional_pixel_values.")
        if input_ids is not None:
            return self.clip.text_projection(self.clip.text_model(input_ids, attention_mask))
        return self.clip.visual_projection(self.clip.vision_model(conditional_pixel_values))

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
