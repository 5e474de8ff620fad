"""Open-vocabulary segmentation models in plain torch; `Segmenter` is the door."""

from models.checkpoint import CheckpointError
from models.clipseg import (
    CLIPSegForImageSegmentation,
    CLIPSegModel,
    CLIPSegTextModel,
    CLIPSegVisionModel,
)
from models.config import (
    CLIPSegConfig,
    CLIPSegTextConfig,
    CLIPSegVisionConfig,
    GroupViTConfig,
    GroupViTTextConfig,
    GroupViTVisionConfig,
)
from models.engines import ImageFeatures
from models.exemplar import Exemplar
from models.fast import UnusableDtype
from models.groupvit import GroupViTModel, GroupViTTextModel, GroupViTVisionModel
from models.image_processor import ImageProcessor
from models.processor import CLIPSegProcessor, GroupViTProcessor
from models.segmenter import Segmenter
from models.tokenizer import CLIPTokenizer

__all__ = [
    "CLIPSegConfig",
    "CLIPSegForImageSegmentation",
    "CLIPSegModel",
    "CLIPSegProcessor",
    "CLIPSegTextConfig",
    "CLIPSegTextModel",
    "CLIPSegVisionConfig",
    "CLIPSegVisionModel",
    "CLIPTokenizer",
    "CheckpointError",
    "Exemplar",
    "GroupViTConfig",
    "GroupViTModel",
    "GroupViTProcessor",
    "GroupViTTextConfig",
    "GroupViTTextModel",
    "GroupViTVisionConfig",
    "GroupViTVisionModel",
    "ImageFeatures",
    "ImageProcessor",
    "Segmenter",
    "UnusableDtype",
]
