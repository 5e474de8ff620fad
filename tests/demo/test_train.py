from pathlib import Path

import numpy as np
import pytest
import torch

from demo import pool, scenes
from demo.optimiser import Muon, orthogonal
from demo.pool import Pool, Sampler
from demo.train import Recipe, Trainer
from models import Exemplar, ImageProcessor, Segmenter

TINY = Recipe(
    steps=3, side=48, width=32, depth=2, extract=(0, 1), text_width=32, joint=32, reduce=32,
    decoder_hidden=32, images=4, prompts=3, exemplars=2, warm_up=1,
)  # fmt: skip
PROCESSOR = ImageProcessor(TINY.side, TINY.side)


@pytest.fixture(scope="module")
def drawn() -> Pool:
    return pool._chunk(500, 12, PROCESSOR)


def test_three_steps_learn_something_and_save_a_folder_that_loads(
    drawn: Pool, tmp_path: Path
) -> None:
    trainer = Trainer(TINY, drawn, PROCESSOR)
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
    first, again = (Trainer(TINY, drawn, PROCESSOR).step() for _ in range(2))
    assert first == pytest.approx(again)


def test_targets_are_what_the_prompt_means(drawn: Pool) -> None:
    batch = Sampler(drawn, 0, images=4, prompts=5, exemplars=2, patch=8).draw()
    assert len(batch.texts) == 20
    assert len(batch.rows) == len(batch.targets) == len(batch.traits) == 22
    assert batch.targets.min() >= 0
    assert batch.targets.max() <= 1
    absent = batch.targets.flatten(1).sum(dim=1) == 0
    assert absent.any()
    assert not absent.all()


def test_patches_are_named_by_the_object_on_them(drawn: Pool) -> None:
    batch = Sampler(drawn, 0, images=4, prompts=1, exemplars=1, patch=8).draw()
    assert batch.patches.shape == (4, 3, 6, 6)
    named = batch.patches > 0
    assert (named.any(dim=1) == named.all(dim=1)).all()


def test_orthogonal_updates_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(3, 24, 64)))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_muon_goes_downhill() -> None:
    torch.manual_seed(0)
    weight, goal = torch.nn.Parameter(torch.randn(8, 16)), torch.randn(8, 16)
    optimiser = Muon([weight], lr=0.2, decay=0.0)
    first = (weight - goal).square().sum().item()
    for _ in range(50):
        optimiser.zero_grad()
        loss = (weight - goal).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss.item() < 0.2 * first
