"""promptbrush: a Label Studio ML backend for open-vocabulary segmentation."""

__version__ = "0.1.0"
