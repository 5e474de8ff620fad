"""GroupViT behind the same door as CLIPSeg."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from models import CheckpointError, Exemplar, GroupViTConfig, GroupViTModel, Segmenter, fast
from models.engines import slides


@pytest.fixture(scope="module")
def groupvit(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    folder = tmp_path_factory.mktemp("groupvit")
    tokenizer = (tiny_checkpoint / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": 32}))
    text = json.loads((tiny_checkpoint / "config.json").read_text())["text_config"]
    torch.manual_seed(0)
    config = GroupViTConfig(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "depths": [1, 1],
            "num_group_tokens": [4, 0],
            "num_output_groups": [4, 4],
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        projection_dim=16,
        projection_intermediate_dim=24,
        background_similarity=0.0,
    )
    GroupViTModel(config).save_pretrained(folder)
    return Segmenter.from_pretrained(folder, device="cpu")


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(100, 60), (31, 170), (64, 64), (20, 20), (1000, 40)])
def test_any_size_and_aspect_ratio_gives_masks_of_its_own_size(
    groupvit: Segmenter, size: tuple[int, int]
) -> None:
    (masks,) = groupvit.segment(
        groupvit.encode_image(picture(*size)), groupvit.encode_text(["dog", "cat", "sky"])
    )
    assert masks.shape == (3, size[1], size[0])
    assert masks.isfinite().all()


@pytest.mark.parametrize("size", [(900, 3), (3, 900)])
def test_a_strip_of_an_image_is_squeezed_before_its_windows_are_too_many(
    groupvit: Segmenter, size: tuple[int, int]
) -> None:
    (features,) = groupvit.encode_image(Image.new("RGB", size))
    assert len(features.windows) == 7  # of a side that is four times the other, overlapping by half
    (masks,) = groupvit.segment([features], groupvit.encode_text(["a dog"]))
    assert masks.shape == (1, *size[::-1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_group_tokens": [0, 0]}, "no stage has group tokens"),
        ({"num_group_tokens": [4]}, "must have a number for each of 2 stages"),
        ({"num_output_groups": []}, "must have a number for each of 2 stages"),
    ],
)
def test_a_configuration_that_groups_nothing_is_refused(
    groupvit: Segmenter, changes: dict[str, list[int]], message: str
) -> None:
    raw = groupvit.model.config.to_dict()
    with pytest.raises(ValueError, match=message):
        GroupViTConfig.from_dict({**raw, "vision_config": {**raw["vision_config"], **changes}})


def test_labels_compete_for_every_pixel(groupvit: Segmenter) -> None:
    features = groupvit.encode_image(picture(100, 60))
    (both,) = groupvit.segment(features, groupvit.encode_text(["dog", "cat"]))
    (alone,) = groupvit.segment(features, groupvit.encode_text(["dog"]))
    assert both.sum(dim=0).max() <= 1 + 1e-5
    assert (both[0] <= alone[0] + 1e-5).all()
    assert (both[0] < alone[0] - 1e-4).any()


def test_labels_that_are_asked_one_by_one_do_not_compete(groupvit: Segmenter) -> None:
    (features,) = groupvit.encode_image(picture(64, 64))
    conditions = groupvit.encode_text(["dog", "cat"])
    alone = [groupvit.probabilities(features, one)[0] for one in conditions]
    torch.testing.assert_close(groupvit.each(features, conditions), torch.stack(alone))


def test_without_the_fast_path_masks_are_the_same(
    groupvit: Segmenter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = groupvit.model, groupvit.tokenizer, groupvit.processor
    quick = Segmenter(*parts, device="cpu")
    assert "using the plain one" not in caplog.text
    monkeypatch.setattr(fast, "TOLERANCE", {torch.float32: 0.0})
    plain = Segmenter(*parts, device="cpu")
    assert "using the plain one" in caplog.text
    conditions = quick.encode_text(["dog", "cat"])
    masks = [one.segment(one.encode_image(picture(100, 60)), conditions) for one in (quick, plain)]
    torch.testing.assert_close(*masks, atol=1e-4, rtol=1e-3)


def test_a_single_label_can_lose_to_the_background(groupvit: Segmenter) -> None:
    features = groupvit.encode_image(picture(64, 64))
    condition = groupvit.encode_text(["dog"])
    (towards,) = groupvit.segment(features, condition)
    (away,) = groupvit.segment(features, -condition)
    torch.testing.assert_close(towards + away, torch.ones_like(towards), atol=1e-5, rtol=1e-4)


def test_templates_are_averaged_before_anything_else(groupvit: Segmenter) -> None:
    (condition,) = groupvit.encode_text(["dog"])
    model: Any = groupvit.model
    with torch.inference_mode():
        phrases = [
            model.get_text_features(**groupvit.tokenizer([text]))[0]
            for text in ("dog", "a photo of a dog.")
        ]
    torch.testing.assert_close(condition, torch.stack(phrases).mean(dim=0), atol=1e-5, rtol=1e-4)


def test_an_exemplar_competes_like_a_label(groupvit: Segmenter) -> None:
    image = picture(80, 60)
    mask = np.zeros((60, 80), bool)
    mask[10:40, 10:50] = True
    conditions = torch.cat(
        [groupvit.encode_text(["dog"]), groupvit.encode_exemplar(Exemplar(image, mask))]
    )
    (masks,) = groupvit.segment(groupvit.encode_image(image), conditions)
    assert masks.shape == (2, 60, 80)


def test_patches_hold_what_the_groups_that_gathered_them_are(groupvit: Segmenter) -> None:
    (features,) = groupvit.encode_image(picture(90, 60))
    groups, maps = features.parts
    patches = groupvit.patches(features)
    assert patches.shape == (groups.shape[-1], *features.grid)
    # each patch is shared out among groups, and so lies between the least and the most of them
    assert (patches <= groups.amax(dim=(0, 1))[:, None, None] + 1e-4).all()
    assert (patches >= groups.amin(dim=(0, 1))[:, None, None] - 1e-4).all()
    assert maps.sum(dim=1).allclose(torch.ones(()), atol=1e-4)


def test_windows_cover_everything_and_overlap() -> None:
    for length in range(1, 60):
        starts = slides(length, 8)
        seen = {i for start in starts for i in range(start, min(length, start + 8))}
        assert seen == set(range(length))
        assert starts == sorted(set(starts))


def test_an_unknown_kind_of_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"'bert'.*clipseg, groupvit"):
        Segmenter.from_pretrained(tmp_path)
