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


@given(st.lists(st.text("abc", max_size=90), min_size=1, max_size=20))
def test_names_are_listed_in_as_many_rows_as_they_need(names: list[str]) -> None:
    tree = ElementTree.fromstring(chart("", [Series(name, [(0, 1), (1, 0)]) for name in names], ""))
    height = float(tree.attrib["viewBox"].split()[3])
    told = [text for text in tree.iterfind(".//{*}text") if text.attrib["text-anchor"] == "start"]
    assert len(told) == len(names)
    for text, name in zip(told, names, strict=True):
        assert float(text.attrib["x"]) + 7 * len(text.text or "") <= 640
        assert (text.text or "").rstrip("…") == name[:59] or text.text == name
    lines = [line.attrib["points"].split() for line in tree.iterfind(".//{*}polyline")]
    highest = min(float(pair.split(",")[1]) for line in lines for pair in line)
    assert max(float(text.attrib["y"]) for text in told) < highest < height


def test_a_single_point_is_no_line() -> None:
    assert chart("", [Series("", [(0, 1)])], "") == ""
