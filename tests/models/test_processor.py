import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from models import CheckpointError, ImageProcessor


def test_pixels_are_resized_scaled_and_normalised() -> None:
    processor = ImageProcessor(8, 12, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.125))
    pixels = processor([Image.new("RGB", (30, 20), (255, 0, 255))])
    assert pixels.shape == (1, 3, 8, 12)
    torch.testing.assert_close(pixels[0, :, 3, 3], torch.tensor([1.0, -2.0, 4.0]))


@pytest.mark.parametrize(
    ("processor", "white"),
    [
        (ImageProcessor(), [2.2489, 2.4286, 2.6400]),
        (ImageProcessor.from_dict({"image_processor_type": "CLIP"}), [1.9303, 2.0749, 2.1459]),
    ],
)
def test_white_is_what_the_published_statistics_make_of_it(
    processor: ImageProcessor, white: list[float]
) -> None:
    pixels = processor([Image.new("RGB", (8, 8), "white")])
    torch.testing.assert_close(pixels[0, :, 9, 9], torch.tensor(white), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [352, {"height": 352, "width": 352}, {"shortest_edge": 352}])
def test_every_published_form_of_size_is_read(tmp_path: Path, size: object) -> None:
    raw = {"size": size, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(raw))
    processor = ImageProcessor.from_pretrained(tmp_path)
    assert (processor.height, processor.width) == (352, 352)
    assert tuple(processor.mean) == (0.5, 0.5, 0.5)


def test_what_transformers_5_saves_of_images_is_read(tmp_path: Path) -> None:
    raw = {"image_processor_type": "ViTImageProcessor", "size": 64, "image_mean": [0.5] * 3}
    file = tmp_path / "processor_config.json"
    file.write_text(json.dumps({"image_processor": raw, "processor_class": "CLIPSegProcessor"}))
    half = (0.5,) * 3  # ViT's, where the file says nothing
    assert ImageProcessor.from_pretrained(tmp_path) == ImageProcessor(64, 64, mean=half, std=half)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 352}))
    assert ImageProcessor.from_pretrained(tmp_path).width == 64
    file.write_text(json.dumps({"processor_class": "CLIPSegProcessor"}))  # as version 4 wrote it
    assert ImageProcessor.from_pretrained(tmp_path).width == 352
    file.write_text(json.dumps({"image_processor": "ViTImageProcessor"}))
    with pytest.raises(CheckpointError, match=r"processor_config\.json cannot"):
        ImageProcessor.from_pretrained(tmp_path)


def test_without_a_file_the_published_values_hold(tmp_path: Path) -> None:
    processor = ImageProcessor.from_pretrained(tmp_path)
    assert (processor.height, processor.mean[0]) == (352, 0.485)


def test_steps_that_a_file_switches_off_are_left_out() -> None:
    white = Image.new("RGB", (30, 20), (255, 0, 255))
    told = {"size": 8, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    for off, expected in (
        ({"do_normalize": False}, [1.0, 0.0, 1.0]),
        ({"do_rescale": False}, [1018.0, -2.0, 1018.0]),
        ({"do_rescale": False, "do_normalize": False}, [255.0, 0.0, 255.0]),
    ):
        processor = ImageProcessor.from_dict({**told, **off})
        torch.testing.assert_close(processor([white])[0, :, 3, 3], torch.tensor(expected))
        assert ImageProcessor.from_dict(processor.to_dict()) == processor


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 0),
        ("size", {"height": 8, "width": -8}),
        ("size", {"height": 8}),
        ("size", {"shortest_edge": 8, "longest_edge": 12}),
        ("size", "8"),
        ("size", 8.5),
        ("size", True),
        ("size", 10**6),
        ("crop_size", 10**6),
        ("crop_size", 0),
        ("crop_size", {"height": 8}),
        ("crop_size", None),
        ("do_pad", True),
        ("resample", 99),
        ("rescale_factor", float("nan")),
        ("rescale_factor", 1e300),
        ("image_mean", [float("nan")] * 3),
        ("image_std", float("inf")),
        ("image_std", 1e-300),
        ("image_mean", [0.5]),
        ("image_mean", [0.5, 0.5, "half"]),
        ("image_std", [0.0, 0.5, 0.5]),
    ],
)
def test_a_value_that_no_image_can_be_made_by_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    told = {"size": 8, "do_center_crop": True, "crop_size": 8, name: value}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json cannot be used"):
        ImageProcessor.from_pretrained(tmp_path)


def test_a_rectangle_is_cut_out_of_the_centre() -> None:
    image = Image.new("RGB", (12, 12), "black")
    image.paste("white", (3, 2, 9, 10))
    told = {"size": 12, "do_center_crop": True, "crop_size": {"height": 8, "width": 6}}
    processor = ImageProcessor.from_dict({**told, "do_normalize": False})
    assert processor([image]).equal(torch.ones(1, 3, 8, 6))
    assert ImageProcessor.from_dict(processor.to_dict()) == processor


def test_null_says_nothing_and_one_number_is_of_all_colours() -> None:
    keys = ("do_resize", "do_rescale", "rescale_factor", "resample", "crop_size", "image_std")
    raw = {"size": 8, "image_mean": 0.5, **dict.fromkeys(keys)}
    assert ImageProcessor.from_dict(raw) == ImageProcessor(8, 8, mean=(0.5,) * 3)


def test_images_that_are_not_to_be_resized_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"size": 352, "do_resize": False}))
    with pytest.raises(CheckpointError, match="cannot be used: do_resize is false"):
        ImageProcessor.from_pretrained(tmp_path)
