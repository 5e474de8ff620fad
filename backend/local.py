"""`promptbrush predict`: the pipeline's work in one process, without servers."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from backend.durable import rewrite
from backend.errors import BadRequest, ImageMissing
from backend.inference.asking import Asking
from backend.inference.failures import failure
from backend.inference.features import FeatureCache
from backend.inference.forms import shapes
from backend.inference.predictor import Found, Predictor
from backend.labelstudio.config import Control, Kind, LabelConfig
from backend.labelstudio.images import open_image, upright
from backend.labelstudio.labels import Label
from backend.labelstudio.negation import understood
from backend.labelstudio.regions import prediction
from backend.labelstudio.starter import label_config
from backend.overlay import Drawn, draw
from backend.prompting import model_version, queries
from backend.report import table
from backend.settings import Settings
from backend.worker.runtime import load
from models import Exemplar

# What no XML holds, and so no labeling configuration; halves of characters are undecodable bytes.
UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LONGEST_PART = 100  # bytes; a file's name has 255 at most, for two parts and a number

MIME = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}


@dataclass(frozen=True, slots=True)
class ExemplarFiles:
    """An image to find more like, and optionally a mask of the object in it."""

    image: Path
    mask: Path | None = None

    @classmethod
    def from_text(cls, text: str) -> ExemplarFiles:
        """Read `IMAGE` or `IMAGE:MASK`; a colon in an existing path is no separator.

        Raises:
            BadRequest: one of them has no name.
        """
        whole = Path(text).exists() or ":" not in text
        names = [text] if whole else text.rsplit(":", maxsplit=1)
        if not all(names):
            raise BadRequest(f'--exemplar "{text}" names no file: give IMAGE or IMAGE:MASK.')
        return cls(*map(Path, names))


@dataclass(frozen=True, slots=True)
class Predicted:
    """What came of each image, as a table, and which of them could not be worked on."""

    table: str
    failed: Sequence[Path]


def predict(
    settings: Settings,
    images: Sequence[Path],
    prompts: Sequence[str],
    exemplars: Sequence[ExemplarFiles],
    out: Path,
    forms: Sequence[Kind] = (Kind.BRUSH,),
) -> Predicted:
    """Write masks, overlays, `predictions.json` and `label_config.xml`.

    The predictions hold a region in each of the forms.

    Raises:
        BackendError: nothing can be asked, or no image could be worked on; single bad images
            are told in the table and cost the others nothing.
    """
    if not prompts and not exemplars:
        raise BadRequest("Nothing to look for: give --prompt TEXT or --exemplar IMAGE[:MASK].")
    max_pixels = settings.image_max_megapixels * 10**6
    shown = [
        (
            one,
            open_image(_content(one.image), str(one.image), max_pixels),
            _mask(one.mask, max_pixels) if one.mask else None,
        )
        for one in exemplars
    ]
    segmenter, digest = load(settings.checkpoint, settings.device, settings.dtype)
    predictor = Predictor(segmenter, FeatureCache(0))
    meant: dict[Label, Tensor] = {}
    for prompt in map(_writable, prompts):
        said, unwanted = understood(prompt)
        if unwanted and not said:
            raise BadRequest(f'--prompt "{prompt}" does not say what to look for.')
        label = Label(prompt, (said,), negatives=unwanted)
        meant[label] = predictor.condition(label.prompts)
    for one, image, mask in shown:
        taken = {label.value for label in meant}
        file = Path(_writable(one.image.name))
        value = next(name for name in _numbered(file.stem, " ") if name not in taken)
        label = Label(value, (f"like {file.name}",))
        try:
            meant[label] = segmenter.condition(exemplars=[Exemplar(image, mask)])
        except ValueError as error:
            raise BadRequest(f"--exemplar {one.image}: {error}") from None

    labels = tuple(meant)
    config = LabelConfig(
        tuple(Control(form, "image", "image", form, labels) for form in dict.fromkeys(forms))
    )
    asked = queries(config, settings.threshold)
    askings = dict(zip(asked, map(Asking.only, meant.values()), strict=True))
    writer = _Writer(out, config, model_version(segmenter.name, digest, asked))
    rows: list[list[str]] = []
    failed: list[Path] = []
    for path in tqdm(images, unit="image", disable=None):
        start = time.perf_counter()
        try:
            content = _content(path)
            image = open_image(content, str(path), max_pixels)
            found = predictor.find(predictor.encode([(str(path), image)])[0], askings)
        except Exception as error:  # of one image; the others are worked on
            told = failure(error)
            failed.append(path)
            rows.append([str(path), f"{told.name}: {told}", "", "", ""])
            continue
        milliseconds = 1000 * (time.perf_counter() - start)
        writer.add(path, content, image, found)
        rows += [_row(str(path), one, milliseconds) for one in found]
    head = ["image", "prompt", "score", "area", "ms"]
    if not writer.tasks:
        raise BadRequest("No image could be worked on.\n" + _writable(table(head, rows)))
    writer.finish()
    return Predicted(_writable(table(head, rows)), failed)


def _row(name: str, found: Found, milliseconds: float) -> list[str]:
    area = "not found" if found.mask is None else f"{100 * found.mask.mean():.1f} %"
    return [name, found.query.label, f"{found.score:.2f}", area, f"{milliseconds:.0f}"]


def _content(path: Path) -> bytes:
    """What is in a file, which is read once: it may be a pipe, as `<(...)` is."""
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise ImageMissing(f"{path} is a folder: name its files, as by {path / '*'}.") from None
    except OSError as error:
        raise ImageMissing(f"{path} cannot be read: {error.strerror}.") from None


def _mask(path: Path, max_pixels: int) -> Image.Image:
    """A mask as it is, if it is transparent somewhere: what is in front of white marks all."""
    content = _content(path)
    plain = open_image(content, str(path), max_pixels)
    with Image.open(BytesIO(content)) as picture:
        return upright(picture) if picture.has_transparency_data else plain


class _Writer:
    """The output folder."""

    def __init__(self, out: Path, config: LabelConfig, version: str) -> None:
        self._out = out
        self._config = config
        self._version = version
        self._taken: set[str] = set()
        self.tasks: list[dict[str, Any]] = []
        for name in ("masks", "overlays"):
            (out / name).mkdir(parents=True, exist_ok=True)

    def add(self, path: Path, content: bytes, image: Image.Image, found: Sequence[Found]) -> None:
        """One image's masks, overlay and task; `content` is its file's."""
        stem = self._unique(_cut(path.stem) or "image")
        drawn = []
        for one in found:
            if one.mask is None:
                self._save_mask(stem, one.query.label, np.zeros((image.height, image.width), bool))
                continue
            self._save_mask(stem, one.query.label, one.mask)
            drawn.append(Drawn(f"{one.query.label} {one.score:.2f}", one.mask))
        draw(image, drawn).save(self._out / "overlays" / f"{stem}.png")
        answer = {
            "regions": [region for one in found for region in shapes(one)],
            "score": sum(one.certainty for one in found) / len(found),
            "model_version": self._version,
        }
        predictions = [prediction(answer, self._config, path.name)]
        self.tasks.append(importable(path.name, content, predictions))

    def finish(self) -> None:
        """What Label Studio imports, and the labeling configuration to import it into."""
        rewrite(self._out / "predictions.json", json.dumps(self.tasks).encode())
        controls = self._config.outputs
        labels = [label.value for label in controls[0].labels]
        xml = label_config(labels, [control.kind for control in controls])
        (self._out / "label_config.xml").write_text(xml, encoding="utf-8")

    def _save_mask(self, stem: str, label: str, mask: NDArray[np.bool_]) -> None:
        slug = _cut(re.sub(r"\W+", "-", label).strip("-").lower()[:60]) or "mask"
        path = self._out / "masks" / f"{self._unique(f'{stem}--{slug}')}.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)

    def _unique(self, stem: str) -> str:
        name = next(one for one in _numbered(stem, "-") if one.casefold() not in self._taken)
        self._taken.add(name.casefold())  # on macOS "A.png" is "a.png"
        return name


def _writable(text: str) -> str:
    return UNWRITABLE.sub("\ufffd", text)


def _cut(part: str) -> str:
    """As much of a part of a file's name as there is room for."""
    return part.encode("utf-8", "ignore")[:LONGEST_PART].decode("utf-8", "ignore")


def _numbered(name: str, between: str) -> Iterator[str]:
    """A name, and after it the same with 2, 3 and so on."""
    yield name
    yield from (f"{name}{between}{number}" for number in count(2))


def importable(name: str, content: bytes, predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A task for Label Studio's import, with an image file inside it as a data URI."""
    with Image.open(BytesIO(content)) as image:
        mime = MIME.get(image.format or "", "application/octet-stream")
    uri = f"data:{mime};base64,{b64encode(content).decode()}"
    return {"data": {"image": uri, "name": _writable(name)}, "predictions": list(predictions)}
