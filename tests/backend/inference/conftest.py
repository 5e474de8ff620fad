"""The demo checkpoint, for tests that look at what it finds."""

import pytest

from backend.inference.features import FeatureCache
from backend.inference.predictor import Predictor
from demo import CHECKPOINT
from models import Segmenter


@pytest.fixture(scope="module")
def model() -> Segmenter:
    return Segmenter.from_pretrained(CHECKPOINT, device="cpu")


@pytest.fixture(scope="module")
def predictor(model: Segmenter) -> Predictor:
    return Predictor(model, FeatureCache(10**8))
