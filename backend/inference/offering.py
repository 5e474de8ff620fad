"""Phrases for one image: what is in it, and how a label might be said there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import torch
import torch.nn.functional as F

from backend.inference.masks import shrunk
from backend.inference.phrasing import Candidate, Source, compositions, own, prompted, words
from backend.inference.predictor import Predictor
from backend.inference.promptbook import PromptBook
from backend.inference.sighting import Sighting, look
from backend.inference.suggest import Evidence, Suggestion, conditions, suggest
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.images import TaskImage
from backend.labelstudio.shapes import Mask
from backend.prompting import Query

NEAREST = 200  # words of a vocabulary that are tried: those that mean most nearly what is shown
LONGEST_SIDE = 1024  # pixels of masks that are compared


def of_image(
    predictor: Predictor,
    image: TaskImage,
    asked: Sequence[Query],
    choices: Sequence[str],
    vocabulary: Vocabulary,
    threshold: float,
) -> list[Sighting]:
    """What is in an image, surest first.

    Args:
        predictor: The model.
        image: To be looked at.
        asked: What labels are asked with is tried too.
        choices: Phrases to choose from; none for those of the vocabulary.
        vocabulary: Words to try.
        threshold: From which probability on a pixel counts.
    """
    phrases = [Candidate(text, Source.VOCABULARY) for text in choices]
    phrases = phrases or [*prompted(asked), *words(vocabulary)]
    (features,) = predictor.encode([(image.digest, image.image)])
    return look(predictor.segmenter, image.image, features, phrases, threshold=threshold)


def of_label(
    predictor: Predictor,
    image: TaskImage,
    query: Query,
    book: PromptBook,
    vocabulary: Vocabulary,
    seconds: float = inf,
) -> list[Suggestion] | list[Sighting]:
    """How a label might be said, best first.

    Suggestions, measured on what the label's exemplars find in the image; where it has none, or
    they find nothing, what is seen of the label's own words with attributes.

    Args:
        predictor: The model.
        image: To be looked at.
        query: The label's.
        book: The project's; what was said for the label before is tried again.
        vocabulary: Words to try.
        seconds: After these no further round of suggestions begins.
    """
    until, query = time.monotonic() + seconds, predictor.readable(query)
    (features,) = predictor.encode([(image.digest, image.image)])
    segmenter = predictor.segmenter
    typed = [phrase.text for phrase in book.entry(query.label).texts]
    if query.shown is not None:
        alone = predictor.asking(replace(query, prompts=(), weights=((1.0, 0.0),)))
        (found,) = predictor.find(features, {query: alone})
        if found.mask is not None:
            suggested = suggest(
                segmenter,
                query.label,
                [Evidence(features, small(found.mask))],
                _near(predictor, query, vocabulary),
                prompts=query.prompts,
                typed=typed,
                threshold=query.threshold,
                until=until,
            )
            # in one image "the red star" finds what "red star" does, and takes a line from another
            return [one for one in suggested if one.source is not Source.TEMPLATE]
    phrases = own(query.label, query.prompts, typed, vocabulary)
    phrases += compositions(query.label, phrases, vocabulary)
    return look(segmenter, image.image, features, phrases, threshold=query.threshold)


def small(mask: Mask) -> Mask:
    """A mask of (H, W) as it is compared: of a large one every second pixel, or third.

    What lies between these, as a crack may, is there nevertheless.
    """
    step = max(1, -(-max(mask.shape) // LONGEST_SIDE))
    some = np.ascontiguousarray(mask[::step, ::step])
    lost = mask.any() and not some.any()
    return shrunk(mask, (some.shape[0], some.shape[1])) if lost else some


def _near(predictor: Predictor, query: Query, vocabulary: Vocabulary) -> Vocabulary:
    """The words that mean most nearly what a label's exemplars show; all attributes."""
    rows = conditions(predictor.segmenter, words(replace(vocabulary, attributes=())))
    if len(rows) <= NEAREST or query.shown is None:
        return vocabulary
    shown = torch.from_numpy(query.shown)[None]
    likeness = F.cosine_similarity(torch.stack(list(rows.values())).float().cpu(), shown)
    texts = [word.text for word in rows]
    near = {texts[i] for i in likeness.topk(NEAREST).indices.tolist()}
    return replace(vocabulary, things=tuple(one for one in vocabulary.things if one[0] in near))
