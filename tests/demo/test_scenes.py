import numpy as np
import pytest

from demo.scenes import (
    COLOURS,
    KNOWN_COLOURS,
    KNOWN_SHAPES,
    KNOWN_TEXTURES,
    SHAPES,
    TEXTURES,
    Look,
    generate,
)


def test_the_same_seed_draws_the_same_scene() -> None:
    one, two = generate(7, (120, 90)), generate(7, (120, 90))
    assert one.image.tobytes() == two.image.tobytes()
    assert [thing.look for thing in one.objects] == [thing.look for thing in two.objects]


def test_another_seed_draws_another_scene() -> None:
    assert generate(7).image.tobytes() != generate(8).image.tobytes()


@pytest.mark.parametrize("size", [(96, 96), (300, 100), (90, 400), (1200, 900)])
def test_visible_masks_are_disjoint_filled_and_as_large_as_the_image(size: tuple[int, int]) -> None:
    scene = generate(3, size)
    assert scene.image.size == size
    masks = np.stack([thing.mask for thing in scene.objects])
    assert masks.shape[1:] == (size[1], size[0])
    assert masks.any(axis=(1, 2)).all()
    assert masks.sum(axis=0).max() == 1


def test_every_scene_has_an_object() -> None:
    assert all(generate(seed, 64, count=(1, 1)).objects for seed in range(20))


@pytest.mark.parametrize("shape", KNOWN_SHAPES)
@pytest.mark.parametrize("texture", KNOWN_TEXTURES)
def test_what_is_asked_for_is_in_the_scene(shape: str, texture: str) -> None:
    look = Look(shape, "red", texture)
    assert look in [thing.look for thing in generate(1, 96, include=[look]).objects]


def test_a_plain_object_is_painted_in_its_colour() -> None:
    scene = generate(5, 128, include=[Look("circle", "blue", "plain")], count=(1, 1))
    seen = np.asarray(scene.image)[scene.objects[0].mask].mean(axis=0)
    distance = {name: np.abs(seen - rgb).sum() for name, rgb in COLOURS.items()}
    assert min(distance, key=lambda name: distance[name]) == "blue"


def test_what_is_known_can_be_drawn() -> None:
    assert set(KNOWN_SHAPES) <= SHAPES.keys()
    assert set(KNOWN_COLOURS) <= COLOURS.keys()
    assert set(KNOWN_TEXTURES) <= TEXTURES.keys()
