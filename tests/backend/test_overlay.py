import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.overlay import LONGEST_SIDE, Drawn, contact_sheet, draw


def test_masks_are_tinted_and_the_rest_is_left_alone() -> None:
    mask = np.zeros((60, 80), bool)
    mask[30:50, 20:60] = True
    picture = np.asarray(draw(Image.new("RGB", (80, 60), "white"), [Drawn("", mask)]))
    assert (picture[55, 70] == 255).all()
    assert (picture[40, 40] != 255).any()


def test_large_pictures_become_small_enough_to_look_at() -> None:
    mask = np.ones((3000, 4000), bool)
    picture = draw(Image.new("RGB", (4000, 3000)), [Drawn("everything 0.90", mask)])
    assert picture.size == (LONGEST_SIDE, 1200)


def test_masks_without_a_pixel_are_drawn_without_a_caption() -> None:
    draw(Image.new("RGB", (20, 20)), [Drawn("nothing", np.zeros((20, 20), bool))])


def test_many_captions_in_one_place_do_not_hide_each_other() -> None:
    mask = np.zeros((200, 200), bool)
    mask[90:110, 90:110] = True
    one = draw(Image.new("RGB", (200, 200)), [Drawn("same", mask)])
    three = draw(Image.new("RGB", (200, 200)), [Drawn("same", mask)] * 3)
    count = [int((np.asarray(p) != 0).any(axis=2).sum()) for p in (one, three)]
    assert count[1] > 2 * count[0] - 20 * 20


def test_a_long_caption_leaves_its_score_and_the_rest_of_the_picture_in_sight() -> None:
    mask = np.zeros((100, 200), bool)
    mask[90:, 90:110] = True

    def band(caption: str) -> NDArray[np.uint8]:
        """Of the captions' rows, the last columns."""
        picture = draw(Image.new("RGB", (200, 100)), [Drawn(caption, mask)])
        return np.asarray(picture)[60:88, 165:]

    told = [band(f"{'x' * 300} {score:.2f}") for score in (0.11, 0.88)]
    assert (told[0] != told[1]).any()
    assert (band("short 0.50") == 0).all()


def test_a_contact_sheet_holds_every_picture() -> None:
    pictures = [Image.new("RGB", (100 + i, 50), (i * 30, 0, 0)) for i in range(7)]
    sheet = contact_sheet(pictures, columns=3, cell=100)
    assert sheet.size == (3 * 112 + 12, 3 * 112 + 12)
    assert contact_sheet([]).width > 0
