import pytest

from backend.labelstudio.origin import confidence_in, new_id, weights_in, weights_of
from backend.prompting import model_version

BASE = "1f0c93aa" + "0" * 56
TUNED = "7be01c55aaaaaaaa"


@pytest.mark.parametrize(("tuned", "weights"), [(None, "1f0c93aa"), (TUNED, "7be01c55")])
def test_a_region_tells_the_weights_that_predicted_it(tuned: str | None, weights: str) -> None:
    version = model_version("CLIPSeg", BASE, [], tuned)
    assert weights_of(version) == weights
    assert weights_in(new_id(version)) == weights
    assert new_id(version) != new_id(version)


@pytest.mark.parametrize("version", ["", "yolo-v8", "clipseg-1-2", "None"])
def test_other_versions_tell_nothing(version: str) -> None:
    assert weights_of(version) is None
    assert weights_in(new_id(version)) is None


@pytest.mark.parametrize("number", [None, 7, "sug3414952", "V1StGXR8_Z", "7be01c55"])
def test_other_regions_tell_nothing(number: object) -> None:
    assert weights_in(number) is None


@pytest.mark.parametrize("confidence", [0.0, 0.5, 0.834, 1.0])
def test_a_region_tells_how_confident_its_prediction_was(confidence: float) -> None:
    version = model_version("CLIPSeg", BASE, [])
    number = new_id(version, confidence)
    assert weights_in(number) == "1f0c93aa"
    assert confidence_in(number) == pytest.approx(confidence, abs=1e-5)
    assert number != new_id(version, confidence)


def test_other_regions_tell_no_confidence() -> None:
    assert confidence_in(new_id(model_version("CLIPSeg", BASE, []))) is None
    assert confidence_in("V1StGXR8_Z") is None
    assert confidence_in(new_id("yolo-v8", 0.5)) is None
