"""What annotators changed of a prediction, from Label Studio's JSON to the loss."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.labelstudio import brush
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Account, Sample, samples
from backend.learning.lessons import Lesson, Lessons, Shelf
from backend.learning.loss import mask_loss
from backend.learning.recipe import Recipe
from backend.learning.rows import Row
from models import Segmenter
from tests.backend.learning.school import CONFIG, sample

WEIGHT = Recipe().corrected


class Images:
    def fetch(self, url: str) -> object:
        return sample(1).image


def stroke(mask: Mask) -> dict[str, object]:
    return {
        "id": "r",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": mask.shape[0],
        "original_width": mask.shape[1],
        "value": {"rle": list(brush.encode(mask)), "brushlabels": ["Bright"]},
    }


@pytest.fixture
def accepted() -> Sample:
    """A prediction that was a band too wide on one side, as its annotator left it."""
    truth = sample(1).mask("Bright")
    predicted = truth | np.roll(truth, 12, axis=1)
    annotation = {"id": 1, "result": [stroke(truth)], "parent_prediction": 5}
    task = {"id": 1, "data": {"image": "u"}, "annotations": [annotation]}
    prediction = {"result": [stroke(predicted)]}
    (found,) = samples([task], CONFIG, Images(), Account(), began_with=lambda *_: prediction)  # type: ignore[arg-type]
    assert found.corrected["Bright"].sum() == (predicted & ~truth).sum() > 0
    return found


def pull(lesson: Lesson, view: int, label: str) -> tuple[Tensor, Tensor]:
    """What the loss of a guess that knows nothing gains per pixel, and the loss."""
    shelf = Shelf(2**30)
    target, weights = Row(lesson, view, torch.zeros(1), label).target(shelf, WEIGHT)
    logits = torch.zeros(1, *target.shape, requires_grad=True)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, target[None], weights[None]
    )
    torch.autograd.backward(plain)
    assert logits.grad is not None
    return logits.grad[0].abs(), mask_loss(logits.detach(), target[None], weights[None])


def test_corrected_pixels_pull_more_in_every_view_and_move_the_loss(
    segmenter: Segmenter, tmp_path: Path, accepted: Sample
) -> None:
    made = Lessons(tmp_path, "base", segmenter)
    corrected, untouched = made.make(accepted), made.make(replace(accepted, corrected={}))
    for view in range(min(corrected.views, untouched.views)):
        changed = corrected.read().corrected[view, 0].bool()
        assert changed.any()
        harder, loss = pull(corrected, view, "Bright")
        softer, less = pull(untouched, view, "Bright")
        ratio = harder / softer
        assert torch.allclose(ratio[changed], torch.tensor(1 + WEIGHT))
        assert torch.allclose(ratio[~changed], torch.tensor(1.0))
        assert loss > less


def test_a_label_that_was_made_up_pulls_more_where_it_was(
    segmenter: Segmenter, tmp_path: Path
) -> None:
    made_up = np.zeros((64, 64), bool)
    made_up[:20, :20] = True
    lesson = Lessons(tmp_path, "base", segmenter).make(
        replace(sample(1), corrected={"Missing": made_up})
    )
    assert lesson.absent == ("Missing",)
    pulled, _ = pull(lesson, 0, "Missing")
    changed = lesson.read().corrected[0, 0].bool()
    assert pulled[changed].min() == pytest.approx((1 + WEIGHT) * float(pulled[~changed].max()))
