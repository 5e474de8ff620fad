"""A version merged with its base is a checkpoint like any other, for the reference too."""

from pathlib import Path

import pytest
import torch

from backend.learning.card import Card
from backend.learning.registry import Registry
from models import CLIPSegForImageSegmentation, Segmenter, checkpoint
from tests.models.test_tuned import decoder

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]
transformers = pytest.importorskip("transformers")


def test_the_reference_draws_a_merged_versions_masks(
    segmenter: Segmenter, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "models")
    weights = decoder(segmenter)
    card = Card(checkpoint.digest(tiny_checkpoint))
    folder = tmp_path / "merged"
    registry.merged(registry.publish(1, weights, card), tiny_checkpoint, folder)
    theirs = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    ours = CLIPSegForImageSegmentation.from_pretrained(folder)
    for name, tensor in weights.items():
        assert torch.equal(theirs.state_dict()[name], tensor)
    ids = torch.tensor(segmenter.tokenizer.encode(["a dog"]))
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels).logits
        torch.testing.assert_close(
            ours(input_ids=ids, pixel_values=pixels).logits.squeeze(), expected.squeeze()
        )
        base = CLIPSegForImageSegmentation.from_pretrained(tiny_checkpoint)
        assert not torch.allclose(
            base(input_ids=ids, pixel_values=pixels).logits.squeeze(), expected.squeeze()
        )
