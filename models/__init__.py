"""Open-vocabulary segmentation models in plain torch; `Segmenter` is the door."""

from models.checkpoint import CheckpointError
from models.clipseg import CLIPSegForImageSegmentation
from models.config import CLIPSegConfig, CLIPSegTextConfig, CLIPSegVisionConfig
from models.processor import ImageProcessor
from models.segmenter import ImageFeatures, Segmenter
from models.tokenizer import CLIPTokenizer

__all__ = [
    "CLIPSegConfig",
    "CLIPSegForImageSegmentation",
    "CLIPSegTextConfig",
    "CLIPSegVisionConfig",
    "CLIPTokenizer",
    "CheckpointError",
    "ImageFeatures",
    "ImageProcessor",
    "Segmenter",
]
