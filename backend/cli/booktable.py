"""What a prompt book says, with its proof, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from backend.inference.promptbook import Curve, Entry, Phrase, Probed, PromptBook
from backend.report import table, terminal_width

BAR = 30  # characters of the longest one in a curve
LONGEST_TEXTS = 40  # characters of a label's texts beside its figures


def head(book: PromptBook) -> str:
    """Which version of a book it is, how it came to be, and what its figures rest on."""
    if not book.number:
        return f"Project {book.project} has no prompt book: the labeling config counts."
    told = f"Version {book.number} of project {book.project}'s prompt book: {book.note.by}"
    if book.note.base is None:
        return f"{told}."
    measured = f"checkpoint {book.note.base[:8]}"
    if book.note.tuned:
        measured += f", version {book.note.tuned}"
    return (
        f"{told}. Figures were measured with {measured}; exemplars, weights, thresholds, "
        "confidences and probes that were measured count with that checkpoint alone."
    )


def overview(book: PromptBook) -> str:
    """A line for each label."""
    rows = []
    for label, entry in sorted(book.entries.items()):
        texts = ", ".join(phrase.text for phrase in entry.texts if phrase.used)
        if len(texts) > LONGEST_TEXTS:
            texts = f"{texts[: LONGEST_TEXTS - 1]}…"
        used = sum(one.used for one in entry.exemplars)
        proof = entry.proof
        rows.append(
            [
                label,
                texts or "(labeling config)",
                f"{used} of {len(entry.exemplars)}",
                _weight(entry),
                _figure(entry.threshold),
                _figure(entry.confidence),
                _figure(entry.probe.chance if entry.probe else None),
                _figure(proof.iou if proof else None, 3),
                _figure(proof.before if proof else None, 3),
                f"{proof.masks} {proof.part}" if proof else "-",
                ", ".join(sorted(entry.by_hand)) or "-",
            ]
        )
    asked = ["label", "texts", "exemplars", "weight", "threshold", "confidence", "probe"]
    return _table([*asked, "IoU", "before", "on", "by hand"], rows)


def of_label(entry: Entry) -> str:
    """Everything of one label, with what did not make it and why."""
    parts = [overview(PromptBook(entries={entry.label: entry}))]
    phrases = [
        [
            "not: " * negative + phrase.text,
            phrase.origin.value,
            _figure(phrase.iou, 3),
            str(phrase.masks),
            str(phrase.times or "-"),
            _accepted(phrase),
            _used(phrase.used, phrase.reason),
        ]
        for negative, held in enumerate((entry.texts, entry.negatives))
        for phrase in held
    ]
    if phrases:
        titles = ["text", "from", "IoU", "masks", "typed", "accepted", "used"]
        parts.append(_table(titles, phrases))
    shown = [
        [
            one.id,
            f"exemplar of task {one.task}" + f" of project {one.project}" * bool(one.project),
            _figure(one.iou, 3),
            _figure(one.gain, 3, "+"),
            str(one.masks),
            _used(one.used, one.reason),
        ]
        for one in entry.exemplars
    ]
    if shown:
        titles = ["exemplar", "from", "IoU alone", "gain", "masks", "used"]
        parts.append(_table(titles, shown))
    if entry.recoloured:
        parts.append(
            "As exemplars are few, images are asked with them in other colours, too, and keep to "
            "that where it promises more."
        )
    for name, curve, chosen in (
        ("weight", entry.weights, entry.weight),
        ("threshold", entry.thresholds, entry.threshold),
        ("confidence", entry.confidences, entry.confidence),
    ):
        if curve:
            parts.append(f"IoU by {name}, on {entry.masks} masks:\n{_drawn(curve, chosen)}")
    if entry.probe is not None:
        parts.append(_probed(entry.probe))
    return "\n\n".join(parts)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(titles, rows, width=terminal_width())


def _probed(probe: Probed) -> str:
    """What the second look at parts does, and its curve."""
    told = (
        "A probe looks at the parts of masks, and leaves out those whose chance of being right is "
        f"below {probe.chance:.2f}. It learned from {probe.right} right and {probe.wrong} wrong "
        "ones"
    )
    if probe.gain is not None:
        told += f", and gains {probe.gain:.3f} on accepted images with and without the label"
    curve = f":\n{_drawn(probe.curve, probe.chance)}" if probe.curve else "."
    return told + curve


def _used(used: bool, reason: str) -> str:
    return "yes" if used else f"no: {reason}" if reason else "no"


def _accepted(phrase: Phrase) -> str:
    return "-" if phrase.accepted is None else f"{phrase.accepted:.2f} of {phrase.predicted}"


def _weight(entry: Entry) -> str:
    """The exemplars' weight, or the least and the most that images are asked with."""
    weights = [weight for weight, _ in entry.asked_weights]
    if len(weights) < 2:
        return _figure(entry.weight)
    return f"{min(weights):.2f} to {max(weights):.2f}"


def _figure(value: float | None, digits: int = 2, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _drawn(curve: Curve, chosen: float | None) -> str:
    """A curve as bars, one line a point; the nearest one to what was chosen is marked."""
    top = max(height for _, height in curve) or 1.0
    nearest = min(curve, key=lambda point: abs(point[0] - (chosen or 0.0)))[0]
    return "\n".join(
        f"  {place:.2f}  {height:.3f}  {'#' * max(0, round(BAR * height / top))}"
        + ("  <" if place == nearest and chosen is not None else "")
        for place, height in curve
    )
