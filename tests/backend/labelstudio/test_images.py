import base64
import contextlib
import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from backend.errors import ImageMissing, ImageRefused, ImageUnreadable, OutOfMemory
from backend.labelstudio.images import ImageStore, open_image
from models.image_processor import displayed
from tests.backend.labelstudio.pictures import encoded, noise, pixel, saved

Server = Any  # conftest.py has it


# Decoding


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read(kind: str) -> None:
    image = open_image(encoded("white", kind), "x", 100)
    assert (image.mode, image.size, pixel(image)) == ("RGB", (6, 4), (255, 255, 255))


@pytest.mark.parametrize(
    ("image", "kind", "color"),
    [
        (Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (Image.new("LA", (2, 2), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("L", (2, 2), 7), "PNG", (7, 7, 7)),
        (Image.new("1", (2, 2), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (2, 2), (0, 0, 255)).quantize(2), "PNG", (0, 0, 255)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF", (255, 255, 255)),
        (Image.new("I;16", (2, 2), 4095), "PNG", (255, 255, 255)),
        (Image.new("I;16", (2, 2), 0), "PNG", (0, 0, 0)),
        (Image.new("F", (2, 2), -1.0), "TIFF", (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb_in_front_of_white(
    image: Image.Image, kind: str, color: tuple[int, int, int]
) -> None:
    opened = open_image(saved(image, kind), "x", 100)
    assert (opened.mode, pixel(opened)) == ("RGB", color)


def test_a_transparent_palette_colour_is_white() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    opened = open_image(saved(image, "GIF", transparency=1), "x", 100)
    assert pixel(opened) == (255, 255, 255)


def test_sixteen_bits_keep_their_order() -> None:
    ramp = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64))
    levels = np.asarray(open_image(saved(ramp, "PNG"), "x", 10**4))[..., 0].ravel()
    assert (levels[0], levels[-1]) == (0, 255)
    assert (np.diff(levels.astype(int)) >= 0).all()


@pytest.mark.parametrize(
    ("mode", "space", "kept"),
    [("RGB", b"RGB ", True), ("CMYK", b"CMYK", False), ("L", b"GRAY", False), ("L", b"", False)],
)
def test_a_colour_profile_is_kept_if_it_tells_of_such_colours(
    mode: str, space: bytes, kept: bool
) -> None:
    profile = b"\0" * 16 + space + b"\0" * 108
    opened = open_image(saved(Image.new(mode, (2, 2)), "JPEG", icc_profile=profile), "x", 100)
    with Image.open(io.BytesIO(saved(opened, "PNG"))) as again:
        assert again.info.get("icc_profile") == (profile if kept else None)


def test_a_damaged_colour_profile_is_none() -> None:
    whole = saved(Image.new("RGB", (2, 2), "white"), "JPEG", icc_profile=b"x" * 128)
    opened = open_image(whole.replace(b"PROFILE\0\1\1", b"PROFILE\0\1\2"), "x", 100)
    assert pixel(opened) == (255, 255, 255)
    assert "icc_profile" not in opened.info


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (64, 40), "white")
    image.paste((255, 0, 0), (0, 0, 32, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to show
    opened = open_image(saved(image, "JPEG", exif=exif, quality=95), "x", 10**4)
    assert opened.size == (40, 64)
    assert pixel(opened, (20, 5))[1] < 50, "what was left is on top"
    assert pixel(opened, (20, 60))[1] > 200


def told_elsewhere() -> dict[str, bytes]:
    """Images of 6 x 4 that say to be turned where browsers do not look."""
    image, exif = Image.new("RGB", (6, 4)), Image.Exif()
    exif[0x0112] = 6
    xmp = '<rdf:Description tiff:Orientation="6"/>'
    in_text, in_xmp = PngInfo(), PngInfo()
    profile = exif.tobytes()
    in_text.add_text("Raw profile type exif", f"\nexif\n{len(profile):8}\n{profile.hex()}\n")
    in_xmp.add_itxt("XML:com.adobe.xmp", xmp)
    return {
        "WebP's EXIF": saved(image, "WEBP", exif=exif),
        "JPEG's XMP": saved(image, "JPEG", xmp=xmp.encode()),
        "PNG's XMP": saved(image, "PNG", pnginfo=in_xmp),
        "ImageMagick's text": saved(image, "PNG", pnginfo=in_text),
    }


@pytest.mark.parametrize("place", told_elsewhere())
def test_an_orientation_that_browsers_do_not_follow_is_not_followed(place: str) -> None:
    opened = open_image(told_elsewhere()[place], "x", 100)
    assert opened.size == displayed(opened).size == (6, 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_photograph_fills_the_memory_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred megapixels take 400 MB, each time they are copied."""
    data, copies = encoded("white", kind), list[Image.Image]()
    copy = Image.Image.copy

    def counted(image: Image.Image) -> Image.Image:
        copies.append(image)
        return copy(image)

    monkeypatch.setattr(Image.Image, "copy", counted)
    opened = open_image(data, "x", 100)
    assert displayed(opened) is opened
    assert (opened.mode, copies) == ("RGB", [])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_what_is_upright_is_not_turned_again(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_image(saved(noise(64, 40), kind, exif=exif), "x", 10**4)
    assert opened.size == (40, 64)
    assert (np.asarray(displayed(opened)) == np.asarray(opened)).all()


def test_an_animation_gives_its_first_frame() -> None:
    first, second = Image.new("RGB", (3, 3), "red"), Image.new("RGB", (3, 3), "blue")
    data = saved(first, "GIF", save_all=True, append_images=[second])
    assert pixel(open_image(data, "x", 100)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_told_in_plain_words(kind: str) -> None:
    whole = saved(noise(40, 40), kind)
    for part in (0.02, 0.5, 0.9):
        with pytest.raises(ImageUnreadable) as refusal:
            open_image(whole[: int(len(whole) * part)], "photo.x", 10**6)
        assert str(refusal.value).startswith("photo.x is")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_may_lack_its_end_but_nothing_above(subsampling: int, progressive: bool) -> None:
    options = {"subsampling": subsampling, "progressive": progressive, "quality": 75}
    whole = saved(noise(160, 200), "JPEG", **options)
    full = np.asarray(open_image(whole, "x", 10**6))
    for cut in (1, 2, 3, 4, 12):
        seen = np.asarray(open_image(whole[:-cut], "x", 10**6))
        assert (seen[:183] == full[:183]).all()
        assert cut > 2 or (seen == full).all()
    for part in (0.02, 0.5, 0.8, 0.9):
        with pytest.raises(ImageUnreadable, match=r"photo.x is damaged or cut short: "):
            open_image(whole[: int(len(whole) * part)], "photo.x", 10**6)


def test_a_jpeg_without_its_end_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(noise(64, 40), "JPEG", exif=exif)
    assert open_image(data[:-2], "x", 10**4).size == (40, 64)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "an empty file"),
        (b"hello", "is no image"),
        (b" <!doctype html><html>", "a web page or a drawing"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a web page or a drawing"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is no image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "photo.x is"),
    ],
)
def test_what_is_no_image_is_told_in_plain_words(data: bytes, told: str) -> None:
    with pytest.raises(ImageUnreadable) as refusal:
        open_image(data, "photo.x", 10**6)
    assert told in str(refusal.value)


def test_damaged_files_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = np.frombuffer(saved(noise(16, 16), kind), np.uint8)
        for _ in range(40):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 8)] = rng.integers(0, 255, 8)
            with contextlib.suppress(ImageUnreadable):
                assert open_image(damaged.tobytes(), "x", 10**6).mode == "RGB"


def test_a_lack_of_memory_is_not_taken_for_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(OutOfMemory, match=r"photo\.x .* IMAGE_MAX_MEGAPIXELS"):
        open_image(encoded(), "photo.x", 10**6)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    png = bytearray(encoded())
    png[16:24] = struct.pack(">II", 20000, 20000)  # 400 million, beyond Pillow's own limits
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    with pytest.raises(ImageUnreadable, match="20000 x 20000 pixels, where 1 to 1,000 are"):
        open_image(bytes(png), "x", 1000)
    assert open_image(encoded(size=(10, 100)), "x", 1000).size == (10, 100)


# Sources


def test_a_data_uri_is_read(store: Callable[..., ImageStore], tmp_path: Path) -> None:
    data = encoded()
    packed = base64.b64encode(data).decode()
    for text in (packed, packed.rstrip("="), packed.replace("+", "%2B"), f" {packed} "):
        image = store().fetch(f"data:image/png;base64,{text}")
        assert image.digest == hashlib.sha256(data).hexdigest()
        assert image.image.size == (6, 4)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("url", ["data:image/png,abc", "data:image/png;base64,a?b", "data:"])
def test_a_bad_data_uri_is_told(store: Callable[..., ImageStore], url: str) -> None:
    with pytest.raises(ImageUnreadable, match="base64"):
        store().fetch(url)


def test_local_files_are_read_below_their_root_only(
    store: Callable[..., ImageStore], server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "pics").mkdir(parents=True)
    (root / "pics" / "a b.png").write_bytes(encoded())
    (tmp_path / "secret.png").write_bytes(encoded())
    (root / "way-out.png").symlink_to(tmp_path / "secret.png")
    images = store(local_root=root, label_studio_url=server.url)
    assert images.fetch("/data/local-files/?d=pics/a%20b.png").image.size == (6, 4)
    assert images.fetch(f"{server.url}/data/local-files/?d=pics/a+b.png").image.size == (6, 4)
    for written in (
        "/data/local-files/?d=//pics/a b.png",
        "/data/local-files?d=pics/a b.png",
        "https://studio.example/data/local-files/?d=pics/a b.png",
    ):
        assert images.fetch(written).image.size == (6, 4)
    for outside in ("../secret.png", "/../secret.png", "way-out.png", "pics/../.."):
        with pytest.raises(ImageRefused, match="outside LOCAL_FILES_DOCUMENT_ROOT"):
            images.fetch(f"/data/local-files/?d={outside}")
    for missing in ("none.png", str(tmp_path / "secret.png"), "pics", "a%00b", "x" * 5000):
        with pytest.raises(ImageMissing, match=r"LOCAL_FILES_DOCUMENT_ROOT|cannot be read"):
            images.fetch(f"/data/local-files/?d={missing}")
    assert server.requests == []
