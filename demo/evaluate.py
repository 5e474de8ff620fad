"""How good a checkpoint is on generated scenes it has never seen."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from demo import phrases
from demo import scenes as generated
from demo.phrases import KINDS, Query
from models import Exemplar, Segmenter

THRESHOLD = 0.4  # the default of MODEL_SCORE_THRESHOLD
SEED = 1_000_000
SIZES = ((192, 192), (256, 192), (192, 256), (320, 240), (480, 320))
ABSENT_KINDS = ("colour", "shape", "colour+shape", "texture+shape", "full")
EXEMPLAR, ABSENT = "exemplar from another image", "absent"
# Asked for everything in the scene at once, in these words; GroupViT's labels then compete.
VOCABULARIES = {"shape": "vocabulary: shapes", "colour+shape": "vocabulary: colour+shape"}


class Row(NamedTuple):
    """One kind of prompt: the mean of its scores, and how many prompts there were.

    The score is the IoU with the truth; for absent prompts it is the part of the image marked.
    """

    kind: str
    score: float
    prompts: int


class _Question(NamedTuple):
    """Prompts that are asked together: conditions (N, C), and as many truths (H, W)."""

    kind: str
    conditions: Tensor
    truths: list[NDArray[np.bool_]]


def evaluate(
    segmenter: Segmenter,
    scenes: int = 200,
    seed: int = SEED,
    threshold: float = THRESHOLD,
    progress: bool = True,
) -> list[Row]:
    """Score every kind of prompt on as many scenes.

    One object of each scene is asked for, by one prompt at a time: phrases come in the grammar's
    many wordings, an exemplar is an object of the same look, cut from another scene. Then all
    objects are asked for at once, plainly. The truth is every object that the prompt means, as
    far as it is visible.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for i in tqdm(range(scenes), "scenes", unit="scene", disable=None if progress else True):
        rng = np.random.default_rng((seed, i))
        # Two neighbouring seeds a scene: one to ask about, one to show an exemplar from.
        scene = generated.generate(seed + 2 * i, SIZES[i % len(SIZES)])
        features = segmenter.encode_image([scene.image])
        for question in _questions(segmenter, scene, seed + 2 * i + 1, rng):
            answers = segmenter.segment(features, question.conditions)[0].numpy(force=True)
            for answer, right in zip(answers, question.truths, strict=True):
                guess = answer > threshold
                score = float(guess.mean()) if question.kind == ABSENT else iou(guess, right)
                scores[question.kind].append(score)
    return [
        Row(kind, float(np.mean(scores[kind])), len(scores[kind]))
        for kind in (*KINDS, EXEMPLAR, *VOCABULARIES.values(), ABSENT)
        if scores[kind]
    ]


def _questions(
    segmenter: Segmenter, scene: generated.Scene, other_seed: int, rng: np.random.Generator
) -> list[_Question]:
    target = scene.objects[int(rng.integers(len(scene.objects)))]
    questions = []
    for kind in KINDS:
        query = Query.about(target, kind)
        said = segmenter.encode_text([phrases.wording(query, rng)])
        questions.append(_Question(kind, said, [truth(scene, query)]))
    for kind in ABSENT_KINDS:
        lacking = phrases.absent(scene.objects, kind, rng)
        if lacking is not None:
            said = segmenter.encode_text([phrases.wording(lacking, rng)])
            questions.append(_Question(ABSENT, said, [truth(scene, lacking)]))
    other = generated.generate(other_seed, include=[target.look])
    shown = segmenter.encode_exemplar(Exemplar(other.image, other.objects[0].mask))
    questions.append(_Question(EXEMPLAR, shown, [truth(scene, Query(*target.look))]))
    for kind, name in VOCABULARIES.items():
        queries = list(dict.fromkeys(Query.about(thing, kind) for thing in scene.objects))
        said = segmenter.encode_text([query.simple() for query in queries])
        questions.append(_Question(name, said, [truth(scene, query) for query in queries]))
    return questions


def truth(scene: generated.Scene, query: Query) -> NDArray[np.bool_]:
    """The visible pixels of everything the query means: (H, W)."""
    mask = np.zeros((scene.image.height, scene.image.width), bool)
    for thing in scene.objects:
        if query.matches(thing):
            mask |= thing.mask
    return mask


def iou(guess: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; two empty ones agree."""
    union = int((guess | truth).sum())
    return int((guess & truth).sum()) / union if union else 1.0


def table(rows: Sequence[Row]) -> str:
    """The rows as text, one line each."""
    lines = [f"{'prompt':<28} {'mean IoU':>9} {'prompts':>8}"]
    for kind, score, prompts in rows:
        shown = f"{score:9.3f}" if kind != ABSENT else f"{'-':>9}"
        note = f"   {100 * score:.2f} % of the image marked" if kind == ABSENT else ""
        lines.append(f"{kind:<28} {shown} {prompts:>8}{note}")
    return "\n".join(lines)
