from pathlib import Path

import pytest

from backend.settings import Settings, environment
from backend.showcase import OWN


def test_what_a_project_is_set_up_with_changes_nothing_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {**OWN, "PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    bare = Settings.from_environment(environment(own))
    for name, value in {
        "PROMPTBRUSH_CHECKPOINT": "elsewhere",
        "MODEL_DIR": str(tmp_path / "theirs"),
        "MODEL_SCORE_THRESHOLD": "0.9",
        "REDIS_URL": "redis://theirs",
        "ML_SERVER_BASIC_AUTH_USER": "user",
        "ML_SERVER_BASIC_AUTH_PASS": "password",
        "LABEL_STUDIO_ACCESS_TOKEN": "token",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment(environment(own)) == bare
