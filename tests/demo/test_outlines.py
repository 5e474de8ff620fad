"""Outlines without a name: many, whole, and unlike whatever has one."""

import numpy as np

from demo.outlines import LIKENESS, Field, Floats, likeness, nameless
from demo.scenes import FARTHEST, KNOWN_SHAPES, NAMELESS, SHAPES, generate, outline

NAMED = tuple(SHAPES.values())


def test_a_number_is_always_the_same_outline() -> None:
    axis = np.linspace(-1, 1, 50, dtype=np.float32)
    first = nameless(4, NAMED)(axis[None, :], axis[:, None])
    nameless.cache_clear()
    np.testing.assert_array_equal(nameless(4, NAMED)(axis[None, :], axis[:, None]), first)


def test_none_looks_like_a_shape_that_has_a_name_or_is_kept_for_benchmarks() -> None:
    for name in NAMELESS[::5]:
        nearest = max(likeness(outline(name), named) for named in NAMED)
        assert nearest < LIKENESS + 0.02, name  # it is drawn anew, and grids differ a little


def test_all_are_about_as_large_as_named_shapes_and_drawn_whole() -> None:
    axis = np.linspace(-1.5, 1.5, 200, dtype=np.float32)
    radius = np.hypot(axis[None, :], axis[:, None])
    for name in NAMELESS[::5]:
        inside = outline(name)(axis[None, :], axis[:, None]) < 0
        assert 0.85 < radius[inside].max() < FARTHEST, name


def test_a_shape_is_most_like_itself_however_it_is_turned_and_sized() -> None:
    for name in SHAPES:
        alike = {
            other: likeness(_turned_and_smaller(SHAPES[name]), SHAPES[other]) for other in SHAPES
        }
        assert max(alike, key=alike.__getitem__) == name


def _turned_and_smaller(field: Field) -> Field:
    def turned(x: Floats, y: Floats) -> Floats:
        return field((x - y) * np.float32(0.85), (x + y) * np.float32(0.85))

    return turned


def test_scenes_draw_them_beside_named_shapes() -> None:
    scene = generate(3, shapes=(*NAMELESS[:3], KNOWN_SHAPES[0]), count=(6, 6))
    assert {thing.shape for thing in scene.objects} & set(NAMELESS[:3])
    assert all(thing.mask.any() for thing in scene.objects)
