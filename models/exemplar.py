"""An image and a mask in it, prepared as a visual prompt.

CLIPSeg was trained on exemplars that are cropped to the object with some context while the
background is blurred and darkened (Lüddecke and Ecker, arXiv 2112.10003, section 3.3, and the best
row of its table on visual prompt engineering).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from models.image_processor import ImageProcessor, displayed, straight

CONTEXT = 0.1  # of the box, on each side
DARKEN = 0.1  # of the background's normalised values: towards the mean colour, not towards black
BLUR = 3 / 352  # sigma, of the input's side


@dataclass(frozen=True, slots=True, eq=False)
class Exemplar:
    """An object to look for, shown in an image: by a mask, by a box, or as all of the image.

    The mask is (H, W), non-zero on the object; of a picture with transparent pixels the others are
    the object. The box is left, top, right, bottom in pixels, and what is in it counts as the
    object. Both refer to the image as displayed.
    """

    image: Image.Image
    mask: Image.Image | ArrayLike | None = None
    box: tuple[float, float, float, float] | None = None

    def marked(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """The object's pixels in an image of that width and height: (H, W).

        Raises:
            ValueError: mask and box are both given, do not fit the image, or mark nothing.
        """
        width, height = size
        if self.mask is not None and self.box is not None:
            raise ValueError("An exemplar has a mask or a box, not both.")
        if self.mask is None and self.box is None:
            return np.ones((height, width), bool)
        if self.box is not None:
            return _filled(self.box, size)
        mask = (
            np.asarray(_marks(self.mask) if isinstance(self.mask, Image.Image) else self.mask) > 0
        )
        if mask.shape != (height, width):
            raise ValueError(
                f"The exemplar's mask is {mask.shape[1]}x{mask.shape[0]} pixels, "
                f"its image {width}x{height}: they must be equal."
            )
        if not mask.any():
            raise ValueError("The exemplar's mask marks nothing: mark the object in it.")
        return mask


def prepare(exemplar: Exemplar, processor: ImageProcessor) -> Tensor:
    """An exemplar as the model was trained to see it: pixels (1, 3, h, w).

    Raises:
        ValueError: its mask or box cannot be used.
    """
    image = displayed(exemplar.image)
    mask = exemplar.marked(image.size)
    if mask.all():  # there is no background to take away, and context only beyond the image
        square = processor.at(processor.width, processor.height)
        return (processor if processor.fixed else square)([image])
    box = _square(mask)
    inside = _inside(box, image)
    pixels = processor([image.crop(box)])
    weight = _scaled(Image.fromarray(mask).crop(box), processor)
    known = _scaled(inside, processor)  # 0 where the square reaches beyond the image
    pixels = pixels * known
    return torch.where(weight > 0, pixels, _blur(pixels) * DARKEN * known)


def _filled(box: tuple[float, float, float, float], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that a box touches: (H, W)."""
    if not np.isfinite(box).all():
        raise ValueError(
            f"The exemplar's box {box} is none: each of its edges is a number of pixels."
        )
    left, top, right, bottom = box
    mask = np.zeros(size[::-1], bool)
    rows = slice(max(0, int(np.floor(top))), max(0, int(np.ceil(bottom))))
    columns = slice(max(0, int(np.floor(left))), max(0, int(np.ceil(right))))
    mask[rows, columns] = True
    if not mask.any():
        raise ValueError(
            f"The exemplar's box {box} holds no pixel of its image of {size[0]}x{size[1]}."
        )
    return mask


def _marks(picture: Image.Image) -> Image.Image:
    """What a picture marks, in grey: editors save masks in black on transparent, too."""
    if picture.has_transparency_data:
        alpha = straight(picture).convert("RGBA").getchannel("A")
        if alpha.getextrema() != (255, 255):
            return alpha
    return picture.convert("L")


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
