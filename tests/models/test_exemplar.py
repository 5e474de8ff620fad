import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models import Exemplar, ImageProcessor
from models.exemplar import prepare

PROCESSOR = ImageProcessor(352, 352)


def scene() -> tuple[Image.Image, NDArray[np.bool_]]:
    """A red square of 20 pixels on a noisy ground, and its mask."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    mask = np.zeros((100, 120), bool)
    mask[40:60, 50:70] = True
    pixels[mask] = (255, 0, 0)
    return Image.fromarray(pixels), mask


def test_the_object_fills_the_crop_but_for_its_context() -> None:
    image, mask = scene()
    pixels = prepare(Exemplar(image, mask), PROCESSOR)[0]
    red = PROCESSOR([Image.new("RGB", (1, 1), (255, 0, 0))])[0, :, :1, :1]
    share = ((pixels - red).abs().amax(dim=0) < 1e-3).float().mean()
    assert abs(share - (20 / 24) ** 2) < 0.08  # the box plus a tenth of it on each side


@pytest.mark.parametrize("colour", ["black", "white"])
def test_a_picture_with_transparent_pixels_marks_the_others(colour: str) -> None:
    image, mask = scene()
    drawn = Image.new("RGBA", image.size, (0, 0, 0, 0))
    drawn.paste(colour, mask=Image.fromarray(mask))
    assert (Exemplar(image, drawn).marked(image.size) == mask).all()
    opaque = Image.fromarray(mask).convert("RGBA")
    assert (Exemplar(image, opaque).marked(image.size) == mask).all()
    with pytest.raises(ValueError, match="marks nothing"):
        Exemplar(image, Image.new("RGBA", image.size)).marked(image.size)


def test_the_background_is_dark_and_smooth() -> None:
    image, mask = scene()
    pixels = prepare(Exemplar(image, mask), PROCESSOR)[0]
    corner = pixels[:, :4, :4]
    assert corner.abs().max() < 0.3  # normalised noise reaches 2
    assert corner.diff(dim=-1).abs().max() < 0.05


def test_a_square_beyond_the_image_is_filled_with_the_mean_colour() -> None:
    image = Image.new("RGB", (50, 50), (255, 255, 255))
    mask = np.zeros((50, 50), bool)
    mask[:, :4] = True  # tall and thin at the border: the square leaves the image
    pixels = prepare(Exemplar(image, mask), PROCESSOR)[0]
    assert torch.equal(pixels[:, :, :8], torch.zeros(3, 352, 8))
    assert pixels.abs().max() > 1


def test_an_object_keeps_its_colour() -> None:
    image, mask = scene()
    pixels = prepare(Exemplar(image, mask), PROCESSOR)[0]
    red = PROCESSOR([Image.new("RGB", (1, 1), (255, 0, 0))])[0, :, 0, 0]
    torch.testing.assert_close(pixels[:, 176, 176], red)
