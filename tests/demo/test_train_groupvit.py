import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from demo import CHECKPOINT, pool, scenes
from demo.pool import Pool, Style
from demo.train_groupvit import GroupViTRecipe, GroupViTTrainer
from models import CLIPSegForImageSegmentation, ImageProcessor, Segmenter

TINY = GroupViTRecipe(
    steps=3, side=48, width=32, depths=(1, 1), text_width=32,
    joint=32, between=32, images=4, warm_up=1,
)  # fmt: skip
PROCESSOR = ImageProcessor(TINY.side, TINY.side)


@pytest.fixture(scope="module")
def drawn() -> Pool:
    return pool._chunk(500, 12, PROCESSOR, Style(cut=True))


@pytest.fixture
def trainer(drawn: Pool) -> GroupViTTrainer:
    return GroupViTTrainer(TINY, drawn, PROCESSOR)


def test_three_steps_learn_something_and_save_a_folder_that_loads(
    trainer: GroupViTTrainer, tmp_path: Path
) -> None:
    before = [p.clone() for p in trainer.model.parameters()]
    losses = [trainer.step()[0] for _ in range(3)]
    assert np.isfinite(losses).all()
    assert all(not torch.equal(old, new) for old, new in zip(before, trainer.averaged, strict=True))
    assert trainer.progress == 1
    trainer.save(tmp_path)
    segmenter = Segmenter.from_pretrained(tmp_path)
    assert segmenter.name == "groupvit"
    scene = scenes.generate(1, (60, 40))
    conditions = segmenter.encode_text(["circle", "square"])
    (shares,) = segmenter.segment(segmenter.encode_image([scene.image]), conditions)
    assert shares.shape == (2, 40, 60)


def test_the_same_seed_trains_the_same_model(drawn: Pool) -> None:
    first, again = (GroupViTTrainer(TINY, drawn, PROCESSOR).step() for _ in range(2))
    assert first == pytest.approx(again)


def test_it_begins_with_what_the_demo_clipseg_knows(drawn: Pool) -> None:
    trainer = GroupViTTrainer(GroupViTRecipe(side=48, images=4), drawn, PROCESSOR)
    trainer.go_on_from(CHECKPOINT)
    clipseg = CLIPSegForImageSegmentation.from_pretrained(CHECKPOINT).eval()
    tokens = trainer.tokenizer(["a striped red ring"])
    with torch.no_grad():
        said = [
            model.text_model(tokens["input_ids"], tokens["attention_mask"]).pooler_output
            for model in (trainer.model, clipseg.clip)
        ]
        pixels = trainer.normalised(trainer.sampler.draw().pixels)
        trainer.model.vision_model(pixels)
        seen = clipseg.encode_image(pixels)[-1][:, 1:]
    torch.testing.assert_close(*said)
    # they normalise at another place and have other tokens beside the patches, so not equal
    assert torch.cosine_similarity(trainer._patches, seen, dim=-1).mean() > 0.8


def test_it_learns_one_batch_by_heart(drawn: Pool) -> None:
    recipe = dataclasses.replace(TINY, steps=60, depths=(2, 1))
    trainer = GroupViTTrainer(recipe, drawn, PROCESSOR)
    batch = trainer.sampler.draw()
    trainer.sampler.draw = lambda: batch  # type: ignore[method-assign]
    losses = [trainer.step()[0] for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
