"""Whether a candidate is to be served.

It is, if on the held-out tasks its mean IoU is higher than that of what is served, by so much that
nine of ten other draws of tasks would say so too, and if no label that is there in them loses more
than `MOST_LOST` of its own, and if everyday phrases are still answered as the base checkpoint does:
`LEAST_KEPT` of them, or as many as by what is served. An image without a label weighs a quarter.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.learning.evaluate import Evaluation
from backend.learning.forgetting import LEAST_KEPT

LEAST_TASKS = 3  # that judge: fewer say too little
MOST_LOST = 0.05  # of a label's mean IoU


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided, and why in words."""

    promoted: bool
    reason: str


def decide(evaluation: Evaluation) -> Verdict:
    """The verdict on a candidate."""
    gain, (active, candidate) = evaluation.difference(), evaluation.means()
    told = (
        f"mean IoU {active:.3f} -> {candidate:.3f} on {evaluation.tasks} held-out tasks "
        f"({gain.mean:+.3f}, 90 % interval {gain.low:+.3f} to {gain.high:+.3f})"
    )
    if evaluation.tasks < LEAST_TASKS:
        return Verdict(False, f"{evaluation.tasks} held-out tasks are too few: {told}")
    if gain.low <= 0:
        return Verdict(False, f"not surely better: {told}")
    for label, (old, new, images) in evaluation.labels().items():
        if new < old - MOST_LOST:
            return Verdict(
                False, f'the label "{label}" falls from {old:.3f} to {new:.3f} ({images} images)'
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
