"""Phrases through the real service: another kind of job, in the same queue."""

import base64
import io

import pytest
import requests

from demo.scenes import Look, generate
from tests.live.conftest import Up

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def uri() -> str:
    looks = [Look("circle", "red", "plain"), Look("star", "blue", "plain")]
    scene = generate(22, 96, include=[*looks, *looks], count=(4, 4))
    file = io.BytesIO()
    scene.image.save(file, "JPEG", quality=60)  # an address holds 4,094 characters
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def test_phrases_come_from_the_worker(demo: Up, uri: str) -> None:
    answer = requests.get(f"{demo.url}/suggestions", params={"image": uri}, timeout=100)
    assert answer.status_code == 200, answer.text
    words = {word for one in answer.json()["image"][:3] for word in one["text"].split()}
    assert {"red", "circle"} & words
    assert {"blue", "star"} & words
    assert demo.predict([uri]).json()["results"][0]["model_version"]


def test_a_project_that_nobody_told_of_is_refused(demo: Up) -> None:
    answer = requests.get(f"{demo.url}/suggestions?project=99&label=Car", timeout=100)
    assert answer.status_code == 409
    assert answer.json()["error"] == "TooLittleData"
