import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models import (
    CheckpointError,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
    GroupViTProcessor,
    ImageProcessor,
)


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> CLIPSegProcessor:
    return CLIPSegProcessor.from_pretrained(tiny_checkpoint)


def picture(width: int = 30, height: int = 20) -> Image.Image:
    return Image.new("RGB", (width, height), "red")


def test_texts_and_images_become_a_forwards_arguments(
    processor: CLIPSegProcessor, tiny_checkpoint: Path
) -> None:
    texts = ["a cat", "a remote control"]
    inputs = processor(text=texts, images=[picture()] * 2, padding=True, return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values"}
    assert inputs.pixel_values.shape == (2, 3, 64, 64)
    model = CLIPSegForImageSegmentation.from_pretrained(tiny_checkpoint)
    with torch.no_grad():
        assert model(**inputs).logits.shape == (2, 64, 64)
        visual = processor(images=[picture()], visual_prompt=[picture()], return_tensors="pt")
        assert set(visual) == {"pixel_values", "conditional_pixel_values"}
        assert model(**visual).logits.shape == (1, 64, 64)


def test_the_documented_errors_are_raised(processor: CLIPSegProcessor) -> None:
    with pytest.raises(ValueError, match="either text, visual prompt or images"):
        processor()
    with pytest.raises(ValueError, match="exactly one type of prompt"):
        processor(text="a", visual_prompt=picture())
    with pytest.raises(ValueError, match="image_processor"):
        CLIPSegProcessor(tokenizer=processor.tokenizer)
    with pytest.raises(ValueError, match="tokenizer"):
        CLIPSegProcessor(ImageProcessor())
    with pytest.raises(ValueError, match="padding=True"):
        processor(text=["a", "a b c"], return_tensors="pt")
    with pytest.raises(ValueError, match="return_tensors='tf'"):
        processor(text=["a"], return_tensors="tf")
    with pytest.raises(AttributeError, match="pixel_values"):
        _ = processor(text="a").pixel_values


def test_every_form_of_result_holds_the_same(processor: CLIPSegProcessor) -> None:
    as_lists = processor(text=["a cat"], images=picture())
    as_torch = processor(text=["a cat"], images=picture(), return_tensors="pt")
    as_numpy = processor(text=["a cat"], images=np.asarray(picture()), return_tensors="np")
    assert as_lists.input_ids == as_torch.input_ids.tolist() == as_numpy.input_ids.tolist()
    assert (as_numpy.pixel_values == as_torch.pixel_values.numpy()).all()
    assert (as_lists.pixel_values[0] == as_numpy.pixel_values[0]).all()
    assert processor(text="a cat").input_ids == as_lists.input_ids[0]


def test_padding_and_truncation_are_the_callers_choice(processor: CLIPSegProcessor) -> None:
    rows = processor(text=["a", "a b c"], padding="max_length", max_length=8).input_ids
    assert [len(row) for row in rows] == [8, 8]
    cut = processor(text="a b c d e", truncation=True, max_length=4)
    assert len(cut.input_ids) == 4
    assert cut.input_ids[-1] == rows[0][-1]


def test_arrays_and_tensors_are_images_with_their_colours_first_or_last(
    processor: CLIPSegProcessor,
) -> None:
    bytes_ = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image, first = Image.fromarray(bytes_), bytes_.transpose(2, 0, 1)
    expected = processor(images=[image, image], return_tensors="pt").pixel_values
    tensor = torch.from_numpy(first.copy())
    for given in (
        [bytes_, first],
        [tensor, tensor],
        np.stack([bytes_, bytes_]),
        torch.stack([tensor, tensor]),
    ):
        found = processor(images=given, return_tensors="pt").pixel_values
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    one = processor(images=tensor, return_tensors="pt").pixel_values
    torch.testing.assert_close(one, expected[:1], rtol=0, atol=0)
    grey = processor(images=bytes_[None, ..., 0], return_tensors="pt").pixel_values
    assert grey.shape == one.shape
    with pytest.raises(ValueError, match=r"of float32 is no image: give bytes"):
        processor(images=tensor / 255)


@pytest.mark.parametrize("mode", ["P", "1", "CMYK"])
def test_a_picture_of_any_mode_is_taken_as_it_is_displayed(
    processor: CLIPSegProcessor, mode: str
) -> None:
    shown = Image.new("RGB", (30, 20), "red")
    shown.paste("white", (0, 0, 15, 20))
    given = shown.convert(mode)
    found = processor(images=[given, given.convert("RGB")], return_tensors="pt").pixel_values
    torch.testing.assert_close(found[0], found[1])


def test_options_that_mean_nothing_are_refused(processor: CLIPSegProcessor) -> None:
    texts = ["a", "a red circle"]
    plain = processor(text=texts)
    assert processor(text=texts, padding="do_not_pad", truncation="do_not_truncate") == plain
    with pytest.raises(ValueError, match="is unknown"):
        processor(text=texts, padding="longer")
    with pytest.raises(ValueError, match="is unknown"):
        processor(text=texts, truncation="last")
    with pytest.raises(TypeError, match="no option do_resize"):
        processor(images=[picture()], do_resize=False)
    with pytest.raises(TypeError, match="no option do_resize"):
        processor(visual_prompt=[picture()], do_resize=False)


def test_decoding_gives_the_words_back(processor: CLIPSegProcessor) -> None:
    ids = processor(text=["A red  circle", "star"], padding=True).input_ids
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["a red circle", "star"]
    assert processor.decode(ids[1]).startswith("<|startoftext|>star")


def test_groupvit_keeps_the_aspect_ratio_and_the_centre(processor: CLIPSegProcessor) -> None:
    groupvit = GroupViTProcessor(GroupViTProcessor.default_image_processor, processor.tokenizer)
    left_red = Image.new("RGB", (300, 100), "blue")
    left_red.paste("red", (0, 0, 100, 100))
    pixels = groupvit(images=left_red, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 224, 224)
    assert (pixels[0, 0, 100, 10:-10] < 0).all()  # the red third was cut off
    with pytest.raises(ValueError, match="text or images"):
        groupvit()


@pytest.mark.parametrize(
    ("kind", "shortest_edge", "crop"), [("CLIP", 224, (224, 224)), ("ViT", None, None)]
)
def test_a_size_of_one_number_is_what_its_kind_of_file_means_by_it(
    kind: str, shortest_edge: int | None, crop: tuple[int, int] | None
) -> None:
    written = {"size": 224, "crop_size": 224, "do_center_crop": kind == "CLIP"}  # as in 2022
    read = ImageProcessor.from_dict(
        {"feature_extractor_type": f"{kind}FeatureExtractor", **written}
    )
    assert (read.shortest_edge, read.crop) == (shortest_edge, crop)
    assert (read.height, read.width) == (224, 224)


def test_processors_are_saved_and_loaded(processor: CLIPSegProcessor, tmp_path: Path) -> None:
    groupvit = GroupViTProcessor(GroupViTProcessor.default_image_processor, processor.tokenizer)
    groupvit.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert raw["size"] == {"shortest_edge": 224}
    again = GroupViTProcessor.from_pretrained(tmp_path)
    assert again.image_processor == groupvit.image_processor
    assert again(text="a cat").input_ids == processor(text="a cat").input_ids
    with pytest.raises(CheckpointError):
        CLIPSegProcessor.from_pretrained(tmp_path / "nowhere")


def test_images_of_different_inputs_make_no_batch() -> None:
    keeps_ratio = ImageProcessor(shortest_edge=32)
    with pytest.raises(ValueError, match="2 sizes"):
        keeps_ratio([picture(40, 40), picture(80, 40)])
