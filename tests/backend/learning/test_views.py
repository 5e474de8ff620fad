import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.learning.views import LEAST, MOST, View, views, views_of


def scene() -> View[str]:
    """A white disc, off the middle of a dark ground."""
    y, x = np.mgrid[:60, :80]
    disc = np.hypot(x - 45, y - 28) < 14
    pixels = np.full((60, 80, 3), 40, np.uint8)
    pixels[disc] = 220
    return View(Image.fromarray(pixels), {"disc": disc})


@given(st.integers(0, 2**64))
def test_masks_follow_what_they_mark(seed: int) -> None:
    plain = scene()
    for view in views(plain.image, plain.masks, 4, seed):
        assert view.image.size == plain.image.size
        mask, bright = view.masks["disc"], np.asarray(view.image.convert("L")) > 110
        assert mask.shape == bright.shape
        assert (mask & bright).sum() > 0.85 * (mask | bright).sum()


def test_the_first_views_are_the_image_and_its_mirror_image() -> None:
    plain = scene()
    found = views(plain.image, plain.masks, 2, 0)
    assert found[0].image.tobytes() == plain.image.tobytes()
    assert np.array_equal(np.asarray(found[1].image), np.asarray(plain.image)[:, ::-1])
    assert np.array_equal(found[1].masks["disc"], plain.masks["disc"][:, ::-1])


def test_the_same_seed_sees_the_same() -> None:
    plain = scene()
    one, two = (views(plain.image, plain.masks, 5, 3)[4] for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.image.tobytes() != views(plain.image, plain.masks, 5, 4)[4].image.tobytes()


@pytest.mark.parametrize(("images", "most"), [(10, 80), (100, 660), (1000, 2600)])
def test_many_images_are_seen_in_few_ways(images: int, most: int) -> None:
    seen = [views_of(number) for number in range(images)]
    assert seen[0] == MOST
    assert min(seen) >= LEAST
    assert sum(seen) <= most
