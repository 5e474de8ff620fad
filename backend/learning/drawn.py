"""What an annotation, or a prediction, draws of each label on one image of a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backend.labelstudio.config import LabelConfig
from backend.labelstudio.shapes import OUTLINES, Area, Mask, areas
from backend.report import printable

Size = tuple[int, int]  # height, width

NAMELESS = "the region has no label"
BOX = "rectangle"
BOXED = "the rectangle is a box around what has its label"
LONGEST_SHOWN = 40  # characters of a name that the labeling configuration does not have


@dataclass(frozen=True, slots=True)
class View:
    """An image of a task, and what is looked for in it."""

    key: str  # the field of the task's data that holds the image
    tags: frozenset[str]  # which show it
    others: frozenset[str]  # tags that show another image
    outputs: frozenset[str]  # names of the controls to fill
    labels: tuple[str, ...]
    label_names: frozenset[str]  # of all labels of the labeling configuration, looked for or not


@dataclass(slots=True)
class Drawn:
    """The masks, (H, W), that are not empty; labels of which a region could not be read.

    A label that is drawn somewhere, but so small that no pixel is of it, could not be read either.
    Nor could any that is not drawn beside a region that does not tell its label, or tells one that
    there is not, as of a prediction that was made before the label was renamed.
    """

    masks: dict[str, Mask] = field(default_factory=dict)
    unclear: set[str] = field(default_factory=set)
    forms: Counter[str] = field(default_factory=Counter)  # of the regions that count
    left_out: list[str] = field(default_factory=list)  # why other regions do not

    def add(self, area: Area, mask: Mask) -> None:
        """Count a region."""
        self.forms[area.form] += 1
        for label in area.labels:
            held = self.masks.get(label)
            self.masks[label] = mask if held is None else held | mask


def views(config: LabelConfig) -> tuple[View, ...]:
    """The images that a labeling configuration shows and lets be filled."""
    found = []
    for key in dict.fromkeys(control.image_key for control in config.outputs):
        controls = [control for control in config.outputs if control.image_key == key]
        labels = dict.fromkeys(label.value for control in controls for label in control.labels)
        tags = frozenset(control.to_name for control in controls)
        found.append(
            View(
                key,
                tags,
                config.images - tags,
                frozenset(control.name for control in controls),
                tuple(labels),
                config.label_names,
            )
        )
    return tuple(found)


def drawn(result: Sequence[Mapping[str, Any]], view: View, size: Size | None = None) -> Drawn:
    """What regions draw; several of one label are one mask.

    A rectangle around something of its label is a box of that, as where a brush and rectangles are
    filled from the same mask, and no area by itself.

    Args:
        result: The regions, of an annotation or a prediction.
        view: Others' regions are passed over.
        size: Of the image, height and width; None takes the size that the first region tells.
    """
    found, doubted, shapes = Drawn(), set[str](), dict[str, Mask]()
    for area in sorted(areas(result), key=lambda area: area.form == BOX):  # boxes after all else
        if area.to_name in view.others:
            continue
        if area.to_name not in view.tags:  # this image had another name, perhaps
            told = _shown(area.to_name)
            found.left_out.append(f'the labeling configuration has no image "{told}" to look at')
            found.unclear.update(area.labels)
            continue
        if reason := meant_otherwise(area, view):
            found.left_out.append(reason)
            if _may_be_any(area, view):
                doubted.update(view.labels)
            continue
        try:
            mask = area.mask(size)
        except ValueError as error:
            found.left_out.append(str(error))
            found.unclear.update(area.labels)
            continue
        size = size or area.size
        # a brush that was erased whole says that nothing is there
        if not mask.any() and area.form in OUTLINES:
            found.left_out.append(f"the {area.form} covers no pixel")
            doubted.update(area.labels)
            continue
        if area.form != BOX:
            found.add(area, mask)
            shapes = dict(found.masks)
        elif any(_around(mask, shapes[label]) for label in area.labels if label in shapes):
            found.left_out.append(BOXED)
        else:
            found.add(area, mask)
    for label in [label for label, mask in found.masks.items() if not mask.any()]:
        del found.masks[label]
    found.unclear |= doubted - found.masks.keys()
    return found


def _around(box: Mask, shape: Mask) -> bool:
    """Whether a box spans no more than twice what it holds of a shape; else it is another area."""
    held = box & shape
    return bool(held.any()) and 2 * _span(held) >= _span(box)


def _span(mask: Mask) -> int:
    """The pixels of the upright rectangle around a mask that is not empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))


def iou(guess: Mask | None, truth: Mask) -> float:
    """Intersection over union; None is an empty mask, and two empty masks agree."""
    if guess is None:
        return 0.0 if truth.any() else 1.0
    union = int((guess | truth).sum())
    return int((guess & truth).sum()) / union if union else 1.0


def meant_otherwise(area: Area, view: View) -> str | None:
    """Why a region says nothing about where a label is."""
    if area.later:  # its tag showed a list once: what is looked at never does
        return "the region is on a later image of a list"
    if _prompts(area, view):
        return "the rectangle is of a tool to prompt with"
    if not area.labels:
        return area.fault or NAMELESS
    if view.label_names.isdisjoint(area.labels):
        return f'the labeling configuration has no label "{_shown(area.labels[0])}"'
    if not set(area.labels) & set(view.labels):
        return f'the label "{_shown(area.labels[0])}" is not looked for'
    return None


def _may_be_any(area: Area, view: View) -> bool:
    """Whether what a region draws may be of any label, as it tells none that there is."""
    told = area.later or _prompts(area, view)
    return not told and view.label_names.isdisjoint(area.labels)


def _prompts(area: Area, view: View) -> bool:
    """Whether a region is of a tool to prompt with."""
    return area.form == BOX and area.control not in view.outputs


def _shown(name: str) -> str:
    """A name that may be any text at all, for a report."""
    return printable(name[:LONGEST_SHOWN])
