import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from demo import CHECKPOINT, GROUPVIT
from models import (
    CLIPSegForImageSegmentation,
    Exemplar,
    ImageFeatures,
    ImageProcessor,
    Segmenter,
)
from models.engines import Engine
from models.segmenter import TEXTS_PER_PASS, marked, resize


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_probabilities_have_each_images_own_size(segmenter: Segmenter) -> None:
    features = segmenter.encode_image([picture(90, 50), picture(31, 77)])
    masks = segmenter.segment(features, segmenter.encode_text(["a dog", "a cat", "a red ball"]))
    assert [tuple(m.shape) for m in masks] == [(3, 50, 90), (3, 77, 31)]
    assert all(m.min() >= 0 and m.max() <= 1 for m in masks)


def test_exif_orientation_is_applied(segmenter: Segmenter, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    picture(60, 40).save(tmp_path / "turned.jpg", exif=exif)
    with Image.open(tmp_path / "turned.jpg") as image:
        (features,) = segmenter.encode_image(image)
        assert features.size == (60, 40)
        upright = Image.fromarray(np.rot90(np.asarray(image), k=-1))
    (expected,) = segmenter.encode_image(upright)
    torch.testing.assert_close(features.parts, expected.parts)


def test_an_image_is_encoded_once_for_any_number_of_prompts(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    engine = type(segmenter._engine)  # of an instance, older pytest leaves its method behind
    encode = engine.encode

    def counted(self: Engine, images: Sequence[Image.Image]) -> list[ImageFeatures]:
        passes.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(engine, "encode", counted)
    features = segmenter.encode_image(picture(64, 64))
    for count in (1, 3, 9):
        segmenter.segment(features, segmenter.encode_text([f"thing {i}" for i in range(count)]))
    assert passes == [1]


def test_patches_are_where_their_part_of_the_image_is(segmenter: Segmenter) -> None:
    image, other = picture(64, 64, 1), picture(64, 64, 1)
    other.paste(picture(32, 64, 2), (32, 0))  # another right half
    one, two = (segmenter.patches(seen) for seen in segmenter.encode_image([image, other]))
    assert one.shape[1:] == segmenter.encode_image(image)[0].grid
    changed = (one - two).norm(dim=0)
    half = changed.shape[1] // 2
    assert changed[:, half:].mean() > 1.5 * changed[:, :half].mean()


def test_a_prompt_among_many_gives_the_mask_it_gives_alone(segmenter: Segmenter) -> None:
    features = segmenter.encode_image([picture(64, 64, 1), picture(64, 64, 2)])
    prompts = [f"a {colour} {shape}" for colour in ("red", "blue") for shape in ("star", "ring")]
    together = segmenter.segment(features, segmenter.encode_text(prompts))
    for image, masks in zip(features, together, strict=True):
        for prompt, mask in zip(prompts, masks, strict=True):
            (alone,) = segmenter.segment([image], segmenter.encode_text([prompt]))
            torch.testing.assert_close(alone[0], mask)


def test_images_in_one_batch_do_not_see_each_other(segmenter: Segmenter) -> None:
    images = [picture(64, 64, seed) for seed in range(3)]
    conditions = segmenter.encode_text(["a dog"])
    together = segmenter.segment(segmenter.encode_image(images), conditions)
    for image, mask in zip(images, together, strict=True):
        (alone,) = segmenter.segment(segmenter.encode_image(image), conditions)
        torch.testing.assert_close(alone, mask, atol=1e-5, rtol=1e-4)


def test_texts_keep_their_order_and_repeats(segmenter: Segmenter) -> None:
    conditions = segmenter.encode_text(["one", "two", "one"])
    assert conditions.shape == (3, 24)
    torch.testing.assert_close(conditions[0], conditions[2], rtol=0, atol=0)
    assert not torch.allclose(conditions[0], conditions[1])
    assert segmenter.encode_text([]).shape == (0, 24)


def test_a_texts_condition_is_the_same_to_the_bit_whatever_it_is_asked_with(
    segmenter: Segmenter,
) -> None:
    texts = ["red", "a dog", "a cat", "red ring"] + [f"thing {i}" for i in range(20)]
    together = segmenter.encode_text(texts)
    for some in (texts[::-1], texts[3:11], *([text] for text in texts)):
        segmenter._texts.clear()
        for text, condition in zip(some, segmenter.encode_text(some), strict=True):
            assert torch.equal(condition, together[texts.index(text)])


def test_texts_of_one_length_share_a_pass(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    embed = segmenter._engine.embed_text

    def counted(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        passes.append(len(input_ids))
        return embed(input_ids, attention_mask)

    monkeypatch.setattr(segmenter._engine, "embed_text", counted)
    segmenter.encode_text(["a dog", "a cat", "a dog"])
    assert passes == [TEXTS_PER_PASS]
    segmenter.encode_text(["a cat", "a dog"])
    assert len(passes) == 1


def test_what_can_be_a_prompt_is_told_beforehand(segmenter: Segmenter) -> None:
    assert segmenter.reads(["a dog", " ", "red " * 2500]) == [True, False, False]
    assert segmenter.reads([]) == []


@pytest.mark.parametrize("folder", [CHECKPOINT, GROUPVIT], ids=lambda folder: folder.name)
def test_no_prompt_gives_no_masks(folder: Path) -> None:
    made = Segmenter.from_pretrained(folder, device="cpu")
    features, none = made.encode_image(picture(40, 30)), made.encode_text([])
    assert [tuple(masks.shape) for masks in made.segment(features, none)] == [(0, 30, 40)]
    assert len(made.each(features[0], none)) == 0


@pytest.mark.parametrize("prompts", [[""], ["   "], ["fine", "\n"]])
def test_an_empty_prompt_is_refused(segmenter: Segmenter, prompts: list[str]) -> None:
    with pytest.raises(ValueError, match="empty"):
        segmenter.encode_text(prompts)


def test_a_prompt_longer_than_the_model_reads_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match="reads at most 75"):
        segmenter.encode_text(["red " * 2500])


@pytest.mark.parametrize("context", [8, 100])
def test_how_much_a_model_reads_is_what_its_configuration_says(
    segmenter: Segmenter, context: int
) -> None:
    config = copy.deepcopy(segmenter.model.config)
    config.text_config.max_position_embeddings = context
    model = CLIPSegForImageSegmentation(config)
    made = Segmenter(model, segmenter.tokenizer, segmenter.processor, device="cpu")
    longest, longer = "red " * (context - 2), "red " * (context - 1)
    assert made.reads([longest, longer]) == [True, False]
    assert len(made.encode_text(longest)) == 1
    with pytest.raises(ValueError, match=f"the model reads at most {context - 2}: shorten it"):
        made.encode_text(longer)


def test_an_exemplar_condition_takes_a_texts_place(segmenter: Segmenter) -> None:
    image = picture(80, 60)
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 30:60] = True
    condition = segmenter.encode_exemplar(Exemplar(image, mask))
    assert condition.shape == (1, 24)
    as_picture = segmenter.encode_exemplar(Exemplar(image, Image.fromarray(mask)))
    torch.testing.assert_close(condition, as_picture)
    both = torch.cat([segmenter.encode_text(["a dog"]), condition])
    (masks,) = segmenter.segment(segmenter.encode_image(image), both)
    (flat,) = segmenter.segment(segmenter.encode_image(image), condition[0])
    torch.testing.assert_close(masks[1:], flat)


def test_a_mask_matters_to_an_exemplar(segmenter: Segmenter) -> None:
    image = picture(64, 64)
    left, right = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    left[:, :20], right[:, 44:] = True, True
    conditions = segmenter.encode_exemplar([Exemplar(image, mask) for mask in (None, left, right)])
    assert not torch.allclose(conditions[1], conditions[2])
    assert not torch.allclose(conditions[0], conditions[1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((10, 10), bool), "must be equal"), (np.zeros((48, 64), bool), "marks nothing")],
)
def test_an_unusable_exemplar_mask_is_refused(
    segmenter: Segmenter, mask: NDArray[np.bool_], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        segmenter.encode_exemplar(Exemplar(picture(64, 48), mask))


def test_a_box_shows_what_its_mask_would(segmenter: Segmenter) -> None:
    image, mask = picture(80, 60), np.zeros((60, 80), bool)
    mask[20:40, 30:60] = True
    boxed, masked = segmenter.encode_exemplar(
        [Exemplar(image, box=(30.0, 20.0, 59.5, 39.2)), Exemplar(image, mask)]
    )
    torch.testing.assert_close(boxed, masked)


@pytest.mark.parametrize(
    ("box", "told"),
    [
        *((box, "holds no pixel") for box in ((5, 5, 5, 9), (90, 5, 99, 9), (9, 9, 5, 5))),
        ((1, 2, math.inf, 4), "is none"),
        ((math.nan, 2, 3, 4), "is none"),
    ],
)
def test_a_box_without_a_pixel_of_the_image_is_refused(
    segmenter: Segmenter, box: tuple[float, float, float, float], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        segmenter.encode_exemplar(Exemplar(picture(80, 60), box=box))


def test_an_exemplar_is_marked_in_one_way(segmenter: Segmenter) -> None:
    both = Exemplar(picture(8, 8), np.ones((8, 8)), (0, 0, 4, 4))
    with pytest.raises(ValueError, match="not both"):
        segmenter.encode_exemplar(both)


def test_a_turned_photographs_exemplar_is_marked_as_displayed(segmenter: Segmenter) -> None:
    turned = picture(60, 40)
    turned.getexif()[0x0112] = 6
    upright = Image.fromarray(np.rot90(np.asarray(turned), k=-1))
    mask = np.zeros((60, 40), bool)
    mask[5:30, 10:30] = True
    found, expected = segmenter.encode_exemplar([Exemplar(turned, mask), Exemplar(upright, mask)])
    torch.testing.assert_close(found, expected)


def test_texts_and_exemplars_are_averaged_and_mixed_by_weight(segmenter: Segmenter) -> None:
    texts, shown = ["a dog", "a hound"], [Exemplar(picture(40, 40, i)) for i in range(3)]
    said, seen = segmenter.encode_text(texts).mean(0), segmenter.encode_exemplar(shown).mean(0)
    torch.testing.assert_close(segmenter.condition(texts), said)
    torch.testing.assert_close(segmenter.condition(exemplars=shown), seen)
    for weight in (0.0, 0.3, 1.0):
        mixed = segmenter.condition(texts, shown, weight)
        torch.testing.assert_close(mixed, (1 - weight) * said + weight * seen)
    with pytest.raises(ValueError, match="nothing to look for"):
        segmenter.condition()
    with pytest.raises(ValueError, match="between 0 and 1"):
        segmenter.condition(texts, shown, 1.5)


def test_exemplars_that_were_encoded_before_need_no_images(segmenter: Segmenter) -> None:
    shown = [Exemplar(picture(40, 30, seed)) for seed in (1, 2)]
    kept = segmenter.encode_exemplar(shown)
    both = [segmenter.condition(["a dog"], one, 0.25) for one in (shown, kept)]
    torch.testing.assert_close(*both, rtol=0, atol=0)
    with pytest.raises(ValueError, match="made by another checkpoint"):
        segmenter.condition(["a dog"], kept[:, :-1])


@pytest.mark.parametrize(
    ("size", "grid"), [((200, 100), (8, 16)), ((100, 230), (18, 8)), ((9000, 30), (8, 32))]
)
def test_a_checkpoint_that_keeps_the_ratio_gets_rectangular_inputs(
    segmenter: Segmenter, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    keeps = Segmenter(
        segmenter.model, segmenter.tokenizer, ImageProcessor(64, 64, shortest_edge=64)
    )
    image = picture(*size)
    together = keeps.encode_image([picture(64, 64), image])
    assert [one.grid for one in together] == [(8, 8), grid]
    (alone,) = keeps.encode_image(image)
    (mask,) = keeps.segment([together[1]], keeps.encode_text(["a dog"]))
    (again,) = keeps.segment([alone], keeps.encode_text(["a dog"]))
    assert mask.shape == (1, size[1], size[0])
    torch.testing.assert_close(mask, again)


def test_where_the_ratio_is_kept_an_exemplar_may_have_any(tiny_checkpoint: Path) -> None:
    made = Segmenter.from_pretrained(tiny_checkpoint, device="cpu")
    made.processor = replace(made.processor, shortest_edge=64)
    shown = [Exemplar(Image.new("RGB", size, "red")) for size in ((51, 40), (3, 2000))]
    assert made.encode_exemplar(shown).isfinite().all()


@pytest.mark.parametrize("size", [(700, 900), (40, 30), (64, 1), (64, 64), (1000, 33)])
@pytest.mark.parametrize("threshold", [0.001, 0.5, 0.9, 1.1])
def test_a_mask_is_what_its_probabilities_mark_at_full_size(
    size: tuple[int, int], threshold: float
) -> None:
    noise = torch.rand(1, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.interpolate(noise, (64, 48), mode="bilinear")[0]
    full = resize(soft, size)[0]
    mask = marked(soft[0], threshold, size)
    assert mask.shape == size
    assert torch.equal(mask | ((full - threshold).abs() < 1e-6), (full >= threshold - 1e-6))


def test_what_is_transparent_is_seen_on_white(segmenter: Segmenter) -> None:
    shown = Image.new("RGB", (64, 64), "white")
    shown.paste("red", (16, 16, 40, 40))
    hidden = Image.new("RGBA", (64, 64), (0, 0, 255, 0))  # blue that nobody sees
    hidden.paste("red", (16, 16, 40, 40))
    expected, found = segmenter.encode_image([shown, hidden])
    for ours, theirs in zip(found.parts, expected.parts, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_grey_that_is_multiplied_by_its_alpha_is_seen_as_what_it_was(segmenter: Segmenter) -> None:
    drawn = Image.new("LA", (64, 64), (0, 0))
    drawn.paste((200, 255), (10, 10, 40, 40))
    seen = [segmenter.encode_image(one)[0].parts[0] for one in (drawn, drawn.convert("La"))]
    assert torch.equal(*seen)
    image = picture(64, 64)
    shown = [segmenter.encode_exemplar(Exemplar(image, m)) for m in (drawn, drawn.convert("La"))]
    assert torch.equal(*shown)


def test_images_of_more_than_eight_bits_are_not_all_white(segmenter: Segmenter) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None].repeat(64, axis=0)
    (expected,) = segmenter.encode_image(Image.fromarray(ramp))
    for deep in (ramp.astype(np.uint16) * 257, ramp.astype(np.int32) * 16, ramp / np.float32(255)):
        (features,) = segmenter.encode_image(Image.fromarray(deep))
        torch.testing.assert_close(features.parts, expected.parts)


def test_an_image_whose_exif_cannot_be_read_is_taken_as_it_is(segmenter: Segmenter) -> None:
    image = picture(60, 40)
    (expected,) = segmenter.encode_image(image)
    image.info["exif"] = b"Exif\0\0no TIFF at all"
    (features,) = segmenter.encode_image(image)
    torch.testing.assert_close(features.parts, expected.parts)


def test_greyscale_and_transparent_images_are_taken(segmenter: Segmenter) -> None:
    for mode in ("L", "RGBA", "P"):
        (features,) = segmenter.encode_image(picture(40, 30).convert(mode))
        assert features.size == (30, 40)


def test_no_image_gives_no_features(segmenter: Segmenter) -> None:
    assert segmenter.encode_image([]) == []
    with pytest.raises(TypeError, match="not str: open a file with"):
        segmenter.encode_image(["a.png"])  # type: ignore[list-item]


def test_a_saved_model_gives_the_same_masks(
    segmenter: Segmenter, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    segmenter.model.save_pretrained(tmp_path)
    segmenter.tokenizer.save_pretrained(tmp_path)
    name = "preprocessor_config.json"
    (tmp_path / name).write_bytes((tiny_checkpoint / name).read_bytes())
    again = Segmenter.from_pretrained(tmp_path, device="cpu")
    image, prompts = picture(50, 70), ["a dog", "striped square"]
    (before,) = segmenter.segment(segmenter.encode_image(image), segmenter.encode_text(prompts))
    (after,) = again.segment(again.encode_image(image), again.encode_text(prompts))
    torch.testing.assert_close(before, after, rtol=0, atol=0)
