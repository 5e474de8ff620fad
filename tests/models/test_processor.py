import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import ImageProcessor


def test_pixels_are_resized_scaled_and_normalised() -> None:
    processor = ImageProcessor(8, 12, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
    pixels = processor([Image.new("RGB", (30, 20), (255, 0, 255))])
    assert pixels.shape == (1, 3, 8, 12)
    torch.testing.assert_close(pixels[0, :, 3, 3], torch.tensor([1.0, -2.0, 4.0]))


@pytest.mark.parametrize("size", [352, {"height": 352, "width": 352}, {"shortest_edge": 352}])
def test_every_published_form_of_size_is_read(tmp_path: Path, size: object) -> None:
    raw = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(raw))
    processor = ImageProcessor.from_pretrained(tmp_path)
    assert (processor.height, processor.width) == (352, 352)
    assert tuple(processor.mean) == (0.5, 0.5, 0.5)


def test_without_a_file_the_published_values_hold(tmp_path: Path) -> None:
    processor = ImageProcessor.from_pretrained(tmp_path)
    assert (processor.height, processor.mean[0]) == (352, 0.485)
