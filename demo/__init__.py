"""Generated scenes, the demo checkpoint trained on them, and pictures to try it on."""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "clipseg"
IMAGES = Path(__file__).parent / "images"
LABEL_CONFIG = Path(__file__).parent / "label_config.xml"
