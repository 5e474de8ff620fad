"""Which weights answer which project: the base checkpoint's, or those of its active version."""

from __future__ import annotations

import logging
from collections import OrderedDict

from backend.errors import VersionDamaged
from backend.inference.features import FeatureCache
from backend.inference.pipeline import Served
from backend.inference.predictor import Predictor
from backend.learning.card import Version
from backend.learning.registry import Registry
from models import Segmenter

log = logging.getLogger(__name__)

LOOKS = 3  # at what is active, when a version is damaged between the look and the loading


class Serving:
    """Every project's predictor; the versions used last stay in memory."""

    def __init__(
        self,
        segmenter: Segmenter,
        digest: str,
        features: FeatureCache,
        registry: Registry,
        limit: int,
    ) -> None:
        """Serve the base checkpoint of a digest, and at most `limit` versions of it at a time."""
        self._segmenter = segmenter
        self._digest = digest
        self._features = features
        self._registry = registry
        self._limit = limit
        self._base = Served(Predictor(segmenter, features), segmenter.name, digest)
        self._held: OrderedDict[str, Served] = OrderedDict()

    def of(self, project: int | None) -> Served:
        """What is active for a project now, as the folder of versions says."""
        if project is None:
            return self._base
        for _ in range(LOOKS):
            version = self._registry.active(project, self._digest)
            if version is None:
                break
            try:
                return self._holding(version)
            except VersionDamaged as error:
                log.error("%s", error)
        return self._base

    def _holding(self, version: Version) -> Served:
        """A version from memory, or into it; one that does not fit the model is the base."""
        if version.id not in self._held:
            weights = self._registry.weights(version)
            try:
                predictor = Predictor.tuned(self._segmenter, weights, version.id, self._features)
            except ValueError as error:
                log.error(
                    "version %s of project %d cannot be served, the base checkpoint is: %s",
                    version.id,
                    version.project,
                    error,
                )
                self._held[version.id] = self._base
            else:
                log.info("project %d: version %s is loaded", version.project, version.id)
                self._held[version.id] = Served(
                    predictor, predictor.segmenter.name, self._digest, version.id
                )
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        self._held.move_to_end(version.id)
        return self._held[version.id]
