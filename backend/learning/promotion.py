"""Whether a candidate is to be served.

It is, if on the held-out tasks its mean IoU is higher than that of what is served, by so much that
four of five other draws of tasks would say so too, and if no label that is there in them loses more
than `MOST_LOST` of its own, and if everyday phrases are still answered as the base checkpoint does:
`LEAST_KEPT` of them, or as many as by what is served. An image without a label weighs a quarter.
Both are asked as they are, or would be, served.

Odds of four to one, and not of nineteen: one that is no better serves about as well, and can be
rolled back, while one that is better and is kept back costs annotators something on every image
until the next training. Luck on a single task is never enough: three draws of ten or more are
without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.learning.evaluate import Evaluation
from backend.learning.forgetting import LEAST_KEPT
from backend.report import printable

LEAST_TASKS = 3  # that judge: fewer say too little
SURE = 0.8  # share of draws of these in which the candidate is better
MOST_LOST = 0.05  # of a label's mean IoU


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided, and why in words."""

    promoted: bool
    reason: str


def decide(evaluation: Evaluation) -> Verdict:
    """The verdict on a candidate."""
    if not evaluation.scores:
        return Verdict(False, f"no held-out task judges it, where {LEAST_TASKS} have to")
    gain, (active, candidate) = evaluation.difference(), evaluation.means()
    told = (
        f"mean IoU {active:.3f} -> {candidate:.3f} on {evaluation.tasks} held-out tasks "
        f"({gain.mean:+.3f}, 90 % interval {gain.low:+.3f} to {gain.high:+.3f}, "
        f"better in {gain.above:.1%} of draws)"
    )
    if evaluation.tasks < LEAST_TASKS:
        return Verdict(False, f"{evaluation.tasks} held-out tasks are too few: {told}")
    if gain.above < SURE:
        return Verdict(False, f"not surely better: {told}")
    for label, (old, new, images) in evaluation.labels().items():
        if new < old - MOST_LOST:
            return Verdict(
                False,
                f'the label "{printable(label)}" falls from {old:.3f} to {new:.3f} '
                f"({images} images)",
            )
    before, after = (kept.agreement for kept in evaluation.kept)
    if after < min(LEAST_KEPT, before):
        return Verdict(
            False,
            f"it forgets: where the base checkpoint finds an everyday phrase, its masks agree by "
            f"{after:.3f} (mean IoU of {evaluation.kept[1].answers}), where {LEAST_KEPT} is asked "
            f"for and the active version's do by {before:.3f}",
        )
    return Verdict(True, told)
