"""Groups of images that look alike, so that annotators are shown different ones.

A project's first images tell what its groups are; from then on an image belongs to the nearest one,
in every process. An image is described by the mean of its deepest features, which are computed
anyway and the same whatever version a project is served with.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from backend.durable import rewrite
from backend.filelock import locked

log = logging.getLogger(__name__)

FIRST = 32  # images that tell
GROUPS = 8
STEPS = 20  # of k-means; so few images need fewer

Description = NDArray[np.float32]  # of an image, (D,)
Descriptions = NDArray[np.float32]  # (N, D)


class Clusters:
    """Every project's groups, in the folder of its versions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first: dict[Path, dict[str, Description]] = {}  # by digest, until they tell
        self._centres: dict[Path, Descriptions] = {}

    def of(self, project: int | None, encoder: str, digest: str, image: Description) -> int | None:
        """The number of an image's group; None until the project's groups are known.

        Args:
            project: The project's id; without one there are no groups.
            encoder: Names what described the image: others describe it otherwise.
            digest: The image's.
            image: Its description.
        """
        if project is None:
            return None
        name = hashlib.sha256(encoder.encode()).hexdigest()[:8]
        path = self._folder / str(project) / f"clusters-{name}.safetensors"
        try:
            centres = self._known(path)
            if centres is None:
                first = self._first.setdefault(path, {})
                if len(first) < FIRST:
                    first[digest] = image
                if len(first) < FIRST:
                    return None
                centres = self._found(path, np.stack([first[name] for name in sorted(first)]))
                del self._first[path]
            return nearest(centres, image)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be used, images are in no group: %s", path, error)
            return None

    def _known(self, path: Path) -> Descriptions | None:
        """The groups' centres, (G, D), if this or another process found them."""
        if path not in self._centres:
            try:
                self._centres[path] = load(path.read_bytes())["centres"]
            except FileNotFoundError:
                return None
        return self._centres[path]

    def _found(self, path: Path, images: Descriptions) -> Descriptions:
        """Centres of these images' groups, unless another process found some meanwhile."""
        with locked(path.parent / ".lock"):
            known = self._known(path)
            if known is None:
                known = self._centres[path] = grouped(images)
                rewrite(path, save({"centres": known}))
            return known


def grouped(images: Descriptions) -> Descriptions:
    """Centres of at most `GROUPS` groups, (G, D): k-means from images far from each other."""
    chosen = [images[np.linalg.norm(images - images.mean(axis=0), axis=1).argmin()]]
    while len(chosen) < GROUPS:
        apart = _distances(np.stack(chosen), images).min(axis=0)
        if not apart.any():
            break
        chosen.append(images[apart.argmax()])
    centres = np.stack(chosen)
    for _ in range(STEPS):
        belongs = _distances(centres, images).argmin(axis=0)
        for group in set(belongs.tolist()):
            centres[group] = images[belongs == group].mean(axis=0)
    return centres


def nearest(centres: Descriptions, image: Description) -> int:
    """The number of the group whose centre is nearest to an image."""
    return int(_distances(centres, image[None])[:, 0].argmin())


def _distances(centres: Descriptions, images: Descriptions) -> Descriptions:
    """From each centre to each image: (G, N)."""
    distances: Descriptions = np.linalg.norm(centres[:, None] - images[None], axis=2)
    return distances
