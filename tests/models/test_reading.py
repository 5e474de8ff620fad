from pathlib import Path

import pytest

from demo import CHECKPOINT, GROUPVIT
from models import Segmenter
from models.reading import check_texts


@pytest.mark.parametrize("folder", [CHECKPOINT, GROUPVIT], ids=["clipseg", "groupvit"])
def test_without_its_weights_the_same_texts_are_read_as_with_them(folder: Path) -> None:
    texts = ["w " * count for count in range(65, 80)]
    reads = Segmenter.from_pretrained(folder, device="cpu").reads(texts)
    assert any(reads)
    assert not all(reads)
    for text, read in zip(texts, reads, strict=True):
        if read:
            check_texts(folder, ["a cog", text])
        else:
            with pytest.raises(ValueError, match="the model reads at most 75: shorten it"):
                check_texts(folder, ["a cog", text])
