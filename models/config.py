"""Configurations of the models; field names are the keys of a published `config.json`."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias, TypeVar

T = TypeVar("T", bound="PretrainedConfig")

Size: TypeAlias = int
Count: TypeAlias = int
Depth: TypeAlias = int
Portion: TypeAlias = float
Positive: TypeAlias = float

DEEPEST = 1000  # blocks; far more than anyone has trained, and made in a second
WIDEST = 4096  # pixels
ONE_FIELD = re.compile(r"[^{}]*\{\}[^{}]*")
LARGEST = sys.float_info.max


def _whole(least: int | None = None, most: int | None = None) -> Callable[[object], bool]:
    """Whether a value is a whole number within bounds; True and False are none."""
    return lambda value: (
        isinstance(value, int)
        and not isinstance(value, bool)
        and (least is None or value >= least)
        and (most is None or value <= most)
    )


def _number(least: float = -LARGEST, most: float = LARGEST) -> Callable[[object], bool]:
    """Whether a value is a number within bounds; what is infinite, or no number, is in none."""
    return lambda value: (
        isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    )


# What a field's annotation lets a file say, in words and as a test.
KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "int": ("a whole number", _whole()),
    "Size": ("a whole number from 1 up", _whole(1)),
    "Count": ("a whole number from 0 up", _whole(0)),
    "Depth": (f"a whole number from 0 to {DEEPEST}", _whole(0, DEEPEST)),
    "float": ("a number", _number()),
    "Portion": ("a number from 0 to 1", _number(0, 1)),
    "Positive": ("a number above 0", _number(math.ulp(0.0))),
    "str": ("a name", lambda value: isinstance(value, str)),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
}


class PretrainedConfig:
    """What all configurations share: open-ended keys, and the form of `config.json`.

    Published files hold more keys than a model uses; they are kept in `extra` and written back.
    Three of those are switches with a meaning here: `output_attentions`, `output_hidden_states`
    (both False) and `return_dict` (True) are what a `forward` does when it is not told.
    """

    model_type: ClassVar[str] = ""
    extra: dict[str, Any]

    if TYPE_CHECKING:

        def __init__(self, **kwargs: Any) -> None:
            """Every subclass takes its own fields, and keys that it does not know."""

    def __post_init__(self) -> None:
        """Refuse a value that is not of its field's kind, where it can be named.

        Raises:
            ValueError: there is one.
        """
        for f in fields(self):  # type: ignore[arg-type]
            value, kind = getattr(self, f.name), str(f.type)
            inner = kind.removeprefix("list[").removesuffix("]")
            if inner not in KINDS:
                continue
            what, fits = KINDS[inner]
            if inner == kind:
                if not fits(value):
                    raise ValueError(f"{f.name} {value!r} is not {what}.")
            elif not isinstance(value, list | tuple) or not all(fits(one) for one in value):
                raise ValueError(f"{f.name} {value!r} is not a list in which each is {what}.")
            elif len(value) > DEEPEST:
                raise ValueError(f"{f.name} has {len(value)} entries: at most {DEEPEST} are taken.")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Self:
        """From the content of a `config.json`."""
        return cls(**raw)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`, readable by other implementations."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        for name, value in known.items():
            if isinstance(value, PretrainedConfig):
                known[name] = value.to_dict()
        return {**self.extra, **known, "model_type": self.model_type}

    def switch(self, name: str, given: bool | None) -> bool:
        """A forward's switch: as given, else as configured."""
        return bool(self.extra.get(name, name == "return_dict")) if given is None else given


def _config(cls: type[T]) -> type[T]:
    """A dataclass whose constructor also takes keys that it does not know."""
    made = dataclass(cls)
    construct: Callable[..., None] = made.__init__
    known = {f.name for f in fields(made)}  # type: ignore[arg-type]

    @functools.wraps(construct)
    def __init__(self: T, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        self.extra = {key: value for key, value in kwargs.items() if key not in known}
        construct(self, *args, **{key: kwargs[key] for key in kwargs if key in known})

    made.__init__ = __init__  # type: ignore[assignment, method-assign]
    return made


class _TwoTowers(PretrainedConfig):
    """A configuration that holds one for each tower, given as an object or as a mapping."""

    text_class: ClassVar[type[PretrainedConfig]]
    vision_class: ClassVar[type[PretrainedConfig]]
    text_config: Any
    vision_config: Any

    @classmethod
    def from_text_vision_configs(
        cls, text_config: PretrainedConfig, vision_config: PretrainedConfig, **kwargs: Any
    ) -> Self:
        """From the towers' configurations; the rest by keyword."""
        towers = {"text_config": text_config, "vision_config": vision_config}
        return cls(**towers, **kwargs)

    def __post_init__(self) -> None:
        """Make the towers' configurations objects; old files call them `*_config_dict`."""
        super().__post_init__()
        text = self.extra.pop("text_config_dict", None) or self.text_config
        vision = self.extra.pop("vision_config_dict", None) or self.vision_config
        self.text_config = _made(self.text_class, text)
        self.vision_config = _made(self.vision_class, vision)


def _made(cls: type[T], given: object) -> T:
    if given is None:
        return cls()
    return given if isinstance(given, cls) else cls(**given)  # type: ignore[arg-type]


@_config
class CLIPSegTextConfig(PretrainedConfig):
    """CLIPSeg's text tower."""

    model_type = "clipseg_text_model"

    vocab_size: Size = 49408
    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_hidden_layers: Depth = 12
    num_attention_heads: Size = 8
    max_position_embeddings: Size = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Positive = 1e-5
    attention_dropout: Portion = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407


@_config
class CLIPSegVisionConfig(PretrainedConfig):
    """CLIPSeg's vision tower."""

    model_type = "clipseg_vision_model"

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Depth = 12
    num_attention_heads: Size = 12
    num_channels: Size = 3
    image_size: Size = 224
    patch_size: Size = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Positive = 1e-5
    attention_dropout: Portion = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0


@_config
class CLIPSegConfig(_TwoTowers):
    """CLIPSeg: both towers and the decoder."""

    model_type = "clipseg"
    text_class = CLIPSegTextConfig
    vision_class = CLIPSegVisionConfig

    text_config: Any = None
    vision_config: Any = None
    projection_dim: Size = 512
    logit_scale_init_value: float = 2.6592
    extract_layers: list[int] = field(default_factory=lambda: [3, 6, 9])
    reduce_dim: Size = 64
    decoder_num_attention_heads: Size = 4
    decoder_attention_dropout: Portion = 0.0
    decoder_hidden_act: str = "quick_gelu"
    decoder_intermediate_size: Size = 2048
    conditional_layer: int = 0
    use_complex_transposed_convolution: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
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


@_config
class GroupViTTextConfig(PretrainedConfig):
    """GroupViT's text tower."""

    model_type = "groupvit_text_model"

    vocab_size: Size = 49408
    hidden_size: Size = 256
    intermediate_size: Size = 1024
    num_hidden_layers: Depth = 12
    num_attention_heads: Size = 4
    max_position_embeddings: Size = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: Positive = 1e-5
    dropout: Portion = 0.0
    attention_dropout: Portion = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    pad_token_id: int | None = 1
    bos_token_id: int | None = 49406
    eos_token_id: int = 49407


@_config
class GroupViTVisionConfig(PretrainedConfig):
    """GroupViT's vision tower; one entry per stage in `depths` and the two group lists."""

    model_type = "groupvit_vision_model"

    hidden_size: Size = 384
    intermediate_size: Size = 1536
    depths: list[Depth] = field(default_factory=lambda: [6, 3, 3])
    num_hidden_layers: Depth = 12
    num_group_tokens: list[Count] = field(default_factory=lambda: [64, 8, 0])
    num_output_groups: list[Count] = field(default_factory=lambda: [64, 8, 8])
    num_attention_heads: Size = 6
    image_size: Size = 224
    patch_size: Size = 16
    num_channels: Size = 3
    hidden_act: str = "gelu"
    layer_norm_eps: Positive = 1e-5
    dropout: Portion = 0.0
    attention_dropout: Portion = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    assign_eps: Positive = 1.0
    assign_mlp_ratio: list[float] = field(default_factory=lambda: [0.5, 4])

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = len(self.depths)
        if sum(self.depths) > DEEPEST:
            raise ValueError(f"depths {self.depths} are more than {DEEPEST} blocks together.")
        if min(len(self.num_group_tokens), len(self.num_output_groups)) < stages:
            raise ValueError(
                f"num_group_tokens {self.num_group_tokens} and num_output_groups "
                f"{self.num_output_groups} must have a number for each of {stages} stages (depths)."
            )
        if not any(self.num_group_tokens[:stages]):
            raise ValueError("no stage has group tokens (num_group_tokens): nothing is grouped.")


@_config
class GroupViTConfig(_TwoTowers):
    """GroupViT: both towers and their projections.

    Three keys besides, where there are any, say how `Segmenter` asks it: `segmentation_side` in
    pixels, `templates` around a label, and `background_similarity`, a cosine.
    """

    model_type = "groupvit"
    text_class = GroupViTTextConfig
    vision_class = GroupViTVisionConfig

    text_config: Any = None
    vision_config: Any = None
    projection_dim: Size = 256
    projection_intermediate_dim: Size = 4096
    logit_scale_init_value: float = 2.6592

    def __post_init__(self) -> None:
        super().__post_init__()
        side, cosine = (self.extra.get(k) for k in ("segmentation_side", "background_similarity"))
        if side is not None and not _whole(1, WIDEST)(side):
            raise ValueError(
                f"segmentation_side {side!r} is not a whole number from 1 to {WIDEST}."
            )
        if cosine is not None and not _number(-1, 1)(cosine):
            raise ValueError(f"background_similarity {cosine!r} is not a number from -1 to 1.")
        templates = self.extra.get("templates", ["{}"])
        if not isinstance(templates, list | tuple) or not templates:
            raise ValueError(f"templates {templates!r} is not a list of texts.")
        for one in templates:
            if not isinstance(one, str) or not ONE_FIELD.fullmatch(one):
                raise ValueError(f"template {one!r} has not one {{}}, where the label goes.")
