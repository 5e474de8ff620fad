"""A task's image, from whatever its URL stands for to RGB pixels as the annotator sees them."""

import base64
import hashlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes

import numpy as np
from PIL import ExifTags, Image, ImageChops, ImageOps, UnidentifiedImageError

from backend.diskcache import DiskCache
from backend.errors import ImageMissing, ImageRefused, ImageUnreadable, OutOfMemory
from backend.labelstudio.addresses import local_file, shown
from backend.labelstudio.fetch import Fetcher, too_large
from backend.settings import Settings

# What browsers show, and TIFF. Not every format Pillow knows: EPS, say, would start Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF")
_MEGABYTE = 1024**2
_JPEG_END = b"\xff\xd9"
_ANY_BYTES = bytes(91 * n % 255 for n in range(256))
_LAST_ROWS = 17  # a row of JPEG's blocks, and one that their smoothed colours reach into
# Pillow looks for an orientation there too. Browsers do not, nor in the EXIF of a WebP.
_UNHEARD = ("Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # more than 8 bits a pixel


@dataclass(frozen=True, slots=True)
class TaskImage:
    """An RGB image, upright, and the SHA-256 of the file it came from."""

    image: Image.Image
    digest: str


class ImageStore:
    """Images by URL, through a disk cache of bounded size that processes may share.

    A cached URL is never asked again. Label Studio puts a hash in the name of each upload, and an
    image that changes while people draw on it is lost to their masks anyway. The whole URL is the
    key, so a link signed anew is a new image.
    """

    def __init__(
        self,
        *,
        cache_dir: Path,
        cache_bytes: int,
        label_studio_url: str | None,
        api_key: str | None,
        local_root: Path | None,
        allowed_hosts: frozenset[str],
        max_bytes: int,
        max_pixels: int,
        timeout: float,
        ca_bundle: Path | None = None,
    ) -> None:
        self._cache = DiskCache(cache_dir, cache_bytes)
        self._fetcher = Fetcher(
            label_studio_url=label_studio_url,
            api_key=api_key,
            allowed_hosts=allowed_hosts,
            max_bytes=max_bytes,
            timeout=timeout,
            ca_bundle=ca_bundle,
        )
        self._local_root = local_root
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The store that the settings describe."""
        return cls(
            cache_dir=settings.data_dir / "images",
            cache_bytes=settings.image_cache_mb * _MEGABYTE,
            label_studio_url=settings.label_studio_url,
            api_key=settings.label_studio_api_key,
            local_root=settings.local_files_root,
            allowed_hosts=settings.image_hosts,
            max_bytes=settings.image_max_mb * _MEGABYTE,
            max_pixels=settings.image_max_megapixels * 10**6,
            timeout=settings.image_timeout,
            ca_bundle=settings.ca_bundle,
        )

    def latest(self) -> float:
        """When what is fetched from now on has to be here, as `time.monotonic` counts."""
        return self._fetcher.latest()

    def fetch(self, url: str, until: float = math.inf) -> TaskImage:
        """The image at a task's URL: http(s), data, or a path of Label Studio's.

        A download takes twice the timeout at most; who fetches several images may give them all
        that time together, by `until`, from `latest`.

        Raises:
            ImageRefused: This URL may not be fetched.
            ImageMissing: There is nothing, or nobody answers.
            ImageUnreadable: There is something else than an image, or too large a one.
        """
        url, name = url.strip(), shown(url.strip())
        if url[:5].lower() == "data:":
            return self._decoded(_from_data_uri(url, name), name)
        file = local_file(url) if self._local_root else None
        if self._local_root and file:
            return self._decoded(self._from_disk(self._local_root, file), name)
        address = self._fetcher.locate(url)
        kept = self._cache.get(address)
        if kept is not None:
            return self._decoded(kept, name)
        encoded = self._fetcher.fetch(address, until)
        image = self._decoded(encoded, name)  # first, so that only images are kept
        self._cache.put(address, encoded)
        return image

    def _decoded(self, encoded: bytes, name: str) -> TaskImage:
        if len(encoded) > self._max_bytes:
            raise too_large(name, self._max_bytes)
        image = open_image(encoded, name, self._max_pixels)
        return TaskImage(image, hashlib.sha256(encoded).hexdigest())

    def _from_disk(self, root: Path, relative: str) -> bytes:
        try:
            path = (root / relative).resolve()
            if not path.is_relative_to(root.resolve()):
                raise ImageRefused(f"{relative} is outside LOCAL_FILES_DOCUMENT_ROOT")
            if not path.is_file():
                raise ImageMissing(f"{relative} is not in LOCAL_FILES_DOCUMENT_ROOT ({root})")
            with path.open("rb") as file:
                return file.read(self._max_bytes + 1)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a link loop
            raise ImageMissing(f"{relative} cannot be read from {root}: {error}") from error


def open_image(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """Decode an image file to RGB, upright, in front of white, its first frame if it has several.

    Of a JPEG the end marker may be missing, and of its lowest rows as much as `_nearly_whole` says:
    cameras and editors write such files, and browsers show them.

    Raises:
        ImageUnreadable: It is empty, cut short, no image, or has more than `max_pixels`.
        OutOfMemory: There is too little memory for it.
    """
    if not data:
        raise ImageUnreadable(f"{name} is an empty file")
    # Pillow's own limit is fixed, and at first a warning only. Ours is below, before decoding.
    Image.MAX_IMAGE_PIXELS = None
    Image.init()
    formats = [known for known in _FORMATS if known in Image.OPEN]
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            if not 0 < width * height <= max_pixels:
                raise ImageUnreadable(
                    f"{name} has {width} x {height} pixels, where 1 to {max_pixels:,} are allowed "
                    "(IMAGE_MAX_MEGAPIXELS)"
                )
            try:
                image.load()
            except OSError:
                whole = _nearly_whole(data) if image.format in {"JPEG", "MPO"} else None
                if whole is None:
                    raise
                return _to_rgb(upright(whole))
            return _to_rgb(upright(image))
    except ImageUnreadable:
        raise
    except UnidentifiedImageError as error:
        kind = "is a web page or a drawing" if data.lstrip()[:1] == b"<" else "is no image"
        raise ImageUnreadable(f"{name} {kind}: expected one of {', '.join(formats)}") from error
    except MemoryError as error:
        raise OutOfMemory(
            f"{name} takes more memory to decode than this machine has left: let less run beside, "
            "or refuse such images by IMAGE_MAX_MEGAPIXELS"
        ) from error
    except Exception as error:  # broken files make Pillow's decoders raise nearly anything
        raise ImageUnreadable(f"{name} is damaged or cut short: {error}") from error


def _nearly_whole(data: bytes) -> Image.Image | None:
    """A JPEG that breaks off, if all it lacks is in its last row of blocks, and in its last tenth.

    What is missing shows by what changes with any bytes put in its place, which libjpeg ignores
    where nothing is missing. Of a progressive one that is what the last pass that came lacks.
    """
    begun = data.rstrip(b"\xff")  # half a marker would swallow what follows
    shown, other = (
        Image.open(io.BytesIO(begun + more + _JPEG_END), formats=["JPEG"])
        for more in (b"", _ANY_BYTES)
    )
    missing = ImageChops.difference(shown, other).getbbox()
    if missing and shown.height - missing[1] > min(_LAST_ROWS, shown.height / 10):
        return None
    return shown


def upright(image: Image.Image) -> Image.Image:
    """Turned as browsers show it, since that is how masks must fit; itself if that is as it is."""
    image.load()
    for name in ("exif", *_UNHEARD) if image.format == "WEBP" else _UNHEARD:
        image.info.pop(name, None)
    try:
        # Pillow would copy what needs no turn, and a large photograph is 400 MB
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception:  # unreadable EXIF; browsers show such an image as it is stored
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _DEEP_MODES:
        # The brightest value becomes white: a 12-bit X-ray in 16 bits would else be near black.
        levels = np.nan_to_num(np.asarray(image, np.float32), posinf=0.0).clip(min=0.0)
        levels *= 255 / max(float(levels.max()), 1e-9)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    plain = image if image.mode == "RGB" else image.convert("RGB")
    if (plain.info.get("icc_profile") or b"")[16:20] != b"RGB ":  # None is a damaged one
        plain.info.pop("icc_profile", None)  # it tells of inks, or of greys
    return plain


def _from_data_uri(url: str, name: str) -> bytes:
    head, _, payload = url.partition(",")
    if not head.lower().endswith(";base64"):
        raise ImageUnreadable(f"{name} is not base64: data:image/png;base64,... is expected")
    try:
        packed = b"".join(unquote_to_bytes(payload).split())
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except ValueError as error:
        raise ImageUnreadable(f"{name} is not valid base64: {error}") from error
