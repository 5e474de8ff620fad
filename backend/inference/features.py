"""Image features kept in memory, bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict

from models import ImageFeatures


class FeatureCache:
    """Least recently used features by image digest; one worker has one model, so one cache."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()

    def get(self, digest: str) -> ImageFeatures | None:
        """The features of an image seen before, if they are still here."""
        if digest in self._features:
            self._features.move_to_end(digest)
        return self._features.get(digest)

    def put(self, digest: str, features: ImageFeatures) -> None:
        """Keep features; the least recently used make room. Too large ones are not kept."""
        if digest in self._features or features.nbytes > self._limit:
            return
        self._features[digest] = features
        self._held += features.nbytes
        while self._held > self._limit:
            _, dropped = self._features.popitem(last=False)
            self._held -= dropped.nbytes
