"""Image features kept for the next prompt: in memory, and on disk for others and restarts."""

from __future__ import annotations

from collections import OrderedDict

import torch
from safetensors.torch import load, save

from backend import __version__
from backend.diskcache import DiskCache
from models import ImageFeatures, Segmenter


class FeatureCache:
    """Least recently used features by image digest; one worker has one model, so one cache.

    What memory lacks is looked up in the store, if there is one.
    """

    def __init__(self, limit_bytes: int, store: FeatureStore | None = None) -> None:
        self._limit = limit_bytes
        self._store = store
        self._held = 0
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()

    def get(self, digest: str) -> ImageFeatures | None:
        """The features of an image seen before, if they are still here."""
        if digest in self._features:
            self._features.move_to_end(digest)
            return self._features[digest]
        features = self._store.get(digest) if self._store else None
        if features is not None:
            self._hold(digest, features)
        return features

    def put(self, digest: str, features: ImageFeatures) -> None:
        """Keep features; the least recently used make room. Too large ones are not kept."""
        self._hold(digest, features)
        if self._store:
            self._store.put(digest, features)

    def _hold(self, digest: str, features: ImageFeatures) -> None:
        if digest in self._features or features.nbytes > self._limit:
            return
        self._features[digest] = features
        self._held += features.nbytes
        while self._held > self._limit:
            _, dropped = self._features.popitem(last=False)
            self._held -= dropped.nbytes


class FeatureStore:
    """Features on disk, as safetensors, of one model among those that share the folder.

    They are kept as they are computed: in half precision they would take half the space, and
    masks would depend on where an image's features came from.
    """

    def __init__(self, cache: DiskCache, segmenter: Segmenter, weights_digest: str) -> None:
        self._cache = cache
        self._device = segmenter.device
        # what decides a feature's values and their dtype, beside the image
        computed = f"{segmenter.device.type} {segmenter.precision}"
        self._model = f"{__version__} {weights_digest} {computed}"

    def get(self, digest: str) -> ImageFeatures | None:
        """The features of an image that any worker with the same weights has encoded."""
        content = self._cache.get(self._key(digest))
        if content is None:
            return None
        kept = load(content)
        parts = [kept[f"part{i}"].to(self._device) for i in range(len(kept) - 3)]
        (rows, columns), (height, width) = kept["grid"].tolist(), kept["size"].tolist()
        windows = tuple((int(row), int(column)) for row, column in kept["windows"].tolist())
        return ImageFeatures(tuple(parts), (rows, columns), (height, width), windows)

    def put(self, digest: str, features: ImageFeatures) -> None:
        """Write features for whoever needs them next."""
        tensors = {f"part{i}": part.contiguous() for i, part in enumerate(features.parts)}
        for name in ("grid", "size", "windows"):
            tensors[name] = torch.tensor(getattr(features, name))
        self._cache.put(self._key(digest), save(tensors))

    def _key(self, digest: str) -> str:
        return f"{self._model} {digest}"
