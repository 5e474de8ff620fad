"""What the trainer says of a project before and after it learns."""

from pathlib import Path
from typing import NoReturn, cast

import pytest

from backend.duties import learn
from backend.errors import TooLittleData
from backend.settings import Settings
from backend.training import TrainingLane


class Lane:
    """What Label Studio is to follow."""

    def __init__(self) -> None:
        self.followed: list[tuple[int, str]] = []

    def follow(self, project: int, version: str) -> None:
        self.followed.append((project, version))


def test_prompts_that_a_training_measures_reach_label_studio_whatever_becomes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment({"MODEL_DIR": str(tmp_path)})
    lane = Lane()

    class Measures:
        def learn(self, *_: object) -> NoReturn:
            assert lane.followed == [(7, "prompts after 0")]  # whoever is killed from here on
            raise TooLittleData("there is too little")

    monkeypatch.setattr("backend.duties._learner", lambda *_: Measures())
    with pytest.raises(TooLittleData):
        learn(settings, 7, cast(TrainingLane, lane), lambda _: None)
    assert lane.followed == [(7, "prompts after 0")]
