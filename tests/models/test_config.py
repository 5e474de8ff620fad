from typing import Any

import pytest

from models import GroupViTConfig


@pytest.mark.parametrize(
    "told",
    [
        {"segmentation_side": 10**9},
        {"segmentation_side": 0},
        {"segmentation_side": "448"},
        {"background_similarity": float("nan")},
        {"background_similarity": [0.1]},
        {"templates": "a {}."},
        {"templates": []},
        {"templates": [5]},
        {"templates": ["a photo"]},
        {"templates": ["{} or {}"]},
        {"templates": ["{label}"]},
    ],
)
def test_a_groupvit_that_cannot_be_asked_as_its_configuration_says_is_refused(
    told: dict[str, Any],
) -> None:
    (name,) = told
    with pytest.raises(ValueError, match=name.removesuffix("s")):
        GroupViTConfig.from_dict(told)
