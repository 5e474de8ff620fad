from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.inference.forms import instances, shapes
from backend.inference.predictor import Found
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.regions import prediction
from backend.prompting import queries

CONFIG = """<View><Image name="image" value="$image"/>{}</View>"""
LABELS = '<Label value="dog"/>'
MASK = np.zeros((50, 80), np.bool_)
MASK[5:15, 8:24] = True
MASK[30:50, 40:80] = True


def found(xml: str, mask: NDArray[np.bool_] | None) -> tuple[Found, Any]:
    config = parse_label_config(CONFIG.format(xml))
    [query] = queries(config, 0.5)
    return Found(query, mask, 0.8), config


def regions(xml: str, mask: NDArray[np.bool_] | None) -> list[dict[str, Any]]:
    one, config = found(xml, mask)
    answer = {"regions": shapes(one), "score": 1.0, "model_version": "v"}
    result: list[dict[str, Any]] = prediction(answer, config)["result"]
    return result


def test_nothing_found_is_no_shape() -> None:
    assert regions(f'<BrushLabels name="a" toName="image">{LABELS}</BrushLabels>', None) == []


def test_every_control_takes_the_same_mask_in_its_own_form() -> None:
    xml = f"""<BrushLabels name="a" toName="image">{LABELS}</BrushLabels>
    <RectangleLabels name="b" toName="image" model_output="true">{LABELS}</RectangleLabels>
    <BitmaskLabels name="c" toName="image" model_output="true">{LABELS}</BitmaskLabels>
    <PolygonLabels name="d" toName="image" model_output="true">{LABELS}</PolygonLabels>"""
    types = [(one["from_name"], one["type"]) for one in regions(xml, MASK)]
    assert types == [
        ("a", "brushlabels"),
        ("b", "rectanglelabels"),
        ("c", "bitmasklabels"),
        ("d", "polygonlabels"),  # one for each island
        ("d", "polygonlabels"),
    ]


@pytest.mark.parametrize("form", ["Brush", "Bitmask", "Rectangle"])
def test_instances_are_regions_of_their_own_where_asked(form: str) -> None:
    xml = '<{0}Labels name="a" toName="image" {1}>' + LABELS + "</{0}Labels>"
    assert len(regions(xml.format(form, ""), MASK)) == 1
    assert len(regions(xml.format(form, 'model_instances="true"'), MASK)) == 2


@pytest.mark.parametrize("attribute", ["", 'model_instances="true"'])
def test_islands_are_polygons_of_their_own_in_any_case(attribute: str) -> None:
    xml = f'<PolygonLabels name="a" toName="image" {attribute}>{LABELS}</PolygonLabels>'
    assert len(regions(xml, MASK)) == 2


def test_instances_make_up_the_mask() -> None:
    parts = list(instances(MASK))
    assert [int(part.sum()) for part in parts] == [160, 800]
    np.testing.assert_array_equal(np.logical_or(*parts), MASK)
