"""What the models return: attribute access, and the documented order for `return_dict=False`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class ModelOutput:
    """Fields by attribute, by name or by position; those that are None have no position."""

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are there, in order; outputs inside become tuples too."""
        values = (getattr(self, f.name) for f in fields(self))
        return tuple(
            value.to_tuple() if isinstance(value, ModelOutput) else value
            for value in values
            if value is not None
        )

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return getattr(self, key)
        there = [v for v in (getattr(self, f.name) for f in fields(self)) if v is not None]
        return tuple(there)[key]


@dataclass(slots=True)
class BaseModelOutputWithPooling(ModelOutput):
    """One tower."""

    last_hidden_state: Tensor  # (B, L, D)
    pooler_output: Tensor  # (B, D)
    hidden_states: tuple[Tensor, ...] | None = None  # before each block, and after the last
    attentions: tuple[Tensor, ...] | None = None  # (B, A, L, L) per block


@dataclass(slots=True)
class CLIPSegOutput(ModelOutput):
    """CLIPSegModel's: both towers, compared."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None  # (B, N)
    logits_per_text: Tensor | None = None  # (N, B)
    text_embeds: Tensor | None = None  # (N, C), unit length
    image_embeds: Tensor | None = None  # (B, C), unit length
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None


@dataclass(slots=True)
class CLIPSegDecoderOutput(ModelOutput):
    """CLIPSeg's decoder."""

    logits: Tensor  # (B, H, W)
    hidden_states: tuple[Tensor, ...] | None = None  # after each step, (B, T, R)
    attentions: tuple[Tensor, ...] | None = None  # (B, A, T, T) per step


@dataclass(slots=True)
class CLIPSegImageSegmentationOutput(ModelOutput):
    """CLIPSegForImageSegmentation's."""

    loss: Tensor | None = None
    logits: Tensor | None = None  # (B, H, W)
    conditional_embeddings: Tensor | None = None  # (B, C)
    pooled_output: Tensor | None = None  # (B, C)
    vision_model_output: BaseModelOutputWithPooling | None = None
    decoder_output: CLIPSegDecoderOutput | None = None


@dataclass(slots=True)
class GroupViTModelOutput(ModelOutput):
    """GroupViTModel's."""

    loss: Tensor | None = None
    logits_per_image: Tensor | None = None  # (B, N)
    logits_per_text: Tensor | None = None  # (N, B)
    segmentation_logits: Tensor | None = None  # (B, N, H, W)
    text_embeds: Tensor | None = None  # (N, C), unit length
    image_embeds: Tensor | None = None  # (B, C), unit length
    text_model_output: BaseModelOutputWithPooling | None = None
    vision_model_output: BaseModelOutputWithPooling | None = None


class Trace:
    """Collects hidden states and attentions on the way through a tower, where asked for."""

    def __init__(self, *, hidden_states: bool = False, attentions: bool = False) -> None:
        self._hidden_states: list[Tensor] | None = [] if hidden_states else None
        self._attentions: list[Tensor] | None = [] if attentions else None

    @property
    def wants_attentions(self) -> bool:
        """Whether attention weights have to be computed as such."""
        return self._attentions is not None

    def hidden(self, state: Tensor) -> None:
        """Note a hidden state."""
        if self._hidden_states is not None:
            self._hidden_states.append(state)

    def attention(self, weights: Tensor) -> None:
        """Note attention weights."""
        if self._attentions is not None:
            self._attentions.append(weights)

    @property
    def hidden_states(self) -> tuple[Tensor, ...] | None:
        """All noted, or None if they were not asked for."""
        return None if self._hidden_states is None else tuple(self._hidden_states)

    @property
    def attentions(self) -> tuple[Tensor, ...] | None:
        """All noted, or None if they were not asked for."""
        return None if self._attentions is None else tuple(self._attentions)
