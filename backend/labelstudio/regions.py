"""Regions and predictions as Label Studio takes them.

Label Studio saves whatever a backend sends and fails later, in the editor, in silence. So a worker
only names a control, a label and a shape, and `prediction` makes the regions of them: it lets
through what fits the labeling configuration, and the log tells what did not.

Between processes a brush's RLE is base64, a third of the size of the list that goes out.
"""

from __future__ import annotations

import logging
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.labelstudio import bitmask, brush
from backend.labelstudio.config import ChoiceControl, Control, Kind, LabelConfig, TextControl
from backend.labelstudio.labels import Choice
from backend.labelstudio.origin import new_id

log = logging.getLogger(__name__)

EDGE = 100.0 + 1e-6  # percent of the image; sums of rounded numbers may pass 100 by a hair
LEAST_AREA = 1e-6  # percent x percent: a hundredth of a pixel on an image of 10,000 x 10,000

Json = dict[str, Any]
Size = tuple[int, int]  # height, width


def shape(
    control: Control,
    label: str,
    value: Json,
    size: Size,
    score: float,
    confidence: float | None = None,
) -> Json:
    """What a worker answers for one region on an image shown at `size`, (height, width).

    The model's confidence is remembered beside a score that is made of it.
    """
    height, width = size
    return {
        "control": control.name,
        "label": label,
        "height": height,
        "width": width,
        "score": score,
        "confidence": score if confidence is None else confidence,
        "value": value,
    }


def brush_value(mask: NDArray[np.bool_]) -> Json:
    """A mask, (H, W), as brush RLE, in base64."""
    return {"format": "rle", "rle": b64encode(brush.encode(mask)).decode()}


def bitmask_value(mask: NDArray[np.bool_]) -> Json:
    """A mask, (H, W), as a PNG in a data URL."""
    return {"imageDataURL": bitmask.encode(mask)}


def rectangle_value(x: float, y: float, width: float, height: float) -> Json:
    """A box: its upper left corner and its size, in percent of the image."""
    return {"x": x, "y": y, "width": width, "height": height, "rotation": 0}


def polygon_value(points: list[list[float]]) -> Json:
    """A ring of points, x and y in percent of the image."""
    return {"points": points, "closed": True}


def prediction(answer: Mapping[str, Any], config: LabelConfig, task: object = None) -> Json:
    """A worker's answer as Label Studio takes it; what does not fit is dropped and logged.

    Sampling by uncertainty shows the lowest score first, of the cluster that the annotator has
    seen least of. Label Studio leaves out the cluster of what it asks for itself.

    Args:
        answer: Shapes under "regions", "score", "model_version" and perhaps "cluster".
        config: The labeling configuration that the regions must fit.
        task: The task's name in the log.
    """
    controls = {control.name: control for control in config.outputs}
    result: list[Json] = []
    for one in answer["regions"]:
        try:
            result += _regions(one, controls, answer["model_version"])
        except ValueError as reason:
            log.warning(
                "task %s: a region of control %r with label %r for %s x %s pixels is dropped: %s",
                task,
                one.get("control"),
                one.get("label"),
                one.get("width"),
                one.get("height"),
                reason,
            )
    told = {name: answer[name] for name in ("score", "model_version", "cluster") if name in answer}
    return {"result": result, **told}


def text_region(control: TextControl, text: str | Sequence[str]) -> Json:
    """A text, or several, for a text area; the editor fills them in at once: a way to answer.

    No text empties the area.
    """
    texts = [text] if isinstance(text, str) else text
    return _told(control, "textarea", {"text": [one for one in texts if one]})


def choices_region(control: ChoiceControl, choices: Sequence[Choice]) -> Json:
    """What is ticked of choices; the editor does so at once."""
    ticked = [one.value if isinstance(one.value, str) else [*one.value] for one in choices]
    return _told(control, "choices", {"choices": ticked})


def _told(control: TextControl | ChoiceControl, kind: str, value: Json) -> Json:
    return {
        "id": uuid.uuid4().hex[:10],
        "from_name": control.name,
        "to_name": control.to_name,
        "type": kind,
        "value": value,
    }


def _regions(
    one: Mapping[str, Any], controls: Mapping[str, Control], model_version: str
) -> list[Json]:
    """The region of a shape; a control without labels of its own takes two of the same id.

    Raises:
        ValueError: It does not fit the labeling configuration, or nobody could see it.
    """
    control = controls.get(one["control"])
    if control is None:
        raise ValueError("the labeling configuration has no such control to fill")
    label = one["label"]
    if not any(known.value == label for known in control.labels):
        raise ValueError("the control has no such label")
    height, width = one["height"], one["width"]
    value = _CHECKS[control.kind](one["value"], (height, width))
    frame = {
        "id": new_id(model_version, one.get("confidence")),
        "to_name": control.to_name,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "score": one["score"],
    }

    def region(from_name: str, kind: str, **labels: list[str]) -> Json:
        return {**frame, "from_name": from_name, "type": kind, "value": {**value, **labels}}

    if control.labels_from is None:
        kind = f"{control.kind}labels"
        return [region(control.name, kind, **{kind: [label]})]
    return [
        region(control.name, control.kind.value),
        region(control.labels_from, "labels", labels=[label]),
    ]


def _checked_brush(value: Json, size: Size) -> Json:
    rle = b64decode(value["rle"], validate=True)
    if not brush.decode(rle, *size).any():
        raise ValueError("its mask is empty")
    return {**value, "rle": list(rle)}


def _checked_bitmask(value: Json, size: Size) -> Json:
    url = value["imageDataURL"]
    if not url.startswith(bitmask.PNG):
        raise ValueError(f"its mask does not start with {bitmask.PNG}")
    if not bitmask.decode(url, *size).any():
        raise ValueError("its mask is empty")
    return value


def _checked_rectangle(value: Json, _: Size) -> Json:
    x, y, width, height = (float(value[key]) for key in ("x", "y", "width", "height"))
    if not (0 <= x < x + width <= EDGE and 0 <= y < y + height <= EDGE):
        raise ValueError(f"its box ({x:g}, {y:g}, {width:g}, {height:g} %) is not in the image")
    return value


def _checked_polygon(value: Json, _: Size) -> Json:
    points = np.array(value["points"], np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError("its polygon has fewer than three points")
    if not ((points >= 0) & (points <= EDGE)).all():
        raise ValueError("its polygon is not in the image")
    (x, y), (next_x, next_y) = points.T, np.roll(points, -1, axis=0).T
    if abs((x * next_y - next_x * y).sum()) / 2 < LEAST_AREA:
        raise ValueError("its polygon has no area")
    return value


_CHECKS: dict[Kind, Callable[[Json, Size], Json]] = {
    Kind.BRUSH: _checked_brush,
    Kind.BITMASK: _checked_bitmask,
    Kind.RECTANGLE: _checked_rectangle,
    Kind.POLYGON: _checked_polygon,
}
