"""What an annotator asked with a smart tool, answered on the image that it was asked of.

The choices here were measured on generated scenes (`benchmarks/bench_interactive.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.errors import BadPrompt, BadRequest
from backend.inference.asking import Asking
from backend.inference.masks import under
from backend.inference.offering import of_image, of_label
from backend.inference.phrasing import Source
from backend.inference.predictor import Found, Predictor, scored
from backend.inference.promptbook import PromptBook
from backend.inference.suggest import Suggestion
from backend.inference.vocabulary import Vocabulary
from backend.labelstudio.config import Role
from backend.labelstudio.geometry import Point, Rectangle, Size
from backend.labelstudio.images import TaskImage
from backend.labelstudio.interaction import Interaction
from backend.labelstudio.negation import understood
from backend.prompting import Query, named
from models import Exemplar, ImageFeatures

# An exemplar says more than a label's words, which may mean nothing to the model ("Defect").
EXEMPLAR_WEIGHT = 0.75
MOST_SHAPES = 8  # of a request get a pass of the vision tower each: the newest
WAIT = 2.0  # seconds, after which no further round of phrases begins for who waits
VIEW = 2.0  # side of what is looked at from near, in sides of what is marked: context counts
AROUND = 0.25  # side of what is looked at around a point, in parts of sqrt(width * height)
FAINT = 0.5  # of the probability at a point: what its surroundings must reach to belong to it
FAINTEST = 0.02  # probability at a point below which there is nothing


@dataclass(frozen=True, slots=True)
class Offered:
    """A phrase for an annotator."""

    text: str
    source: Source
    likely: float  # in [0, 1]: how sure the model is, or how well it finds what exemplars find
    label: str = ""  # that it is for, where it might be taken for another's


def answer(
    predictor: Predictor,
    asked: Sequence[Query],
    images: Mapping[str, TaskImage],
    interaction: Interaction,
) -> Found:
    """The mask that was asked for, under the label that it is for.

    Args:
        predictor: The model.
        asked: The queries of the labeling configuration.
        images: The task's images by the field of its data.
        interaction: What was asked.

    Raises:
        BadPrompt: the phrase cannot be used, or there is none where one is needed.
        BadRequest: a label is not to be filled, or a rectangle holds nothing.
    """
    if interaction.mistaken:
        raise BadPrompt(interaction.mistaken)
    asked = [predictor.readable(one) for one in asked]  # of what is typed, it is told
    query, has_phrase = _addressed(predictor, asked, interaction)
    query = query.showing_all()  # for who asks for it looks at it
    image = images[query.image_key]
    if interaction.points:
        return _pointed(predictor, query, image, interaction.points)
    rectangles = interaction.rectangles[-MOST_SHAPES:]
    areas = _areas(rectangles, (image.image.height, image.image.width))
    default = Role.REGION if has_phrase else Role.EXEMPLAR
    if areas and (interaction.role or default) is Role.REGION:
        return _within(predictor, query, image, areas)
    if areas:
        shown = [Exemplar(image.image, mask=area) for area in areas]
        asking = Asking.only(predictor.condition(query.prompts, shown, EXEMPLAR_WEIGHT))
    else:
        asking = predictor.asking(query)
    (features,) = predictor.encode([(image.digest, image.image)])
    return predictor.find(features, {query: asking})[0]


def offer(
    predictor: Predictor,
    asked: Sequence[Query],
    images: Mapping[str, TaskImage],
    about: str,
    choices: Sequence[str],
    vocabulary: Vocabulary,
    book: PromptBook,
) -> list[Offered]:
    """Phrases that find something, best first.

    Args:
        predictor: The model.
        asked: The queries of the labeling configuration.
        images: The task's images by the field of its data.
        about: A label, whose own phrases are wanted; "" for all that is in the image.
        choices: Phrases to choose from; none for those of the vocabulary.
        vocabulary: Words to try.
        book: What was said for labels.

    Raises:
        BadPrompt: there is no such label.
    """
    if not about:
        query = asked[0]
        image = images[query.image_key]
        seen = of_image(predictor, image, asked, choices, vocabulary, query.threshold)
        return [Offered(one.text, one.source, one.confidence) for one in seen]
    found = named(about, asked)
    if found is None:
        labels = ", ".join(dict.fromkeys(one.called or one.label for one in asked))
        raise BadPrompt(f'There is no label "{about[:40]}" to find phrases for: {labels}.')
    phrases = of_label(predictor, images[found.image_key], found, book, vocabulary, WAIT)
    likely = ((one, one.iou if isinstance(one, Suggestion) else one.confidence) for one in phrases)
    label = found.called or found.label if len({one.label for one in asked}) > 1 else ""
    return [Offered(one.text, one.source, figure, label) for one, figure in likely if figure > 0]


def _addressed(
    predictor: Predictor, asked: Sequence[Query], interaction: Interaction
) -> tuple[Query, bool]:
    """The query to answer, and whether it asks for a typed phrase.

    A phrase belongs to the label that it is answered for when it is typed alone.
    """
    phrase = interaction.prompt or ""
    wanted, _ = understood(phrase)
    typed = named(phrase, asked)  # a label may be called "Not OK"
    if typed is None and wanted:
        typed = predictor.closest(wanted, asked).saying(phrase)
    if interaction.label is None:
        if typed:
            return typed, True
        if len(asked) > 1:
            raise BadPrompt("There is nothing to look for: choose a label, or type a phrase.")
        own = asked[0]
    else:
        own = _labelled(asked, interaction)
        if typed and (typed.label, typed.controls) == (own.label, own.controls):
            return typed, True
    # a phrase that names no thing says what the label is not
    return (own.saying(phrase) if typed is None else own), False


def _labelled(asked: Sequence[Query], interaction: Interaction) -> Query:
    """The query of the label that rectangles or points carry, on the image they are on."""
    for query in asked:
        if query.label == interaction.label and interaction.to_name in query.pictured:
            return query
    raise BadRequest(
        f'No control to fill has the label "{interaction.label}": '
        "give the brush a label of the same value."
    )


def _areas(rectangles: Sequence[Rectangle], size: Size) -> list[NDArray[np.bool_]]:
    """The pixels of rectangles on an image, (H, W) each; older ones without any say nothing.

    Raises:
        BadRequest: the newest holds no pixel.
    """
    areas = []
    for rectangle in rectangles:
        try:
            areas.append(rectangle.mask(size))
        except BadRequest:
            if rectangle is rectangles[-1]:
                raise
    return areas


def _within(
    predictor: Predictor, query: Query, image: TaskImage, areas: Sequence[NDArray[np.bool_]]
) -> Found:
    """What lies inside areas; each is looked at from near, so small things are found too."""
    asking = predictor.asking(query)
    mask = np.zeros((image.image.height, image.image.width), bool)
    scores = []
    for area in areas:
        near = _near(predictor, query, image, asking, area)
        if near.mask is not None and (near.mask & area).any():
            mask |= near.mask & area
            scores.append(near.score)
    return _together(query, mask, scores)


def _near(
    predictor: Predictor,
    query: Query,
    image: TaskImage,
    asking: Asking,
    area: NDArray[np.bool_],
) -> Found:
    """What is found where something is marked, (H, W), and just around it, seen from near."""
    left, top, right, bottom = box = _view(area)
    view = image
    if box != (0, 0, image.image.width, image.image.height):
        digest = f"{image.digest} {left},{top},{right},{bottom}"
        view = TaskImage(image.image.crop(box), digest)
    (features,) = predictor.encode([(view.digest, view.image)])
    (found,) = predictor.find(features, {query: asking})
    if found.mask is None:
        return found
    mask = np.zeros_like(area)
    mask[top:bottom, left:right] = found.mask
    return replace(found, mask=mask)


def _view(area: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a square with what is marked in its middle, inside the image."""
    rows, columns = np.flatnonzero(area.any(axis=1)), np.flatnonzero(area.any(axis=0))
    side = math.ceil(VIEW * (max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1))
    top, bottom = _span(rows, side, area.shape[0])
    left, right = _span(columns, side, area.shape[1])
    return left, top, right, bottom


def _span(marked: NDArray[np.int64], side: int, length: int) -> tuple[int, int]:
    side = min(side, length)
    first = int(np.clip((marked[0] + marked[-1] + 1 - side) // 2, 0, length - side))
    return first, first + side


def _pointed(
    predictor: Predictor, query: Query, image: TaskImage, points: Sequence[Point]
) -> Found:
    """The parts of a label's mask that points choose, each drawn again from near.

    Where the mask has nothing under a point, its label's words have failed there, and what the
    point's surroundings show is looked for instead, for the newest points. An older one keeps what
    the mask has: a project that counts with plain points sends all of them with a smart one.
    """
    (features,) = predictor.encode([(image.digest, image.image)])
    places = [(point.pixel(features.size), point.positive) for point in points]
    wanted = [place for place, positive in places if positive]
    unwanted = [place for place, positive in places if not positive]
    asking = predictor.asking(query)
    found = predictor.find(features, {query: asking})[0]
    whole = np.zeros(features.size, bool) if found.mask is None else found.mask
    older = [place for place in wanted[:-MOST_SHAPES] if whole[place]]
    # all older ones at once: an image's parts take some 0.1 s to be told apart
    mask = under(whole, older, []) if older else np.zeros_like(whole) if wanted else whole
    scores = [found.score] * (len(older) if wanted else 1)
    for place in wanted[-MOST_SHAPES:]:
        meant, shown, seen = query, asking, found
        if not whole[place]:
            meant, shown, seen = _around(predictor, query, image.image, features, place)
        if seen.mask is None or not seen.mask[place]:
            continue
        part = under(seen.mask, [place], [])
        near = _near(predictor, meant, image, shown, part)
        if near.mask is not None and near.mask[place]:
            part = under(near.mask, [place], [])
        mask |= part
        scores.append(seen.score)
    return _together(query, under(mask, wanted, unwanted), scores)


def _around(
    predictor: Predictor,
    query: Query,
    image: Image.Image,
    features: ImageFeatures,
    place: tuple[int, int],
) -> tuple[Query, Asking, Found]:
    """The query for what surrounds a pixel (row, column), what to ask, and where that is."""
    (row, column), reach = place, AROUND / 2 * math.sqrt(image.width * image.height)
    box = (column - reach, row - reach, column + reach, row + reach)
    condition = predictor.condition((), [Exemplar(image, box=box)])
    (probabilities,) = predictor.segmenter.probabilities(features, condition).cpu()
    height, width = probabilities.shape
    there = probabilities[row * height // image.height, column * width // image.width]
    threshold = max(FAINTEST, min(query.threshold, FAINT * float(there)))
    faint = replace(query, threshold=threshold)
    return faint, Asking.only(condition), scored(faint, probabilities, features.size)


def _together(query: Query, mask: NDArray[np.bool_], scores: Sequence[float]) -> Found:
    if not mask.any():
        return Found(query, None, 0.0)
    return Found(query, mask, sum(scores) / len(scores))
