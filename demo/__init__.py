"""Generated scenes, the demo checkpoints trained on them, and pictures to try them on."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "clipseg"
GROUPVIT = Path(__file__).parent / "groupvit"
IMAGES = Path(__file__).parent / "images"
LABEL_CONFIG = Path(__file__).parent / "label_config.xml"
WORDS = Path(__file__).parent / "words.txt"
