"""The fast path on CPUs gives what the modules give, or says why it is not used."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from models import (
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    GroupViTConfig,
    GroupViTModel,
    Segmenter,
    fast,
    packed,
)
from models.fast import FastCLIPSeg, FastGroupViT, prepare
from models.outputs import Trace

PACKED_IN = [
    (torch.float32, 1e-4),
    pytest.param(
        *(torch.bfloat16, 0.2),
        marks=pytest.mark.skipif(
            not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
            reason="this CPU packs no bfloat16 (it needs AVX-512)",
        ),
    ),
]
PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["quick_gelu", "gelu", "relu"])
def act(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def clipseg(act: str, refined: bool) -> CLIPSegForImageSegmentation:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={"vocab_size": 50, "num_hidden_layers": 1, **size},
        vision_config={
            "num_hidden_layers": 4,
            "image_size": 32,
            "patch_size": 16,
            "hidden_act": act,
            **size,
        },
        projection_dim=24,
        extract_layers=[0, 1, 2],
        reduce_dim=16,
        decoder_intermediate_size=32,
        use_complex_transposed_convolution=refined,
    )
    return CLIPSegForImageSegmentation(config).eval().requires_grad_(False)


def groupvit(act: str, side: int = 64) -> GroupViTModel:
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = GroupViTConfig(
        text_config={"vocab_size": 50, "num_hidden_layers": 1, **size},
        vision_config={
            "depths": [2, 1],
            "num_group_tokens": [6, 0],
            "num_output_groups": [6, 6],
            "image_size": side,
            "patch_size": 16,
            "hidden_act": act,
            **size,
        },
    )
    return GroupViTModel(config).eval().requires_grad_(False)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize(("dtype", "allowed"), PACKED_IN)
def test_clipseg_draws_the_modules_masks(
    act: str, refined: bool, dtype: torch.dtype, allowed: float
) -> None:
    model = clipseg(act, refined)
    conditions = torch.randn(5, 24)
    quick = FastCLIPSeg(model, dtype)
    for image, reduced in zip(PIXELS, zip(*quick.encode(PIXELS), strict=True), strict=True):
        activations = model.encode_image(image[None])
        expected = model.decode(activations, conditions, (4, 6))
        found = quick.decode([part[None] for part in reduced], conditions, (4, 6))
        assert found.shape == expected.shape
        assert float((found - expected).abs().max() / expected.std()) < allowed


def test_a_size_that_patches_do_not_fill_keeps_no_groupvit_from_being_packed() -> None:
    fast = prepare(lambda dtype: FastGroupViT(groupvit("gelu", side=70), dtype), torch.float32)
    assert fast is not None


@pytest.mark.parametrize(("dtype", "allowed"), PACKED_IN)
def test_groupvit_finds_the_modules_groups(act: str, dtype: torch.dtype, allowed: float) -> None:
    model = groupvit(act)
    traces = Trace(attentions=True), Trace(attentions=True)
    expected = model.vision_model(PIXELS, traces[0]).last_hidden_state
    found = FastGroupViT(model, dtype).encode(PIXELS, traces[1])
    assert float((found - expected).abs().max() / expected.std()) < allowed
    (soft,), (same,) = (trace.attentions or () for trace in traces)
    assert float((soft - same).abs().max()) < allowed


def test_an_input_that_patches_do_not_fill_is_refused() -> None:
    with pytest.raises(ValueError, match="patch size 16"):
        FastCLIPSeg(clipseg("gelu", False), torch.float32).encode(torch.zeros(1, 3, 40, 32))


def wrong(self: packed.PackedBlock, x: torch.Tensor) -> torch.Tensor:
    return -x


def gone(*_: object) -> torch.Tensor:
    raise AttributeError("no such operator")


@pytest.mark.parametrize(
    ("target", "replacement", "told"),
    [
        ((packed.PackedBlock, "forward"), wrong, "is off by"),
        ((packed.Packed, "__call__"), gone, "no such operator"),
    ],
)
@pytest.mark.parametrize("build", [FastCLIPSeg, FastGroupViT])
def test_a_path_that_differs_or_lacks_an_operator_is_given_up_loudly(
    build: Callable[..., FastCLIPSeg | FastGroupViT],
    target: tuple[type, str],
    replacement: Callable[..., torch.Tensor],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model: nn.Module = clipseg("gelu", True) if build is FastCLIPSeg else groupvit("gelu")
    assert prepare(lambda dtype: build(model, dtype), torch.float32) is not None
    monkeypatch.setattr(*target, replacement)
    with caplog.at_level(logging.WARNING, fast.__name__):
        assert prepare(lambda dtype: build(model, dtype), torch.float32) is None
    assert told in caplog.text
    assert "using the plain one" in caplog.text


@pytest.mark.parametrize("build", [FastCLIPSeg, FastGroupViT])
def test_where_a_machine_lacks_bfloat16_float32_is_packed(
    build: Callable[..., FastCLIPSeg | FastGroupViT],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model: nn.Module = clipseg("gelu", True) if build is FastCLIPSeg else groupvit("gelu")
    pack = packed.Packed.__init__

    def lacking(
        self: packed.Packed,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        act: str = "none",
    ) -> None:
        if dtype == torch.bfloat16:
            raise RuntimeError("bf16 path needs the cpu support avx512bw")
        pack(self, weight, bias, dtype, act)

    monkeypatch.setattr(packed.Packed, "__init__", lacking)
    with caplog.at_level(logging.WARNING, fast.__name__):
        assert prepare(lambda dtype: build(model, dtype), torch.bfloat16) is not None
    assert "no torch.bfloat16 on this machine" in caplog.text
    assert "computing in float32" in caplog.text


def test_without_the_fast_path_masks_are_the_same(
    tiny_checkpoint: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.Packed, "__call__", gone)
    plain = Segmenter.from_pretrained(tiny_checkpoint, device="cpu")
    monkeypatch.undo()

    image = Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 50)
    masks = [
        one.segment(one.encode_image(image), one.encode_text(["a dog", "a cat"]))[0]
        for one in (plain, segmenter)
    ]
    torch.testing.assert_close(*masks, atol=1e-4, rtol=1e-3)


def test_a_half_precision_that_cpus_lack_is_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        Segmenter.from_pretrained(tiny_checkpoint, device="cpu", dtype=torch.float16)


def test_bfloat16_marks_what_float32_marks(tiny_checkpoint: Path, segmenter: Segmenter) -> None:

    half = Segmenter.from_pretrained(tiny_checkpoint, device="cpu", dtype=torch.bfloat16)
    image = Image.effect_mandelbrot((80, 60), (-2, -1, 1, 1), 50)
    masks = [
        one.segment(one.encode_image(image), one.encode_text(["a dog"]))[0][0]
        for one in (segmenter, half)
    ]
    assert float((masks[0] - masks[1]).abs().max()) < 0.05
