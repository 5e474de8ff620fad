"""The playground's work: an image and phrases from a form, through the queue, to a picture.

The image goes to the worker as any task's does, in a labeling configuration made of the phrases.
"""

from __future__ import annotations

import io
import re
import threading
import time
import xml.etree.ElementTree as ET
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from werkzeug.datastructures import FileStorage

from backend.delivery import Answer
from backend.errors import (
    BackendError,
    BadRequest,
    DeadlineExceeded,
    ImageMissing,
    ImageUnreadable,
    NotReady,
    Reported,
)
from backend.labelstudio import brush
from backend.labelstudio.fetch import too_large
from backend.labelstudio.images import open_image
from backend.labelstudio.labels import LONGEST_PROMPT
from backend.labelstudio.negation import understood
from backend.overlay import COLOURS, LONGEST_SIDE, Drawn, draw
from backend.queue import PredictionQueue
from backend.settings import Settings
from backend.web.payloads import PredictRequest

TASK = "playground"  # what `/jobs` calls it
NOT_FOUND = "not found at this threshold"
MOST_PROMPTS = len(COLOURS)  # so that each has a colour of its own
KEPT_BYTES = 4 * 2**20  # an image file up to this size travels as it is
KEPT = "data:application/octet-stream;base64,"
PATIENCE = 2.0  # seconds for which who is sent away may keep a thread from others
_JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and within emoji
# of phrases, on any keyboard
_ENDS = re.compile(r"\n|[,،，、](?!\s*(?:(?:but|and)\s+)?not\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Picked:
    """The image that a form names or holds."""

    image: Image.Image  # upright, at most LONGEST_SIDE long
    uri: str  # the file of that image, as it is sent and as the next form holds it
    sample: str = ""  # its name, if it is a demo image


@dataclass(frozen=True, slots=True)
class Asked:
    """What a visitor wants to see, checked."""

    picked: Picked
    prompts: tuple[str, ...]
    threshold: float

    def body(self) -> dict[str, Any]:
        """The `/predict` request that asks for it."""
        view = ET.Element("View")
        ET.SubElement(view, "Image", name="image", value="$image")
        control = ET.SubElement(
            view,
            "BrushLabels",
            name="brush",
            toName="image",
            model_score_threshold=str(self.threshold),
        )
        for prompt in self.prompts:
            said, unwanted = understood(prompt)
            ET.SubElement(
                control,
                "Label",
                value=prompt,
                predicted_values=said,
                negative_values=",".join(unwanted),
            )
        return {
            "tasks": [{"id": TASK, "data": {"image": self.picked.uri}}],
            "label_config": ET.tostring(view, encoding="unicode"),
        }


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt's mask: colour as #rrggbb, score, share of the image; why it, or a part, lacks."""

    prompt: str
    colour: str | None = None
    score: float = 0.0
    share: float = 0.0
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """What came back."""

    picture: str  # the image with its masks, as a data URI
    width: int
    height: int
    rows: tuple[Row, ...]
    milliseconds: Mapping[str, float]  # queue, fetch, encode, draw, total
    model_version: str


class Playground:
    """Asks the queue for what a form holds."""

    def __init__(
        self,
        settings: Settings,
        queue: PredictionQueue,
        samples: Mapping[str, Path],
        stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._samples = samples
        self._stopping = stopping
        self._decoding = threading.Lock()  # large images one after the other, for memory's sake

    def pick(self, form: Mapping[str, str], upload: FileStorage | None) -> Picked:
        """A form's image; an uploaded file wins over the chosen one.

        Raises:
            BadRequest: none is chosen.
            ImageUnreadable: the file is no image, or too large a one.
        """
        sample = ""
        if upload is not None and upload.filename:
            name, content = upload.filename[:100], upload.read()
        else:
            name, content = self._chosen(form.get("choice", ""))
            sample = name if name in self._samples else ""
        image = self._open(content, name)
        return Picked(image, _sendable(content, image), sample)

    def save(self, upload: FileStorage) -> str:
        """An uploaded file as the next form holds it, for who is sent away; "" where it cannot be.

        A small one is not looked at. For a large one others' images are not waited for long.
        """
        content = upload.read()
        if len(content) <= KEPT_BYTES:
            return _kept(content)
        try:
            return _sendable(content, self._open(content, "", PATIENCE))
        except BackendError:  # told when it is asked
            return ""

    def read(self, form: Mapping[str, str], picked: Picked) -> Asked:
        """What a form asks of its image.

        Raises:
            BadRequest: prompts or threshold cannot be used.
        """
        prompts = read_prompts(form.get("prompts", ""))
        threshold = _read_threshold(form.get("threshold", ""), self._settings.threshold)
        return Asked(picked, prompts, threshold)

    def ask(self, asked: Asked) -> Shown:
        """The masks, once a worker has drawn them.

        Raises:
            NotReady: there is no worker.
            DeadlineExceeded: none had the time.
            Reported: the worker could not do it.
        """
        if not self._queue.workers():
            raise NotReady("No worker is ready yet: the model is loading. Try again in a moment.")
        start = time.monotonic()
        limit = self._settings.predict_deadline
        request = PredictRequest.from_json(asked.body())
        asking = self._queue.submit(request.jobs(), urgent=True, deadline=limit)
        (answer,) = self._queue.wait(asking, start + limit, self._stopping)
        self._queue.finish(asking)
        total = time.monotonic() - start
        if answer is None:
            raise DeadlineExceeded(f"No worker had an answer within {limit:g} s: try again later.")
        if "error" in answer:
            raise Reported(str(answer["error"]), str(answer["detail"]))
        (prediction,) = request.results([answer])
        return _shown(asked, prediction, answer.get("refused", {}), _milliseconds(answer, total))

    def _chosen(self, choice: str) -> tuple[str, bytes]:
        """A demo image by its name, or the image that the last answer's form held."""
        if choice in self._samples:
            return choice, self._samples[choice].read_bytes()
        if not choice.startswith(KEPT):
            raise ImageMissing("No image is chosen: add a file, or choose one of the images.")
        try:
            return "the image above", b64decode(choice.removeprefix(KEPT), validate=True)
        except ValueError:
            raise ImageUnreadable(
                "The image above did not come back whole: add it again."
            ) from None

    def _open(self, content: bytes, name: str, patience: float = -1) -> Image.Image:
        max_bytes = self._settings.image_max_mb * 2**20
        if len(content) > max_bytes:
            raise too_large(name, max_bytes)
        if not self._decoding.acquire(timeout=patience):
            raise DeadlineExceeded(f"Others' images took more than {patience:g} s to decode.")
        try:
            image = open_image(content, name, self._settings.image_max_megapixels * 10**6)
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        finally:
            self._decoding.release()
        return image


def read_prompts(text: str) -> tuple[str, ...]:
    """Phrases, one per line or between commas, each once; a comma before a "not" parts none.

    Raises:
        BadRequest: there are none, too many, one is too long, or one says nothing but a "not".
    """
    typed = "".join(c for c in text if c.isprintable() or c.isspace() or c in _JOINERS)
    phrases = [" ".join(part.split()) for part in _ENDS.split(typed)]
    prompts = tuple(dict.fromkeys(phrase for phrase in phrases if phrase))
    if not prompts:
        raise BadRequest("Nothing to look for: type a phrase, such as “a red circle”.")
    if len(prompts) > MOST_PROMPTS:
        raise BadRequest(
            f"{len(prompts)} phrases at once are too many: at most {MOST_PROMPTS} have a colour."
        )
    longest = max(map(len, prompts))
    if longest > LONGEST_PROMPT:
        raise BadRequest(
            f"A phrase has {longest} characters; at most {LONGEST_PROMPT} are read: shorten it."
        )
    for prompt in prompts:
        if not understood(prompt)[0]:
            raise BadRequest(f"“{prompt}” does not say what to look for.")
    return prompts


def _read_threshold(text: str, default: float) -> float:
    try:
        threshold = float(text) if text.strip() else default
    except ValueError:
        threshold = 0.0
    if not 0 < threshold < 1:
        raise BadRequest(f"The threshold {text[:20]!r} cannot be used: give one between 0 and 1.")
    return threshold


def _sendable(content: bytes, image: Image.Image) -> str:
    """A data URI of the file, or of the smaller image where the file is a large one.

    Models look at a few hundred pixels, and the broker holds what is sent. A file that stays the
    same is recognised by the worker, which then has its features already.
    """
    if len(content) > KEPT_BYTES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=95)
        content = file.getvalue()
    return _kept(content)


def _kept(content: bytes) -> str:
    return KEPT + b64encode(content).decode()


def _milliseconds(answer: Answer, total: float) -> dict[str, float]:
    """Where the time went; what the worker did not spend is the queue's, both ways."""
    spent: dict[str, float] = answer.get("seconds", {})
    seconds = {"queue": max(0.0, total - sum(spent.values())), **spent, "total": total}
    return {name: 1000 * value for name, value in seconds.items()}


def _shown(
    asked: Asked,
    prediction: Mapping[str, Any],
    refused: Mapping[str, str],
    milliseconds: Mapping[str, float],
) -> Shown:
    regions = {region["value"]["brushlabels"][0]: region for region in prediction["result"]}
    drawn: list[Drawn] = []
    rows: list[Row] = []
    for prompt in asked.prompts:
        region = regions.get(prompt)
        if region is None:
            rows.append(Row(prompt, lacking=refused.get(prompt, NOT_FOUND)))
            continue
        size = region["original_height"], region["original_width"]
        mask = brush.decode(region["value"]["rle"], *size) >= 128
        colour, score, share = _hex(COLOURS[len(drawn)]), region["score"], float(mask.mean())
        rows.append(Row(prompt, colour, score, share, refused.get(prompt, "")))
        drawn.append(Drawn(f"{prompt} {region['score']:.2f}", mask))
    picture = draw(asked.picked.image, drawn)
    return Shown(
        _jpeg(picture),
        picture.width,
        picture.height,
        tuple(rows),
        milliseconds,
        prediction["model_version"],
    )


def _jpeg(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90, subsampling=0)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()


def _hex(colour: Sequence[int]) -> str:
    return "#" + bytes(colour).hex()
