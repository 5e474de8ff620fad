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
    found = list(views(plain.image, plain.masks, 2, 0))
    assert found[0].image.tobytes() == plain.image.tobytes()
    assert np.array_equal(np.asarray(found[1].image), np.asarray(plain.image)[:, ::-1])
    assert np.array_equal(found[1].masks["disc"], plain.masks["disc"][:, ::-1])


def test_the_same_seed_sees_the_same() -> None:
    plain = scene()
    one, two, other = ([*views(plain.image, plain.masks, 5, seed)][4] for seed in (3, 3, 4))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


def test_a_view_is_drawn_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, drawn = scene(), list[View[str]]()

    def draw(_: np.random.Generator, view: View[str]) -> View[str]:
        drawn.append(view)
        return view

    monkeypatch.setattr("backend.learning.views._drawn", draw)
    for number, _ in enumerate(views(plain.image, plain.masks, MOST, 0), start=1):
        assert len(drawn) == max(0, number - 2)


@pytest.mark.parametrize(("images", "most"), [(10, 80), (100, 660), (1000, 2600)])
def test_many_images_are_seen_in_few_ways(images: int, most: int) -> None:
    seen = [views_of(number) for number in range(images)]
    assert seen[0] == MOST
    assert min(seen) >= LEAST
    assert sum(seen) <= most
