"""One label's entry in a prompt book, chosen step by step on accepted masks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from backend.errors import BadPrompt
from backend.inference.asking import Asking
from backend.inference.books import probe_id
from backend.inference.predictor import Predictor
from backend.inference.promptbook import (
    Curve,
    Entry,
    Origin,
    Phrase,
    Probed,
    Proof,
    Shown,
    used,
)
from backend.labelstudio.labels import Label
from backend.learning.dataset import Part
from backend.learning.evidence import (
    MOST_EXEMPLARS,
    Evidence,
    Seen,
    Shot,
    recoloured_mean,
    shown_mean,
)
from backend.learning.jury import GRID, TELLING, Jury, Rating, Way, gain
from backend.learning.probing import Learned, learn
from backend.learning.thresholds import ENOUGH, LITTLE, calibrated, smoothed
from backend.learning.unwanted import tried
from backend.learning.weighing import WEIGHTS, handicapped, presumed
from backend.prompting import Query

# Masks that a probe needs, and those that showing all parts weighs as much as. With fewer, what it
# gained on other tasks may be luck: of nine labels with five to nine masks whose words say too
# little, three lost 0.16 to 0.19 IoU, and of 21 labels with more none lost over 0.03.
PROBED, CAUTION = 10, 15
CLEARLY = 0.02  # of mean IoU, by which other words have to be better
MOST_TEXTS = 16  # that are tried for a label

Texts = tuple[str, ...]


class Choice:
    """One label's entry, chosen step by step."""

    def __init__(
        self,
        predictor: Predictor,
        evidence: Evidence,
        query: Query,
        label: Label,
        before: Entry,
        brought: Sequence[Shot],
        threshold: float,
        keep: Callable[[str, NDArray[np.float32]], None],
    ) -> None:
        """`brought` are exemplars of other projects.

        `keep` is given a probe's name and numbers, if the label gets one.
        """
        seen = [one for one in evidence.seen if one.image_key == query.image_key]
        self.predictor, self.query, self.label, self.before = predictor, query, label, before
        judges = evidence.held_out if evidence.judged else set()
        self.jury = Jury(predictor, [one for one in seen if one.task not in judges], query.label)
        self.judges = Jury(predictor, [one for one in seen if one.task in judges], query.label)
        own = evidence.shots.get(query.label, [])
        shots: dict[str, Shot] = {}
        for shot in (*own, *brought):  # equal masks of equal images are one, as in the book
            shots.setdefault(shot.id, shot)
        self.shots = list(shots.values())[:MOST_EXEMPLARS]
        self.elsewhere = bool(brought) and not own  # all that shows the label was accepted there
        self.typed: Mapping[str, int] = evidence.typed.get(query.label, {})
        self.suggested = evidence.suggested.get(query.label, set())
        # where the threshold is said, it is what every way to ask is judged at
        said = before.threshold if "threshold" in before.by_hand else label.threshold
        self.said, self.default = said, threshold if said is None else said
        self.unwanted: Mapping[str, int] = evidence.unwanted.get(query.label, {})
        self.keep = keep

    def lacks(self, unseen: Collection[int]) -> bool:
        """Whether there are fewer exemplars than in the book, as some tasks cannot be seen now."""
        known = [one for one in self.before.exemplars if not one.refused]
        away = any(one.task in unseen for one in known if not one.project)
        return away and len(self.shots) < len(known)

    def entry(self) -> Entry:
        """What the book is to say of the label; nothing where nothing is known of it.

        What other projects measured counts until a mask of the label is accepted in this one.
        """
        if self.elsewhere:
            left = tuple(one for one in self.before.exemplars if one.project)
            return replace(self.before, exemplars=left)
        if not (self.shots or self.typed or self.before.texts):
            return Entry(self.query.label)
        texts, phrases = self._texts()
        mute = self._mute(texts)
        shots, shown = self._exemplars(mute)
        weight, handicaps, weights = self._weight(texts, shots, mute)
        way = self._mixed(texts, shots, handicaps or ((weight or 0.0, 0.0),))
        (rating,) = self.jury.rate(way)
        threshold = self._threshold(rating)
        by_confidence = self.jury.rate_confidences(way, threshold)
        confidence = self._confidence(by_confidence, threshold)
        served = replace(self.query, threshold=threshold, confidence=confidence or 0.0)
        after = by_confidence.iou(served.confidence)
        learned = None
        if rating.masks >= PROBED and "probe" not in self.before.by_hand:
            learned = learn(self.jury, way, threshold, served.confidence)
        probe = _worth_it(learned) if learned else None
        if learned and probe:
            row = learned.probe.row
            self.keep(probe.id, row)
            served = replace(served, probed=probe.id, chance=probe.chance, probe=row)
            after = learned.rating.iou(probe.chance)
        served, negatives, after = self._negatives(way, rating, served, after)
        return Entry(
            self.query.label,
            texts=phrases,
            negatives=negatives,
            exemplars=shown,
            weight=weight,
            threshold=None if threshold == self.default else threshold,
            confidence=confidence,
            probe=probe,
            proof=self._proof(way, served, after, rating.masks),
            handicaps=handicaps,
            weights=weights,
            thresholds=_curve(rating),
            confidences=_curve(by_confidence),
            masks=rating.masks,
        )

    def _threshold(self, rating: Rating) -> float:
        """What a way to ask would be served with."""
        return self.default if self.said is not None else calibrated(rating, self.default)

    def _confidence(self, rating: Rating, threshold: float) -> float | None:
        """How sure a part has to be to be shown; None where all that reach the threshold are."""
        if "confidence" in self.before.by_hand:
            return self.before.confidence
        confidence = calibrated(rating, threshold)
        return confidence if confidence > threshold else None

    def _score(self, rating: Rating) -> float:
        """How good a way to ask is at the threshold that it would be served with."""
        return rating.score(self._threshold(rating))

    def _texts(self) -> tuple[Texts, tuple[Phrase, ...]]:
        """The texts to ask with, and every text with its figures."""
        before = {phrase.text: phrase for phrase in self.before.texts}
        configured = self.query.prompts
        if "texts" in self.before.by_hand:
            configured = self.before.heard(self.label)[0] or configured
        origins = {
            text: Origin.SUGGESTED if text in self.suggested else Origin.TYPED
            for text in self.typed
        }
        origins |= {text: phrase.origin for text, phrase in before.items()}
        origins |= dict.fromkeys(self.query.prompts, Origin.CONFIG)
        candidates: dict[Texts, Rating] = {}
        # of very many those in use, those that were never tried, and those that are typed the most
        used = [text for text, phrase in before.items() if phrase.used]
        typed = sorted(origins, key=lambda text: (text in before, -self.typed.get(text, 0)))
        tried = [configured, *((text,) for text in [*configured, *used, *typed])]
        for texts in list(dict.fromkeys(tried))[:MOST_TEXTS]:
            try:
                condition = self.predictor.condition(texts).float().cpu()
            except BadPrompt:
                continue
            (candidates[texts],) = self.jury.rate(_always(condition))
        scores = {texts: self._score(rating) for texts, rating in candidates.items()}
        chosen = configured
        if "texts" not in self.before.by_hand and not self.label.worded and scores:
            best = max(scores, key=lambda texts: scores[texts])
            if scores[best] > scores.get(configured, 0.0) + CLEARLY:
                chosen = best
            elif self.typed and not self.jury.images:  # it was accepted, if on a task that judges
                chosen = (max(self.typed, key=lambda text: self.typed[text]),)
        phrases = []
        for text, origin in origins.items():
            rating = candidates.get((text,))
            phrases.append(
                Phrase(
                    text,
                    origin,
                    iou=rating.iou(self.default) if rating else None,
                    masks=rating.masks if rating else 0,
                    times=self.typed.get(text, 0),
                    used=text in chosen,
                    reason="" if text in chosen else self._why_not(text in self.query.prompts),
                )
            )
        return chosen, tuple(sorted(phrases, key=lambda phrase: phrase.text not in chosen))

    def _why_not(self, configured: bool) -> str:
        if "texts" in self.before.by_hand:
            return "other words were set by hand"
        if self.label.worded:
            return "the labeling configuration says other words"
        return "other words find more" if configured else "the words in use find as much"

    def _negatives(
        self, way: Way, rating: Rating, served: Query, after: float | None
    ) -> tuple[Query, tuple[Phrase, ...], float | None]:
        """The query as it is served, what the label is not, and the mean IoU with that."""
        before = self.before.negatives
        if "negatives" in self.before.by_hand:
            return replace(served, negatives=used(before)), before, after
        said = {**{phrase.text: 0 for phrase in before}, **self.unwanted}
        if served.negatives or not said:  # what the labeling configuration says, stays
            return served, (), after
        phrases, found = tried(self.jury, way, rating, served, said)
        after = after if found is None else found
        return replace(served, negatives=used(phrases)), phrases, after

    def _mute(self, texts: Texts) -> bool:
        """Whether a label's words find nothing anywhere, where exemplars may do instead."""
        if not (self.shots and self.jury.images):
            return False
        words = self._said(texts)
        (said,) = self.jury.rate(_always(words))
        threshold = self._threshold(said)
        return not said.iou(threshold) and not self.jury.finds(words, threshold)

    def _exemplars(self, mute: bool) -> tuple[list[Shot], tuple[Shown, ...]]:
        """The exemplars to ask with, and every exemplar with its figures.

        Words that find something tell by themselves what may differ. In other colours exemplars
        then lose more than they gain: of a striped star nothing is left but "star".
        """
        if "exemplars" in self.before.by_hand:
            used = {one.id: one for one in self.before.exemplars if one.used}
            held = [shot for shot in self.shots if shot.id in used]
            coloured = [one if used[one.id].recoloured else one.in_own_colours() for one in held]
            return coloured, self.before.exemplars
        shots = self.shots if mute else [shot.in_own_colours() for shot in self.shots]
        alone = self.jury.rate(*(_averaged([shot]) for shot in shots))
        shown = {
            shot.id: Shown(
                shot.id,
                shot.task,
                iou=rating.iou(self.default),
                masks=rating.masks,
                recoloured=shot.recoloured[0] if shot.recoloured else "",
                project=shot.project,
            )
            for shot, rating in zip(shots, alone, strict=True)
        }
        chosen = list(shots)
        while len(chosen) > 1:
            ways = [[other for other in chosen if other is not shot] for shot in chosen]
            whole, *without = self.jury.rate(*map(_averaged, (chosen, *ways)))
            threshold = self._threshold(whole)
            gains: dict[str, float] = {}
            harmful = []
            for shot, rating in zip(chosen, without, strict=True):
                # its own task counts for neither side
                fair = whole.asked & rating.asked & self._others(shot)
                if (fair & whole.present).any():
                    without_it, with_it = rating.on(fair), whole.on(fair)
                    gained, error = gain(
                        without_it.at(threshold), with_it.at(threshold), with_it.weights
                    )
                    gains[shot.id] = round(gained, 4)
                    if with_it.masks >= TELLING and -gained > max(LITTLE, error):
                        harmful.append(shot.id)
            shown |= {name: replace(shown[name], gain=one) for name, one in gains.items()}
            worst = min(harmful, key=lambda name: gains[name], default=None)
            if worst is None:
                break
            reason = f"without it the others find {-gains[worst]:.3f} more"
            shown[worst] = replace(shown[worst], used=False, reason=reason)
            chosen = [shot for shot in chosen if shot.id != worst]
        return chosen, tuple(shown.values())

    def _others(self, shot: Shot) -> NDArray[np.bool_]:
        return np.array([not shot.is_of(image) for image in self.jury.images], bool)

    def _weight(
        self, texts: Texts, shots: Sequence[Shot], mute: bool
    ) -> tuple[float | None, Curve, Curve]:
        """The exemplars' weight beside the texts, weights with their handicaps, and with IoU."""
        if "weight" in self.before.by_hand:
            return self.before.weight, (), ()
        if not shots:
            return None, (), ()
        ways = [self._mixed(texts, shots, ((weight, 0.0),)) for weight in WEIGHTS]
        said, *ratings = self.jury.rate(_always(self._said(texts)), *ways)
        found, masks = said.iou(self._threshold(said)) or 0.0, ratings[0].masks
        scores = [self._score(one) for one in ratings]
        curve = tuple((w, round(score, 4)) for w, score in zip(WEIGHTS, scores, strict=True))
        shown = ratings[-1].iou(self._threshold(ratings[-1])) or 0.0
        weight = presumed(found, said.masks, shown, masks, mute)
        handicaps = handicapped(scores, masks, weight)
        best = min(handicaps, key=lambda pair: pair[1])[0]
        return best, handicaps, curve if masks else ()

    def _said(self, texts: Texts) -> Tensor:
        return self.predictor.condition(texts).float().cpu()

    def _mixed(self, texts: Texts, shots: Sequence[Shot], weights: Curve) -> Way:
        """Asks with texts and with what is shown on other tasks than the one that is asked."""
        said = self._said(texts)
        if not shots:
            return _always(said)

        def way(image: Seen) -> Asking | None:
            shown = shown_mean(shots, image)
            if shown is None:
                return None
            return Asking.mixed(said, shown, weights, recoloured_mean(shots, image))

        return way

    def _proof(self, way: Way, served: Query, after: float | None, masks: int) -> Proof | None:
        """How good it is beside the labeling configuration alone, on held-out masks.

        Where those are too few, `after` tells: its mean IoU on the others.
        """
        (now,) = self.judges.rate(way)
        if now.masks >= ENOUGH:
            before = _always(self._said(self.query.prompts))
            return Proof(
                self._held_out(way, served),
                self._held_out(before, self.query),
                now.masks,
                Part.HELD_OUT.value,
            )
        if after is None:
            return None
        (configured,) = self.jury.rate(_always(self._said(self.query.prompts)))
        asked = np.array([way(image) is not None for image in self.jury.images], bool)
        before_it = configured.on(asked).iou(self.query.threshold)
        return Proof(after, before_it or 0.0, masks, "training and validation")

    def _held_out(self, way: Way, query: Query) -> float:
        """Mean IoU of masks as they are served, on the judges that have the label."""
        scores = self.judges.served(way, query, self.judges.present)
        return round(float(np.nanmean(scores)), 4)


def _always(condition: Tensor) -> Way:
    asking = Asking.only(condition)
    return lambda _: asking


def _averaged(shots: Sequence[Shot]) -> Way:
    """Asks with what is shown on other tasks than the one that is asked."""

    def way(image: Seen) -> Asking | None:
        shown = shown_mean(shots, image)
        return None if shown is None else Asking.only(shown)

    return way


def _curve(rating: Rating) -> Curve:
    if not rating.masks:
        return ()
    points = zip(GRID.tolist(), rating.mean.tolist(), strict=True)
    return tuple((round(threshold, 4), round(score, 4)) for threshold, score in points)


def _worth_it(learned: Learned) -> Probed | None:
    """A second look at parts, if it is worth one."""
    rating = learned.rating
    best = float(GRID[int(smoothed(rating.mean).argmax())])
    chance = round(best * rating.masks / (rating.masks + CAUTION), 2)
    gained, error = gain(learned.without, rating.at(chance), rating.weights)
    if not chance or gained < max(LITTLE, error):
        return None
    return Probed(
        probe_id(learned.probe.row),
        chance,
        round(gained, 4),
        learned.right,
        learned.wrong,
        _curve(rating),
    )
