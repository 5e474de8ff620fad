from typing import Any

import pytest
from PIL import Image

from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from backend.prompting import Query
from models import Segmenter


def test_what_is_asked_twice_is_answered_once(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    answer = segmenter.probabilities

    def counting(features: Any, conditions: Any) -> Any:
        asked.append(len(conditions))
        return answer(features, conditions)

    monkeypatch.setattr(segmenter, "probabilities", counting)
    predictor = Predictor(segmenter, FeatureCache(0))
    [features] = predictor.encode([("a", Image.new("RGB", (40, 30), "red"))])
    prompts = {"dog": "a dog", "hound": "a dog", "cat": "a cat"}
    queries = [Query("image", label, (text,), 0.01, ()) for label, text in prompts.items()]
    conditions = {query: predictor.condition(query.prompts) for query in queries}
    dog, hound, cat = predictor.find(features, conditions)
    assert asked == [2]
    assert [found.query.label for found in (dog, hound, cat)] == list(prompts)
    assert dog.score == hound.score != cat.score
