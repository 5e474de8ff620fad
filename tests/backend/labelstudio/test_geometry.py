import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.errors import BadRequest
from backend.labelstudio.geometry import Ellipse, Point, Polygon, Rectangle

SIZE = (200, 300)  # height, width


def test_an_upright_rectangle_holds_the_pixels_between_its_sides() -> None:
    mask = Rectangle(10, 25, 20, 50).mask(SIZE)
    expected = np.zeros(SIZE, bool)
    expected[50:150, 30:90] = True
    assert (mask == expected).all()


def test_a_rectangle_beyond_the_image_is_cut_off() -> None:
    mask = Rectangle(-10, 50, 30, 80).mask(SIZE)
    assert mask[100:, :60].all()
    assert mask.sum() == 100 * 60


@given(
    st.floats(35, 55),
    st.floats(35, 55),
    st.floats(5, 15),
    st.floats(5, 15),
    st.floats(-360, 360),
)
def test_turning_keeps_the_area_and_the_upper_left_corner(
    x: float, y: float, width: float, height: float, rotation: float
) -> None:
    mask = Rectangle(x, y, width, height, rotation).mask((300, 400))
    area = (width * 4) * (height * 3)
    assert mask.sum() == pytest.approx(area, rel=0.15)
    rows, columns = np.nonzero(mask)
    away = np.hypot(columns + 0.5 - x * 4, rows + 0.5 - y * 3)
    assert away.min() < 3
    assert away.max() <= np.hypot(width * 4, height * 3) + 1


def test_a_quarter_turn_is_clockwise_as_seen() -> None:
    mask = Rectangle(50, 50, 20, 5, 90).mask((100, 100))
    expected = np.zeros((100, 100), bool)
    expected[50:70, 45:50] = True
    assert (mask ^ expected).sum() <= 25  # centres on an edge may fall on either side


@pytest.mark.parametrize("rectangle", [Rectangle(110, 0, 5, 5), Rectangle(50, 50, 0, 0)])
def test_a_rectangle_that_holds_no_pixel_is_refused(rectangle: Rectangle) -> None:
    with pytest.raises(BadRequest, match="draw a larger one"):
        rectangle.mask(SIZE)


@given(st.floats(-5, 105), st.floats(-5, 105), st.integers(1, 99), st.integers(1, 99))
def test_a_point_is_a_pixel_of_the_image(x: float, y: float, height: int, width: int) -> None:
    row, column = Point(x, y).pixel((height, width))
    assert 0 <= row < height
    assert 0 <= column < width
    if 0 <= x < 100 and 0 <= y < 100:
        assert abs(row + 0.5 - y / 100 * height) <= 0.5 + 1e-6
        assert abs(column + 0.5 - x / 100 * width) <= 0.5 + 1e-6


@given(
    st.floats(40, 60), st.floats(40, 60), st.floats(4, 15), st.floats(4, 15), st.floats(-360, 360)
)
def test_an_ellipse_keeps_its_area_and_centre_when_turned(
    x: float, y: float, radius_x: float, radius_y: float, rotation: float
) -> None:
    mask = Ellipse(x, y, radius_x, radius_y, rotation).mask((300, 400))
    assert mask.sum() == pytest.approx(np.pi * radius_x * 4 * radius_y * 3, rel=0.05)
    rows, columns = np.nonzero(mask)
    assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x * 4, y * 3), abs=0.6)


def test_an_ellipse_beyond_the_image_is_cut_off() -> None:
    assert not Ellipse(-50, 50, 10, 10).mask(SIZE).any()
    assert not Ellipse(50, 50, 0, 10).mask(SIZE).any()
    half = Ellipse(0, 50, 20, 20).mask(SIZE)
    assert half.sum() == pytest.approx(np.pi * 60 * 40 / 2, rel=0.02)


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (-1, -1)])
def test_an_ellipse_that_was_flipped_is_the_same(signs: tuple[int, int]) -> None:
    flipped = Ellipse(40, 60, 20 * signs[0], 10 * signs[1], 30)
    assert (flipped.mask(SIZE) == Ellipse(40, 60, 20, 10, 30).mask(SIZE)).all()


@given(st.floats(0, 1e-30))
def test_an_ellipse_thinner_than_numbers_can_tell_holds_nothing(radius: float) -> None:
    assert not Ellipse(50, 50, radius, 10, 30).mask(SIZE).any()


@given(st.floats(10, 30), st.floats(10, 30), st.floats(5, 60), st.floats(5, 60), st.booleans())
def test_a_polygon_of_four_corners_is_the_rectangle(
    x: float, y: float, width: float, height: float, backwards: bool
) -> None:
    corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
    polygon = Polygon(corners[::-1] if backwards else corners)
    expected = Rectangle(x, y, width, height).mask((97, 131))
    assert (polygon.mask((97, 131)) ^ expected).sum() <= 2 * (97 + 131)
    assert abs(int(polygon.mask((97, 131)).sum()) - int(expected.sum())) <= 97 + 131


@given(st.lists(st.tuples(st.floats(-20, 120), st.floats(-20, 120)), min_size=3, max_size=8))
def test_a_polygon_and_its_mirror_image_mirror(points: list[tuple[float, float]]) -> None:
    mask = Polygon(tuple(points)).mask((60, 80))
    mirrored = Polygon(tuple((x, 100 - y) for x, y in points)).mask((60, 80))
    assert (mask ^ mirrored[::-1]).mean() < 0.02  # centres on an edge


def test_a_hole_cut_in_stays_empty() -> None:
    outer = ((0, 0), (100, 0), (100, 100), (0, 100), (0, 0))
    inner = ((25, 25), (25, 75), (75, 75), (75, 25), (25, 25))
    mask = Polygon((*outer, *inner)).mask((40, 40))
    assert not mask[10:30, 10:30].any()
    assert mask.sum() == 40 * 40 - 20 * 20


def test_a_small_polygon_of_a_large_image_costs_no_more_than_its_mask() -> None:
    tracemalloc.start()
    mask = Polygon(((10, 10), (10.5, 10), (10.5, 10.5), (10, 10.5))).mask((1000, 2000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert mask[100:105, 200:210].all()
    assert mask.sum() == 5 * 10
    assert most < 1.5 * mask.nbytes  # numbers for all pixels would be five times as much


def test_a_polygon_without_corners_holds_nothing() -> None:
    assert not Polygon(()).mask((4, 4)).any()
