"""Fonts for captions: labels and phrases are written in all the scripts of the world.

Pillow's own font has the letters of English. Others are looked for among those of the machine, by
the names of their files, as Linux, macOS and Windows have them.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Sans serifs: first those of many scripts, then those of Chinese, Japanese and Korean.
FILES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-microhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "meiryo.ttc",
    "malgun.ttf",
)
NO_LETTER = "\uffff"  # never one (Unicode 15, section 23.7): shows what a font draws for lack of it


def lettering(text: str, size: int, files: tuple[str, ...] = FILES) -> tuple[str, Font]:
    """The text, and a font of so many pixels that has all its letters.

    Where none has, letters lose their accents, and those still missing are boxes.
    """
    text = unicodedata.normalize("NFC", text)
    own = ImageFont.load_default(size)
    if _writes(own, text):
        return text, own
    for font in (_installed(file, size) for file in files):
        if font is not None and _writes(font, text):
            return text, font
    return _plain(text), own


def _plain(text: str) -> str:
    """Letters without their accents, which Pillow's own font lacks: é is e."""
    bare = [(unicodedata.normalize("NFD", sign)[0], sign) for sign in text]
    return "".join(letter if letter.isascii() else sign for letter, sign in bare)


def _writes(font: Font, text: str) -> bool:
    """Whether the font has all letters: what it lacks, it draws as it draws `NO_LETTER`."""
    box = bytes(font.getmask(NO_LETTER))
    return all(bytes(font.getmask(letter)) != box for letter in set(text))


@lru_cache(maxsize=64)
def _installed(file: str, size: int) -> ImageFont.FreeTypeFont | None:
    """A font of the machine; finding that it has none takes as long as finding one."""
    try:
        return ImageFont.truetype(file, size)
    except OSError:
        return None
