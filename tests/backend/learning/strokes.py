"""Annotations of small images, whose strokes are drawn pixel by pixel, as samples."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from backend.errors import ImageMissing
from backend.labelstudio import brush
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import TaskImage
from backend.learning.annotated import marked
from backend.learning.dataset import Account, Sample, seen

XML = """
    <View>
      <Image name="image" value="$image"/>
      <BrushLabels name="brush" toName="image">
        <Label value="Car"/><Label value="Dog"/>
      </BrushLabels>
      <RectangleLabels name="box" toName="image"><Label value="Car"/></RectangleLabels>
    </View>
"""
CONFIG = parse_label_config(XML)
HEIGHT, WIDTH = 4, 6


class Images:
    def fetch(self, url: str) -> TaskImage:
        if url == "gone":
            raise ImageMissing("gone")
        return TaskImage(Image.new("RGB", (WIDTH, HEIGHT)), url)


def mask(*pixels: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    for pixel in pixels:
        drawn[pixel] = True
    return drawn


def stroke(label: str, drawn: np.ndarray[Any, Any], **rest: Any) -> dict[str, Any]:
    return {
        "id": "s",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": drawn.shape[0],
        "original_width": drawn.shape[1],
        "value": {"rle": list(brush.encode(drawn)), "brushlabels": [label]},
        **rest,
    }


def annotation(number: int, *regions: dict[str, Any], by: int = 1, **rest: Any) -> dict[str, Any]:
    return {
        "id": number,
        "completed_by": by,
        "updated_at": f"{number:03}",
        "result": [*regions],
    } | rest


def samples(*given: Any, **more: Any) -> Iterator[Sample]:
    """What `marked` finds, with its images."""
    return seen(marked(*given, **more))


def read(*annotations: dict[str, Any], url: str = "u") -> tuple[list[Sample], Account]:
    account = Account()
    task = {"id": 1, "data": {"image": url}, "annotations": [*annotations]}
    return list(samples([task], CONFIG, Images(), account)), account
