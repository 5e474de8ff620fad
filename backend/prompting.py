"""What each label is asked with, and the version that names it.

A version is content-addressed: the same weights asked the same way have the same name, and a
changed prompt or threshold has another one. Label Studio asks again only when the name changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backend.labelstudio.config import Control, LabelConfig


@dataclass(frozen=True, slots=True)
class Query:
    """One label's question to an image; several prompts are ensembled into one condition."""

    image_key: str  # the field of the task's data that holds the image's URL
    label: str
    prompts: tuple[str, ...]
    threshold: float
    controls: tuple[Control, ...]  # which take the answer, each in its own form


def queries(config: LabelConfig, default_threshold: float) -> tuple[Query, ...]:
    """The queries of a labeling configuration, in its order.

    Controls that carry a label with the same prompts and threshold share its query.
    """
    takers: dict[tuple[str, str, tuple[str, ...], float], list[Control]] = {}
    for control in config.outputs:
        for label in control.labels:
            threshold = default_threshold if label.threshold is None else label.threshold
            asked = (control.image_key, label.value, label.prompts, threshold)
            takers.setdefault(asked, []).append(control)
    return tuple(Query(*asked, tuple(controls)) for asked, controls in takers.items())


def model_version(
    model: str, weights_digest: str, asked: Sequence[Query], tuned: str | None = None
) -> str:
    """A name such as `clipseg-1f0c93aa-7be01c55`: model, weights, prompts with what they fill.

    With the version that a project's own training made, that stands between the last two.
    """
    prompts = [
        [
            [query.image_key, query.label, *query.prompts, query.threshold],
            [[c.name, c.to_name, c.kind, c.labels_from, c.instances] for c in query.controls],
        ]
        for query in asked
    ]
    digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
    named = [model.lower(), weights_digest[:8], *([tuned[:8]] if tuned else []), digest[:8]]
    return "-".join(named)


def named(prompt: str, asked: Sequence[Query]) -> Query | None:
    """The query that a typed prompt names, asking for what was typed; None if it names none.

    "car: the red one" names the label before the colon and asks for the rest. "Car" asks what its
    label is asked with by itself, and one of a label's prompts asks that.
    """
    name, colon, rest = (part.strip() for part in prompt.partition(":"))
    if colon and rest:
        for query in asked:
            if query.label.casefold() == name.casefold():
                return replace(query, prompts=(rest,))
    said = prompt.strip()
    for query in asked:
        if query.label.casefold() == said.casefold():
            return query
        if said.casefold() in {text.casefold() for text in query.prompts}:
            return replace(query, prompts=(said,))
    return None
