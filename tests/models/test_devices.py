"""What is asked of a device stays there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from demo import CHECKPOINT, GROUPVIT
from models import Exemplar, Segmenter
from tests.models.test_segmenter import picture


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what no GPU does: to compute on tensors of two devices, besides scalars."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor))
        devices = {one.device for one in given if one.dim()}
        assert len(devices) <= 1 or op.name() in {"aten::copy_", "aten::to.other"}, op
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("folder", [CHECKPOINT, GROUPVIT])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_asked_of_a_device_stays_on_it_in_its_dtype(
    folder: Path, dtype: torch.dtype
) -> None:
    # no GPU, but another device than the one that images and conditions come from
    there = Segmenter.from_pretrained(folder, device="meta", dtype=dtype)
    with OneDevice():  # type: ignore[no-untyped-call]
        features = there.encode_image([picture(64, 64), picture(90, 50)])
        said = there.encode_text(["red", "a red ring"])
        shown = there.encode_exemplar(Exemplar(picture(64, 64), box=(3.0, 3.0, 30.0, 40.0)))
        kept = torch.zeros(shown.shape)  # as prompt books hold it
        mixed = there.condition(["red"], kept)
        found = [there.each(features[0], kept), *there.segment(features, said)]
        patches = there.patches(features[1])
    held = [said, shown, mixed, *(part for one in features for part in one.parts)]
    answered = [*found, patches]
    assert {tensor.dtype for tensor in held} == {dtype}
    assert {tensor.dtype for tensor in answered} == {torch.float32}
    assert {tensor.device.type for tensor in (*held, *answered)} == {"meta"}


@pytest.mark.gpu
def test_cuda_gives_the_masks_of_the_cpu(segmenter: Segmenter, tiny_checkpoint: Path) -> None:
    on_gpu = Segmenter.from_pretrained(tiny_checkpoint, device="cuda")
    image = picture(64, 64)
    (cpu,) = segmenter.segment(segmenter.encode_image(image), segmenter.encode_text(["a dog"]))
    (gpu,) = on_gpu.segment(on_gpu.encode_image(image), on_gpu.encode_text(["a dog"]))
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-3, rtol=1e-3)
