from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.errors import VersionDamaged
from backend.inference.features import FeatureCache
from backend.inference.pipeline import Pipeline
from backend.labelstudio.images import ImageStore
from backend.learning.card import Card, Version
from backend.learning.registry import Registry
from backend.learning.versions import WEIGHTS
from backend.settings import Settings
from backend.worker.serving import Serving
from models import Segmenter
from tests.backend.inference.test_pipeline import payload
from tests.models.test_tuned import decoder

BASE = "b" * 64


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models")


def serving(segmenter: Segmenter, registry: Registry, limit: int = 4) -> Serving:
    return Serving(segmenter, BASE, FeatureCache(10**7), registry, limit)


def activate(
    registry: Registry, project: int, weights: dict[str, Tensor], base: str = BASE
) -> Version:
    version = registry.publish(project, weights, Card(base))
    registry.activate(project, version.id, "")
    return version


def scaled(segmenter: Segmenter, factor: float) -> dict[str, Tensor]:
    return {name: factor * tensor for name, tensor in decoder(segmenter).items() if "film" in name}


def pipeline(served: Serving, tmp_path: Path) -> Pipeline:
    return Pipeline(served.of, ImageStore.of(Settings(data_dir=tmp_path)), threshold=0.01)


def told(pipeline: Pipeline, *projects: int | None) -> list[dict[str, Any]]:
    """Answers without what differs each time, one image for all projects."""
    answers = pipeline.answer([payload(project=project) for project in projects])
    return [{k: v for k, v in answer.items() if k != "seconds"} for answer, _ in answers]


def test_a_project_without_a_version_is_answered_by_the_base(
    segmenter: Segmenter, registry: Registry
) -> None:
    here = serving(segmenter, registry)
    assert here.of(None) is here.of(1) is here.of(2)
    assert here.of(1).version is None
    assert here.of(1).predictor.segmenter is segmenter


def test_activation_and_rollback_count_from_the_next_look_on(
    segmenter: Segmenter, registry: Registry
) -> None:
    here, elsewhere = serving(segmenter, registry), Registry(registry._folder)
    base = here.of(1)
    one = activate(elsewhere, 1, scaled(segmenter, 2))
    assert here.of(1).version == one.id
    two = activate(elsewhere, 1, scaled(segmenter, 3))
    assert here.of(1).version == two.id
    elsewhere.rollback(1)
    assert here.of(1).version == one.id
    elsewhere.rollback(1)
    assert here.of(1) is base


def test_each_project_of_a_batch_has_its_own_version_and_rollback_its_old_masks(
    segmenter: Segmenter, registry: Registry, tmp_path: Path
) -> None:
    here = serving(segmenter, registry)
    answers = pipeline(here, tmp_path)
    (before,) = told(answers, 1)
    one = activate(registry, 1, scaled(segmenter, -5))
    two = activate(registry, 2, scaled(segmenter, 7))
    first, second, third, fourth = told(answers, 1, 2, 3, None)
    assert third == fourth == before
    assert f"-{one.id[:8]}-" in first["model_version"]
    assert f"-{two.id[:8]}-" in second["model_version"]
    assert len({str(answer["regions"]) for answer in (first, second, third)}) == 3
    assert told(answers, 1) == [first]
    registry.rollback(1)
    assert told(answers, 1, 2) == [before, second]


def test_no_more_versions_stay_in_memory_than_allowed(
    segmenter: Segmenter, registry: Registry
) -> None:
    here = serving(segmenter, registry, limit=2)
    for project in (1, 2, 3):
        activate(registry, project, scaled(segmenter, project))
    first = here.of(1)
    assert here.of(2) is not here.of(3)
    assert here.of(3) is here.of(3)
    assert len(here._held) == 2
    assert here.of(1) is not first
    assert here.of(1).version == first.version


def test_one_version_of_several_projects_is_in_memory_once(
    segmenter: Segmenter, registry: Registry
) -> None:
    here = serving(segmenter, registry)
    for project in (1, 2):
        activate(registry, project, scaled(segmenter, 2))
    assert here.of(1) is here.of(2)


def test_a_version_that_is_damaged_while_it_is_loaded_gives_way(
    segmenter: Segmenter, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = serving(segmenter, registry)
    one = activate(registry, 1, scaled(segmenter, 2))
    two = activate(registry, 1, scaled(segmenter, 3))
    weights = registry.weights

    def damaged_meanwhile(version: Version) -> dict[str, Tensor]:
        path = registry._folder / "1" / two.id / WEIGHTS
        if version.id == two.id:
            path.write_bytes(path.read_bytes()[:-1])
        return weights(version)

    monkeypatch.setattr(registry, "weights", damaged_meanwhile)
    assert here.of(1).version == one.id
    with pytest.raises(VersionDamaged):
        registry.weights(two)


def test_a_version_that_does_not_fit_is_not_claimed(
    segmenter: Segmenter, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    here = serving(segmenter, registry)
    activate(registry, 1, {"decoder.nonsense": torch.zeros(1)})
    assert here.of(1) is here.of(1) is here.of(2)
    assert caplog.text.count("cannot be served, the base checkpoint is") == 1


def test_features_are_shared_unless_a_version_encodes_otherwise(
    segmenter: Segmenter, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = serving(segmenter, registry)
    answers = pipeline(here, tmp_path)
    told(answers, 3)
    activate(registry, 1, scaled(segmenter, 2))
    activate(registry, 2, decoder(segmenter, reduces=True))
    with monkeypatch.context() as patch:
        patch.setattr(segmenter._engine, "encode", None)
        patch.setattr(here.of(1).predictor.segmenter._engine, "encode", None)
        assert told(answers, 1)[0]["regions"]  # from what the base encoded
    (other,) = told(answers, 2)
    fresh = pipeline(serving(segmenter, registry), tmp_path)
    assert told(fresh, 2) == [other]
