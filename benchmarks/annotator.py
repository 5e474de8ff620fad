"""An annotator who labels generated scenes with concepts that the demo checkpoint does not know.

The labels' names are no words of the checkpoint's either, and it finds little for them.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from backend.labelstudio import brush
from backend.labelstudio.images import TaskImage
from backend.labelstudio.starter import label_config
from backend.learning.dataset import Sample
from demo.scenes import KNOWN_SHAPES, KNOWN_TEXTURES, SceneObject, generate

LABELS = {"Sprocket": "hourglass", "Grommet": "flower", "Motley": "halved"}
XML = label_config(list(LABELS))
SHAPES = (*KNOWN_SHAPES, *["hourglass", "flower"] * 3)  # half of what there is
TEXTURES = (*KNOWN_TEXTURES, *["halved"] * 2)  # a third
POOL, JUDGED = 500_000_000, 600_000_000  # seeds, far from those of the demo's training
SPAN = 1000  # seeds that one round of the benchmark has for itself


def sample(task: int, seed: int) -> Sample:
    """A scene as an accepted task."""
    scene = generate(seed, shapes=SHAPES, textures=TEXTURES)
    masks = {}
    for label, concept in LABELS.items():
        meant = [thing.mask for thing in scene.objects if _is(thing, concept)]
        if meant:
            masks[label] = np.logical_or.reduce(meant)
    return Sample(task, "image", TaskImage(scene.image, f"scene {seed}"), tuple(LABELS), masks)


def _is(thing: SceneObject, concept: str) -> bool:
    return concept in (thing.shape, thing.texture)


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
        "project": {"id": project, "label_config": XML},
        "annotation": {**annotation, "updated_at": "2026-01-01T00:00:00Z"},
        "task": {"id": one.task, "data": {"image": url}},
    }
