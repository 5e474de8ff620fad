from pathlib import Path

import numpy as np
import pytest
import torch

from demo import pool, scenes
from demo.pool import Pool, Style
from demo.train_clipseg import CLIPSegRecipe, CLIPSegTrainer
from models import Exemplar, ImageProcessor, Segmenter

TINY = CLIPSegRecipe(
    steps=3, side=48, width=32, depth=2, extract=(0, 1), text_width=32, joint=32, reduce=32,
    decoder_hidden=32, images=4, prompts=3, shown=2, warm_up=1,
)  # fmt: skip
PROCESSOR = ImageProcessor(TINY.side, TINY.side)


@pytest.fixture(scope="module")
def drawn() -> Pool:
    return pool._chunk(500, 12, PROCESSOR, Style(nameless=True))


def test_three_steps_learn_something_and_save_a_folder_that_loads(
    drawn: Pool, tmp_path: Path
) -> None:
    trainer = CLIPSegTrainer(TINY, drawn, PROCESSOR)
    before = [p.clone() for p in trainer.model.parameters()]
    losses = [trainer.step()[0] for _ in range(3)]
    assert np.isfinite(losses).all()
    assert all(not torch.equal(old, new) for old, new in zip(before, trainer.averaged, strict=True))
    assert trainer.progress == 1
    trainer.save(tmp_path)
    segmenter = Segmenter.from_pretrained(tmp_path)
    scene = scenes.generate(1, (60, 40))
    features = segmenter.encode_image([scene.image])
    shown = segmenter.encode_exemplar(Exemplar(scene.image, scene.objects[0].mask))
    conditions = torch.cat([segmenter.encode_text(["a red circle"]), shown.reshape(1, -1)])
    assert segmenter.segment(features, conditions)[0].shape == (2, 40, 60)


def test_the_same_seed_trains_the_same_model(drawn: Pool) -> None:
    first, again = (CLIPSegTrainer(TINY, drawn, PROCESSOR).step() for _ in range(2))
    assert first == pytest.approx(again)
