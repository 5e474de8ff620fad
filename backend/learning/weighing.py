"""How much exemplars weigh beside the words of a label, from what is measured on accepted masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from backend.inference.promptbook import Curve

WEIGHTS = tuple(step / 4 for step in range(5))  # that are measured
FURTHEST = 0.15  # a weight that is further behind is asked of no image

PRIOR, SHOWN = 0.3, 0.5  # IoU that words, and exemplars, are presumed to reach on one mask more
# Of exemplars that lead words by d, in IoU, the weight is presumed to be the logistic of LEAD * d +
# EVEN: where both find as much, the best mixtures are those with more of the exemplars.
LEAD, EVEN = 8.0, 0.6
HALFWAY = 3  # masks on which that lead tells as much as what words leave to be found
MUTE = 0.6  # the weight, at most, that is presumed where words find nothing anywhere
# Beside what is measured, a weight that is off the presumed one by d counts as a loss of so much
# times the square of d, in IoU of one mask.
BELIEF = 2.0
TRUST = 0.3  # what is measured on one mask counts so much beside what an image's answer promises


def presumed(words: float, judged: int, shown: float, masks: int, mute: bool) -> float:
    """The weight before any mixture is compared, in [0, 1].

    What words leave to be found is a fair presumption: where they find nearly all, exemplars can
    only harm, and where they mean nothing, only exemplars help. Unlike exemplars, words are judged
    by the very first mask. Once exemplars are measured, their lead over the words tells more.

    Args:
        words: Mean IoU of the words alone.
        judged: How many masks that stands on.
        shown: Mean IoU of the exemplars alone.
        masks: How many masks that stands on; 0 is nothing known.
        mute: Whether the words find nothing anywhere.
    """
    weight = 1 - (judged * words + PRIOR) / (judged + 1)
    if masks:
        lead = (masks * (shown - words) + SHOWN - PRIOR) / (masks + 1)
        led = 1 / (1 + math.exp(-(LEAD * lead + EVEN)))
        weight += (led - weight) * masks / (masks + HALFWAY)
    return min(weight, MUTE) if mute else weight


def handicapped(scores: Sequence[float], masks: int, presumed: float) -> Curve:
    """The exemplars' weights that an image may be asked with, and how far each is behind the best.

    What is measured tells more with each mask, and fewer weights are left.

    Args:
        scores: How good each of `WEIGHTS` is, in [0, 1].
        masks: How many the scores stand on.
        presumed: What the weight is without them.
    """
    weights = np.array(WEIGHTS)
    worth = TRUST * (masks * np.array(scores) - BELIEF * (weights - presumed) ** 2)
    behind = np.round(worth.max() - worth, 3)
    return tuple(
        (float(weight), float(lost))
        for weight, lost in zip(weights, behind, strict=True)
        if lost <= FURTHEST
    )
