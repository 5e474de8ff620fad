"""Whatever a preprocessor file says, its pixels are the reference's."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import ImageProcessor

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")

FILES: list[dict[str, Any]] = [
    {},
    {"size": 40},
    {"size": {"height": 40, "width": 56}},
    {"size": {"shortest_edge": 40}},
    {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 33},
    {"size": 40, "do_center_crop": True, "crop_size": {"height": 32, "width": 24}},
    {"size": 40, "do_center_crop": True, "crop_size": {"height": 24, "width": 61}},
    {"size": 40, "do_center_crop": False, "crop_size": 32},
    *({"size": 40, "resample": code} for code in range(6)),
    {"size": 40, "do_rescale": False},
    {"size": 40, "do_normalize": False},
    {"size": 40, "rescale_factor": 1 / 127.5},
    {"size": 40, "image_mean": 0.25, "image_std": [0.1, 0.2, 0.3]},
]


@pytest.mark.parametrize("kind", ["ViT", "CLIP"])
@pytest.mark.parametrize("told", FILES, ids=str)
@pytest.mark.parametrize("size", [(64, 48), (31, 77), (20, 20)])
def test_pixels_of_any_file_equal_the_references(
    kind: str, told: dict[str, Any], size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    raw = {"image_processor_type": f"{kind}ImageProcessor", **told}
    theirs = getattr(transformers, f"{kind}ImageProcessorPil").from_dict(dict(raw))
    expected = theirs(image, return_tensors="pt")["pixel_values"].float()
    ours = ImageProcessor.from_dict(raw)([image])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
