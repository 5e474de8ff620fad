"""One mask in other colours, so that its outline counts where its look does not return."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from backend.inference.predictor import Predictor
from backend.inference.recolouring import recoloured
from backend.labelstudio.shapes import Mask
from backend.learning.drawn import iou
from backend.prompting import Query
from demo.scenes import Look, Scene, generate
from models import Exemplar

SHOWN = Look("cross", "purple", "dotted")
OTHERS = (Look("cross", "green", "striped"), Look("cross", "red", "plain"))


def scene(seed: int, look: Look) -> tuple[Scene, Mask]:
    """A cross among things of its colour, and where it is."""
    others = [Look(shape, look.colour, look.texture) for shape in ("circle", "triangle")]
    drawn = generate(seed, 256, include=[look, *others], count=(3, 3))
    return drawn, np.logical_or.reduce([one.mask for one in drawn.objects if one.look == look])


@given(
    arrays(np.uint8, (9, 12, 3)),
    arrays(np.bool_, (9, 12), elements=st.booleans()).filter(np.any),
)
def test_nothing_but_what_is_marked_changes_and_the_first_is_as_it_is(
    pixels: NDArray[np.uint8], mask: Mask
) -> None:
    image = Image.fromarray(pixels)
    first, *others = recoloured(image, mask)
    assert first.mask is not None
    kept = np.asarray(first.mask)
    assert kept.sum() == mask.sum()
    assert (np.asarray(first.image)[kept] == pixels[mask]).all()
    for one in others:
        assert one.mask is first.mask
        assert (np.asarray(one.image)[~kept] == np.asarray(first.image)[~kept]).all()


def test_hues_turn_and_patterns_go() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 200  # red, half of it white
    pixels[:, ::2] = 255
    _, turned, plain, other = recoloured(Image.fromarray(pixels), np.ones((8, 8), bool))
    assert np.asarray(turned.image)[0, 1].argmax() == 1
    assert (np.asarray(turned.image)[:, ::2] == 255).all()
    assert (np.asarray(plain.image) == (200, 0, 0)).all()
    assert (np.asarray(other.image) == (0, 0, 200)).all()


@pytest.mark.parametrize("corner", [(0, 0), (40, 90), (100, 20)])
def test_an_exemplar_is_prepared_from_all_that_it_needs(
    predictor: Predictor, corner: tuple[int, int]
) -> None:
    drawn = generate(3, 160).image
    mask = np.zeros((160, 160), bool)
    mask[corner[0] : corner[0] + 60, corner[1] : corner[1] + 35] = True
    shown = predictor.segmenter.encode_exemplar([Exemplar(drawn, mask), recoloured(drawn, mask)[0]])
    assert torch.equal(shown[0], shown[1])


def test_one_mask_finds_its_outline_in_other_looks_and_its_own_look_as_well(
    predictor: Predictor,
) -> None:
    drawn, mask = scene(1, SHOWN)
    as_it_is = predictor.segmenter.encode_exemplar(Exemplar(drawn.image, mask))[0].numpy()
    query = Query("image", "Zorp", ("zorp",), 0.4, (), ("a",), ((1.0, 0.0),), shown=as_it_is)
    mean = predictor.segmenter.encode_exemplar(recoloured(drawn.image, mask)).mean(dim=0).numpy()
    asked = [query, replace(query, recoloured=("b",), shown_recoloured=mean)]

    def found(look: Look) -> list[float]:
        scores = []
        for seed in range(10, 20):
            other, truth = scene(seed, look)
            (features,) = predictor.encode([(f"{look} {seed}", other.image)])
            answers = predictor.find(features, {one: predictor.asking(one) for one in asked})
            scores.append([iou(one.mask, truth) for one in answers])
        return [float(score) for score in np.mean(scores, axis=0)]

    for look in OTHERS:
        before, after = found(look)
        assert after > before + 0.1
    before, after = found(SHOWN)
    assert after > before - 0.03
