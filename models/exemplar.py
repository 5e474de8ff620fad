"""An image and a mask in it, prepared as a visual prompt.

CLIPSeg was trained on exemplars that are cropped to the object with some context while the
background is blurred and darkened (Lüddecke and Ecker, arXiv 2112.10003, section 3.3, and the best
row of its table on visual prompt engineering).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from models.image_processor import ImageProcessor

CONTEXT = 0.1  # of the box, on each side
DARKEN = 0.1  # of the background's normalised values: towards the mean colour, not towards black
BLUR = 3 / 352  # sigma, of the input's side


def prepare(image: Image.Image, mask: NDArray[np.bool_], processor: ImageProcessor) -> Tensor:
    """An RGB image and its object's mask (H, W) -> pixels (1, 3, h, w).

    Raises:
        ValueError: the mask has another size than the image, or marks nothing.
    """
    if mask.shape != (image.height, image.width):
        raise ValueError(
            f"The exemplar's mask is {mask.shape[1]}x{mask.shape[0]} pixels, "
            f"its image {image.width}x{image.height}: they must be equal."
        )
    if not mask.any():
        raise ValueError("The exemplar's mask marks nothing: mark the object in it.")
    box = _square(mask)
    inside = _inside(box, image)
    pixels = processor([image.crop(box)])
    weight = _scaled(Image.fromarray(mask).crop(box), processor)
    known = _scaled(inside, processor)  # 0 where the square reaches beyond the image
    pixels = pixels * known
    return torch.where(weight > 0, pixels, _blur(pixels) * DARKEN * known)


def _square(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """A square around the object with context: left, top, right, bottom; may leave the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    side = int(np.ceil(max(bottom - top, right - left) * (1 + 2 * CONTEXT)))
    x, y = int((left + right - side) // 2), int((top + bottom - side) // 2)
    return x, y, x + side, y + side


def _inside(box: tuple[int, int, int, int], image: Image.Image) -> Image.Image:
    return Image.new("1", image.size, 1).crop(box)


def _scaled(mask: Image.Image, processor: ImageProcessor) -> Tensor:
    size = (processor.width, processor.height)
    return torch.from_numpy(np.array(mask.resize(size, Image.Resampling.NEAREST))).float()


def _blur(pixels: Tensor) -> Tensor:
    """Gaussian blur of (1, 3, h, w), in proportion to its size."""
    sigma = BLUR * max(pixels.shape[-2:])
    radius = max(1, round(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=pixels.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = F.pad(pixels, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, kernel[:, :, None, :], groups=3)
    return F.conv2d(rows, kernel[:, :, :, None], groups=3)
