"""Which texts a checkpoint's model reads, told without its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models import checkpoint
from models.engines import templates_of
from models.segmenter import family
from models.tokenizer import CLIPTokenizer


def check_texts(folder: Path, texts: Sequence[str]) -> None:
    """Make sure that the model of a checkpoint folder reads texts.

    Raises:
        CheckpointError: it cannot be used.
        ValueError: a text is longer than it reads.
    """
    config = checkpoint.read_config(folder, family(folder).config_class)
    said = [one.format(text) for text in texts for one in templates_of(config)]
    context = int(config.text_config.max_position_embeddings)
    CLIPTokenizer.from_pretrained(folder).readable(said, context)
