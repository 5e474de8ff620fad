"""Loading what the settings name."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from backend.errors import BadSetting, CheckpointUnavailable, QueueUnavailable
from backend.settings import DEMO, DEMO_GROUPVIT, Settings
from backend.worker.runtime import load, run
from demo import IMAGES


def test_bfloat16_marks_what_float32_marks() -> None:
    image = Image.open(sorted(IMAGES.iterdir())[0])
    masks = []
    for dtype in ("float32", "bfloat16"):
        segmenter, _ = load(DEMO, "cpu", dtype)
        (found,) = segmenter.segment(
            segmenter.encode_image(image), segmenter.encode_text(["a red circle", "a star"])
        )
        masks.append(found > 0.4)
    both, either = masks[0] & masks[1], masks[0] | masks[1]
    assert either.any()
    assert int(both.sum()) / int(either.sum()) > 0.98
    # where the CPU has it, it does compute in another precision
    assert torch.equal(*masks) is not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_a_dtype_that_the_device_lacks_is_a_bad_setting() -> None:
    with pytest.raises(BadSetting, match="PROMPTBRUSH_DTYPE=float16 cannot be used: On a CPU"):
        load(DEMO, "cpu", "float16")


def test_a_checkpoint_that_is_not_there_names_the_one_that_is() -> None:
    with pytest.raises(CheckpointUnavailable, match="PROMPTBRUSH_CHECKPOINT=demo"):
        load("/no/such/folder", "cpu", "float32")


def test_of_a_damaged_folder_the_network_is_not_blamed(tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnavailable, match=r"has no config\.json\.$"):
        load(str(tmp_path), "cpu", "float32")


def test_a_device_that_is_not_there_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: invalid device ordinal\nFor debugging consider ...")

    monkeypatch.setattr("models.Segmenter.from_pretrained", fail)
    for device, told in (("cuda:7", "cuda:7"), (None, "auto")):
        with pytest.raises(CheckpointUnavailable) as caught:
            load(DEMO, device, "float32")
        assert str(caught.value) == (
            f"DEVICE={told} cannot be used: CUDA error: invalid device ordinal"
        )


def test_a_broker_that_is_not_there_is_told_before_anything_is_loaded() -> None:
    with pytest.raises(QueueUnavailable, match="REDIS_URL does not answer"):
        run(Settings(redis_url="redis://127.0.0.1:1/0", checkpoint="/no/such/folder"))


@pytest.mark.parametrize(("name", "family"), [(DEMO, "clipseg"), (DEMO_GROUPVIT, "groupvit")])
def test_the_demos_load_by_name(name: str, family: str) -> None:
    segmenter, digest = load(name, "cpu", "float32")
    assert segmenter.name == family
    assert len(digest) == 64
