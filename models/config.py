"""Configurations of the models; field names are the keys of a published `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


class _FromKeys:
    """Construction from a mapping that may hold more than we use."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """Keep the keys we know; the rest of a published file describes its training."""
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{key: value for key, value in raw.items() if key in known})


@dataclass(slots=True)
class CLIPSegTextConfig(_FromKeys):
    """The text tower."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int = 1
    bos_token_id: int = 49406
    eos_token_id: int = 49407


@dataclass(slots=True)
class CLIPSegVisionConfig(_FromKeys):
    """The vision tower."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0


@dataclass(slots=True)
class CLIPSegConfig(_FromKeys):
    """Both towers and the decoder; the towers may be given as mappings."""

    text_config: CLIPSegTextConfig = field(default_factory=CLIPSegTextConfig)
    vision_config: CLIPSegVisionConfig = field(default_factory=CLIPSegVisionConfig)
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592
    extract_layers: list[int] = field(default_factory=lambda: [3, 6, 9])
    reduce_dim: int = 64
    decoder_num_attention_heads: int = 4
    decoder_attention_dropout: float = 0.0
    decoder_hidden_act: str = "quick_gelu"
    decoder_intermediate_size: int = 2048
    conditional_layer: int = 0
    use_complex_transposed_convolution: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.text_config, Mapping):
            self.text_config = CLIPSegTextConfig.from_dict(self.text_config)
        if isinstance(self.vision_config, Mapping):
            self.vision_config = CLIPSegVisionConfig.from_dict(self.vision_config)
        depth = self.vision_config.num_hidden_layers
        if not self.extract_layers or not all(0 <= i < depth for i in self.extract_layers):
            raise ValueError(
                f"extract_layers {self.extract_layers} must name blocks of the vision tower, "
                f"which has {depth} (0 to {depth - 1})."
            )
        if not 0 <= self.conditional_layer < len(self.extract_layers):
            raise ValueError(
                f"conditional_layer {self.conditional_layer} must be one of the decoder's "
                f"{len(self.extract_layers)} steps, counted from 0."
            )

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, readable by other implementations."""
        raw = asdict(self)
        raw["text_config"]["model_type"] = "clipseg_text_model"
        raw["vision_config"]["model_type"] = "clipseg_vision_model"
        return {"model_type": "clipseg", **raw}
