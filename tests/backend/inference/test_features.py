import torch

from backend.inference.features import FeatureCache
from models import ImageFeatures


def features(kilobytes: int) -> ImageFeatures:
    return ImageFeatures((torch.zeros(256 * kilobytes),), (1, 1), (1, 1))


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
