from pathlib import Path

import pytest
import torch

from backend.learning.lessons import Lessons
from backend.learning.pupils import pupil_of
from backend.learning.recipe import Recipe
from backend.learning.registry import Registry
from backend.learning.train import train
from models import CLIPTokenizer, GroupViTConfig, GroupViTModel, ImageProcessor, Segmenter
from tests.backend.learning.school import CONFIG, sample, source


@pytest.fixture(scope="module")
def grouping(tiny_checkpoint: Path) -> Segmenter:
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(tiny_checkpoint)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    words = tokenizer.encode([""])[0][-1] + 1
    config = GroupViTConfig(
        text_config={"vocab_size": words, "num_hidden_layers": 1, **size},
        vision_config={
            "depths": [2, 1],
            "num_group_tokens": [6, 0],
            "num_output_groups": [6, 6],
            "image_size": 32,
            "patch_size": 8,
            **size,
        },
        projection_dim=24,
        projection_intermediate_dim=48,
    )
    return Segmenter(GroupViTModel(config), tokenizer, ImageProcessor(32, 32), device="cpu")


@pytest.mark.parametrize("model", ["segmenter", "grouping"])
def test_a_pupil_answers_as_the_model_it_is_of(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    whole: Segmenter = request.getfixturevalue(model)
    lesson = Lessons(tmp_path / "lessons", "base", whole).make(sample(1))
    features = lesson.features(whole)
    pupil = pupil_of(whole)
    for condition in whole.encode_text(["a red circle", "a bright thing"]).clone():
        parts = [part[None] for part in features.parts]
        with torch.no_grad():
            said = pupil.logits(parts, condition[None], lesson.grid, lesson.windows).sigmoid()
        expected = whole.probabilities(features, condition)
        torch.testing.assert_close(said, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("model", ["segmenter", "grouping"])
def test_what_is_trained_has_the_models_names_and_changes_no_features(
    model: str, request: pytest.FixtureRequest
) -> None:
    whole: Segmenter = request.getfixturevalue(model)
    trained = pupil_of(whole).trained
    own = whole.model.state_dict()
    assert trained
    assert all(torch.equal(tensor, own[name]) for name, tensor in trained.items())
    other = whole.with_decoder({name: tensor.detach() + 0.1 for name, tensor in trained.items()})
    assert other.encodes_like(whole)


def test_a_groupvit_is_trained_by_the_same_road(grouping: Segmenter, tmp_path: Path) -> None:
    registry, recipe = Registry(tmp_path), Recipe(steps=20, look=10, rows=4, rate=5e-3)
    done = train(
        grouping, "b" * 64, registry, tmp_path, 7, CONFIG, source, threshold=0.4, recipe=recipe
    )
    weights = registry.weights(done.version)
    assert all(name.startswith("visual_projection.") for name in weights)
    assert any(not torch.equal(w, grouping.model.state_dict()[n]) for n, w in weights.items())
    assert grouping.with_decoder(weights).encodes_like(grouping)
