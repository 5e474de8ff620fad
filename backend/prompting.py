"""What each label is asked with, and the version that names it.

A version is content-addressed: the same weights asked the same way have the same name, and a
changed prompt or threshold has another one. Label Studio asks again only when the name changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from backend.labelstudio.config import LabelConfig


@dataclass(frozen=True, slots=True)
class Query:
    """One label's question to an image; several prompts are ensembled into one condition."""

    control: str
    label: str
    prompts: tuple[str, ...]
    threshold: float


def queries(config: LabelConfig, default_threshold: float) -> tuple[Query, ...]:
    """The queries of a labeling configuration, in its order."""
    return tuple(
        Query(
            brush.name,
            label.value,
            label.prompts,
            default_threshold if label.threshold is None else label.threshold,
        )
        for brush in config.brushes
        for label in brush.labels
    )


def model_version(model: str, weights_digest: str, asked: Sequence[Query]) -> str:
    """A name such as `clipseg-1f0c93aa-7be01c55`: model, weights, prompts with thresholds."""
    prompts = [[q.control, q.label, *q.prompts, q.threshold] for q in asked]
    digest = hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
    return f"{model.lower()}-{weights_digest[:8]}-{digest[:8]}"


def split_label(prompt: str, asked: Sequence[Query]) -> tuple[Query | None, str]:
    """A typed prompt's label, if it names one, and its phrase.

    "car: the red one" names the label before the colon; "Car", or one of a label's prompts, names
    that label. Otherwise there is no label and the phrase is all of the prompt.
    """
    name, colon, rest = prompt.partition(":")
    if colon and rest.strip():
        for query in asked:
            if query.label.casefold() == name.strip().casefold():
                return query, rest.strip()
    said = prompt.strip().casefold()
    for query in asked:
        if said in {query.label.casefold(), *(text.casefold() for text in query.prompts)}:
            return query, query.prompts[0] if said == query.label.casefold() else prompt.strip()
    return None, prompt.strip()
