from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.learning.chart import Series, chart, ticks

values = st.floats(-1e4, 1e4).map(lambda value: round(value, 3))


@given(values, values)
def test_ticks_span_the_range_at_even_gaps(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    gap = found[1] - found[0]
    assert found[0] <= low + gap * 1e-3
    assert found[-1] >= high - gap * 1e-3
    assert 2 <= len(found) <= 8
    assert all(b - a == pytest.approx(gap) for a, b in pairwise(found))


@given(st.lists(st.tuples(values, values), min_size=2, max_size=9))
def test_lines_stay_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    tree = ElementTree.fromstring(chart("a < b", [Series("<b>", points)], "step"))
    line = tree.find(".//{*}polyline")
    assert line is not None
    placed = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert all(0 <= x <= 640 and 0 <= y <= 300 for x, y in placed)


def test_a_single_point_is_no_line() -> None:
    assert chart("", [Series("", [(0, 1)])], "") == ""
