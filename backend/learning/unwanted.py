"""What annotators typed that a label is not, tried on its accepted masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backend.inference.promptbook import Origin, Phrase
from backend.learning.jury import TELLING, Jury, Rating, Way, gain
from backend.learning.thresholds import LITTLE
from backend.prompting import Query

MOST = 4  # texts that are tried: each costs another answer for every mask


def tried(
    jury: Jury, way: Way, rating: Rating, served: Query, said: Mapping[str, int]
) -> tuple[tuple[Phrase, ...], float | None]:
    """Every text with its figures, used ones first, and the mean IoU with those; None without any.

    One by one, the most often typed first: a text is used if it gains more than next to nothing,
    and more than its standard error, beside those that are used already.

    Args:
        jury: The images that judge.
        way: To ask for the label.
        rating: Of that way.
        served: The query as it is served without them.
        said: In how many accepted annotations each was typed.
    """
    asked = rating.asked
    found, best, phrases = None, jury.served(way, served, asked), list[Phrase]()
    for text in sorted(said, key=lambda text: (-said[text], text))[:MOST]:
        query = replace(served, negatives=(*served.negatives, text))
        scores = jury.served(way, query, asked)
        helps = False
        if rating.masks >= TELLING:
            gained, error = gain(best, scores, rating.weights)
            helps = gained >= max(LITTLE, error)
        there = scores[rating.present & asked]
        iou = round(float(there.mean()), 4) if len(there) else None
        if helps:
            served, best, found = query, scores, iou
        phrases.append(
            Phrase(
                text,
                Origin.TYPED,
                iou=iou,
                masks=rating.masks,
                times=said[text],
                used=helps,
                reason="" if helps else _why_not(rating.masks),
            )
        )
    return tuple(sorted(phrases, key=lambda phrase: not phrase.used)), found


def _why_not(masks: int) -> str:
    if masks < TELLING:
        return f"{masks} of {TELLING} masks that can tell whether it helps"
    return "masks are as good without it"
