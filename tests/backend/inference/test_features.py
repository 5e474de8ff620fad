from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from backend.diskcache import DiskCache
from backend.inference.features import FeatureCache, FeatureStore
from backend.inference.predictor import Predictor
from models import ImageFeatures, Segmenter


def features(kilobytes: int) -> ImageFeatures:
    return ImageFeatures((torch.zeros(256 * kilobytes),), (1, 1), (1, 1))


@pytest.fixture
def store(segmenter: Segmenter, tmp_path: Path) -> FeatureStore:
    return FeatureStore(DiskCache(tmp_path, 10**6), segmenter, "0" * 64)


def test_the_least_recently_used_make_room() -> None:
    cache = FeatureCache(3 * 1024)
    for name in "abc":
        cache.put(name, features(1))
    assert cache.get("a") is not None
    cache.put("d", features(1))
    assert cache.get("b") is None
    assert all(cache.get(name) is not None for name in "acd")


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = FeatureCache(1024)
    cache.put("small", features(1))
    cache.put("large", features(2))
    assert cache.get("large") is None
    assert cache.get("small") is not None


def test_a_store_gives_back_exactly_what_was_put(store: FeatureStore) -> None:
    kept = ImageFeatures(
        (torch.randn(2, 3), torch.randn(4, 1).T), (5, 6), (70, 80), ((0, 0), (0, 3))
    )
    store.put("a", kept)
    found = store.get("a")
    assert found is not None
    assert (found.grid, found.size, found.windows) == (kept.grid, kept.size, kept.windows)
    for ours, theirs in zip(found.parts, kept.parts, strict=True):
        assert torch.equal(ours, theirs)


def test_another_worker_and_a_restarted_one_find_the_features(store: FeatureStore) -> None:
    FeatureCache(10**6, store).put("a", features(1))
    restarted = FeatureCache(10**6, store)
    found = restarted.get("a")
    assert found is not None
    assert restarted.get("a") is found  # in memory from now on


def test_what_memory_drops_is_still_on_disk(store: FeatureStore) -> None:
    cache = FeatureCache(1024, store)
    for name in "ab":
        cache.put(name, features(1))
    assert cache.get("a") is not None


def test_other_weights_have_other_features(
    store: FeatureStore, segmenter: Segmenter, tmp_path: Path
) -> None:
    store.put("a", features(1))
    assert FeatureStore(DiskCache(tmp_path, 10**6), segmenter, "1" * 64).get("a") is None


def test_another_kind_of_device_has_other_features(
    store: FeatureStore, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("a", features(1))
    monkeypatch.setattr(segmenter, "device", torch.device("cuda"))
    assert FeatureStore(DiskCache(tmp_path, 10**6), segmenter, "0" * 64).get("a") is None


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:-1] + b"\xff"])
def test_a_damaged_file_is_a_miss_and_removed(
    store: FeatureStore, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    store.put("a", features(1))
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert store.get("a") is None
    assert not list(tmp_path.iterdir())


def test_the_disk_stays_bounded(segmenter: Segmenter, tmp_path: Path) -> None:
    store = FeatureStore(DiskCache(tmp_path, 5000), segmenter, "0" * 64)
    for name in "abcdefgh":
        store.put(name, features(1))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 5000
    assert store.get("h") is not None
    assert store.get("a") is None


def test_a_second_prompt_after_a_restart_encodes_nothing(
    store: FeatureStore, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.effect_noise((60, 40), 80).convert("RGB")
    (first,) = Predictor(segmenter, FeatureCache(10**6, store)).encode([("a", image)])

    def encode(images: list[Image.Image]) -> list[ImageFeatures]:
        assert not images
        return []

    monkeypatch.setattr(segmenter, "encode_image", encode)
    (again,) = Predictor(segmenter, FeatureCache(10**6, store)).encode([("a", image)])
    condition = segmenter.encode_text(["a dog"])
    assert torch.equal(
        segmenter.probabilities(first, condition), segmenter.probabilities(again, condition)
    )
