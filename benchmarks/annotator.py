"""An annotator who labels generated scenes, whose truth is known."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backend.labelstudio import brush
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Sample
from demo.scenes import KNOWN_SHAPES, KNOWN_TEXTURES, SceneObject, generate

POOL, JUDGED = 500_000_000, 600_000_000  # seeds, far from those of the demo's training
SPAN = 1000  # seeds that one round of the benchmark has for itself


@dataclass(frozen=True, slots=True)
class Subject:
    """What is labeled: a shape, a texture or both by label, and what scenes are drawn from."""

    labels: Mapping[str, str]
    shapes: Sequence[str] = KNOWN_SHAPES
    textures: Sequence[str] = KNOWN_TEXTURES

    @property
    def xml(self) -> str:
        """Its labeling configuration."""
        return label_config(list(self.labels))

    def sample(self, task: int, seed: int) -> Sample:
        """A scene as an accepted task."""
        scene = generate(seed, shapes=self.shapes, textures=self.textures)
        masks = {}
        for label, concept in self.labels.items():
            meant = [thing.mask for thing in scene.objects if _is(thing, concept)]
            if meant:
                masks[label] = np.logical_or.reduce(meant)
        image = TaskImage(scene.image, f"scene {seed}")
        return Sample(task, "image", image, tuple(self.labels), masks)


# What the demo checkpoints were never shown, under names that they were never told: half of the
# shapes that there are, and a third of the textures.
NEW = Subject(
    {"Sprocket": "hourglass", "Grommet": "flower", "Motley": "halved"},
    (*KNOWN_SHAPES, *["hourglass", "flower"] * 3),
    (*KNOWN_TEXTURES, *["halved"] * 2),
)
KNOWN = Subject({"Star": "star", "Cross": "cross", "Checkered": "checkered"})
# Names that the demo checkpoints know, and that say less than what is meant.
VAGUE = Subject(
    {"Star": "striped star", "Ring": "dotted ring", "Cross": "checkered cross"},
    ("star", "ring", "cross"),
)


def _is(thing: SceneObject, concept: str) -> bool:
    return all(word in (thing.shape, thing.texture) for word in concept.split())


def picture(one: Sample) -> bytes:
    """Its image as PNG."""
    file = io.BytesIO()
    one.image.image.save(file, "PNG")
    return file.getvalue()


def submitted(project: int, one: Sample, url: str) -> dict[str, Any]:
    """The event that Label Studio sends when a task is accepted as it is in truth."""
    height, width = one.size
    regions = [
        {
            "id": f"{one.task}-{label}",
            "type": "brushlabels",
            "from_name": "brush",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "value": {"format": "rle", "rle": list(brush.encode(mask)), "brushlabels": [label]},
        }
        for label, mask in one.masks.items()
    ]
    annotation = {"id": one.task, "task": one.task, "result": regions, "completed_by": 1}
    return {
        "action": "ANNOTATION_CREATED",
        "project": {"id": project, "label_config": NEW.xml},
        "annotation": {**annotation, "updated_at": "2026-01-01T00:00:00Z"},
        "task": {"id": one.task, "data": {"image": url}},
    }
