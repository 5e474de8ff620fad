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


@pytest.mark.parametrize(
    ("depths", "message"),
    [([501, 500], "more than 1000 blocks together"), ([-1, 9], "each is a whole number from 0")],
)
def test_stages_of_more_blocks_than_anyone_has_trained_are_refused(
    depths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"depths .*{message}"):
        GroupViTConfig(vision_config={"depths": depths})


def test_a_groupvit_at_the_bounds_of_what_it_can_be_asked_with_is_taken() -> None:
    for told in (
        {"segmentation_side": 1, "background_similarity": -1, "templates": ("{}",)},
        {"segmentation_side": 4096, "background_similarity": 1, "templates": ["{}.", "a {}"]},
        {"vision_config": {"depths": [500, 500], "num_group_tokens": [8, 0]}},
    ):
        GroupViTConfig.from_dict(told)
