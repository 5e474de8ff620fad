"""The GroupViT checkpoint as shipped."""

import pytest

from demo import GROUPVIT
from demo.evaluate import ABSENT, VOCABULARIES, Row, evaluate
from models import Segmenter


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    segmenter = Segmenter.from_pretrained(GROUPVIT)
    assert segmenter.name == "groupvit"
    return {row.kind: row for row in evaluate(segmenter, scenes=20, seed=31, progress=False)}


def test_it_weighs_less_than_eight_megabytes() -> None:
    assert sum(path.stat().st_size for path in GROUPVIT.iterdir()) < 8_000_000


@pytest.mark.parametrize(("kind", "bar"), [("shape", 0.5), ("colour+shape", 0.5)])
def test_it_tells_apart_what_a_vocabulary_names(
    rows: dict[str, Row], kind: str, bar: float
) -> None:
    assert rows[VOCABULARIES[kind]].score > bar


def test_a_phrase_by_itself_leaves_the_rest_to_the_background(rows: dict[str, Row]) -> None:
    assert rows["colour+shape"].score > 0.4
    assert rows[ABSENT].score < 0.05
