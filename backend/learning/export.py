"""A dataset as files that other tools read, and that training can begin from.

    images/TASK.png           as displayed
    masks/TASK--LABEL.png     0 and 255, for each label that is there
    coco-rle.json             COCO, exact; of each image also the labels that were looked for
    coco-polygons.json        the same as outlines, of few points
    label_config.xml          what the labels are, and what they are prompted with
    report.json               what was used, and what was left out
    .new-images               whose pictures were written, until all of this is whole

An annotation in COCO is everything of a label in an image, not one object of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from backend.errors import BadRequest
from backend.inference.outlines import polygons
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.images import TaskImage, open_image
from backend.labelstudio.shapes import Mask
from backend.learning.dataset import Account, Part, Sample, of_parts, part_of
from backend.learning.drawn import Size

RLE = "coco-rle.json"
POLYGONS = "coco-polygons.json"
CONFIG = "label_config.xml"
REPORT = "report.json"
BEGUN = ".new-images"

# what reading JSON raises where something else is in it; RecursionError, where it nests too deep
_AMISS = ValueError, RecursionError, OverflowError, KeyError, TypeError
# Bytes of a file's name, which has 255 at most: with a task's id and a number there is room.
MOST_KEY, MOST_LABEL = 80, 140

Json = dict[str, Any]


def write(found: Iterable[Sample], xml: str, project: int, account: Account, folder: Path) -> None:
    """Write samples of a project with that labeling configuration; the lists come last.

    What an export before left in the folder, and this one has no longer, goes; so does what one
    left that was stopped before its lists were written, whosever it was.

    Raises:
        BadRequest: the folder has an export of another project.
    """
    before = _stems(folder, project) | _begun(folder)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    config = parse_label_config(xml)
    categories = {
        label.value: number
        for number, label in enumerate(
            {label.value: label for control in config.outputs for label in control.labels}.values(),
            start=1,
        )
    }
    keys = _distinct([control.image_key for control in config.outputs])
    images: list[Json] = []
    head = {
        "info": {"description": f"Label Studio project {project}", "project": project},
        "images": images,
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
    }
    numbers = count(1)
    pictures: set[Path] = set()
    with (
        (folder / BEGUN).open("a", encoding="utf-8") as begun,
        _growing(folder / RLE, head) as exact,
        _growing(folder / POLYGONS, head) as outlined,
    ):
        for sample in found:
            stem = f"{sample.task}-{keys[sample.image_key]}" if len(keys) > 1 else str(sample.task)
            file = f"images/{stem}.png"
            pictures.add(folder / file)
            print(stem, file=begun, flush=True)
            sample.image.image.save(folder / file, compress_level=1)
            number, (height, width) = len(images) + 1, sample.size
            images.append(
                {
                    "id": number,
                    "file_name": file,
                    "width": width,
                    "height": height,
                    "task": sample.task,
                    "image_key": sample.image_key,
                    "part": part_of(sample.task),
                    "labels": list(sample.labels),
                    "typed": list(sample.typed),
                    "suggested": sorted(sample.suggested),
                }
            )
            for label, mask in sample.masks.items():
                named = f"{stem}--{categories[label]}-{_slug(label, MOST_LABEL)}.png"
                picture = folder / "masks" / named
                pictures.add(picture)
                Image.fromarray(mask.astype(np.uint8) * 255).save(picture)
                frame = {
                    "id": next(numbers),
                    "image_id": number,
                    "category_id": categories[label],
                    "area": int(mask.sum()),
                    "bbox": _bounds(mask),
                    "iscrowd": 0,
                }
                rle = {"size": [height, width], "counts": run_lengths(mask)}
                exact({**frame, "segmentation": rle})
                rings = [
                    (ring * [width / 100, height / 100]).round(2).ravel().tolist()
                    for ring in polygons(mask)
                ]
                if rings:  # readers fall over an annotation without one
                    outlined({**frame, "segmentation": rings})
                else:
                    account.leave_out(sample.task, f"{POLYGONS} cannot outline specks alone")
        (folder / CONFIG).write_text(xml, encoding="utf-8")
        (folder / REPORT).write_text(json.dumps(account.to_json(), indent=2), encoding="utf-8")
    for path in {*folder.glob("images/*.png"), *folder.glob("masks/*.png")} - pictures:
        if path.stem.partition("--")[0] in before:
            path.unlink()
    (folder / BEGUN).unlink()


@contextmanager
def _growing(path: Path, head: Json) -> Iterator[Callable[[Json], None]]:
    """Takes the annotations of a COCO file one by one, since all would need much memory.

    It comes to its place, beside what `head` holds in the end, when it is whole.
    """
    new = path.with_name(f".new-{path.name}")
    try:
        with new.open("w", encoding="utf-8") as file:
            between = ""

            def add(annotation: Json) -> None:
                nonlocal between
                file.write(between + json.dumps(annotation))
                between = ", "

            file.write('{"annotations": [')
            yield add
            file.write(f"], {json.dumps(head)[1:]}")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _stems(folder: Path, project: int) -> set[str]:
    """How the pictures of the export that a folder has begin; none if it has none.

    Raises:
        BadRequest: they are another project's.
    """
    try:
        listed = json.loads(
            (folder / RLE).read_text(encoding="utf-8"),
            object_hook=lambda one: None if "counts" in one else one,  # which are much
        )
        held = int(listed["info"]["project"])
        stems = {Path(image["file_name"]).stem for image in listed["images"]}
    except (OSError, *_AMISS):
        return set()
    if held != project:
        raise BadRequest(
            f"{folder} has the export of project {held}, which would be lost: choose another "
            "folder with --out, or delete that one."
        )
    return stems


def _begun(folder: Path) -> set[str]:
    """How the pictures begin that were written by exports which did not come to their end."""
    try:
        return set((folder / BEGUN).read_text(encoding="utf-8", errors="replace").splitlines())
    except FileNotFoundError:
        return set()


def read(
    folder: Path, max_pixels: int, account: Account, parts: Collection[Part] = tuple(Part)
) -> tuple[int, LabelConfig, Iterator[Listed]]:
    """The project, the labeling configuration and the images of a folder that `write` made.

    Raises:
        BadRequest: it is none, or a file of it is missing or damaged.
    """
    try:
        listed = json.loads((folder / RLE).read_text(encoding="utf-8"))
        config = parse_label_config((folder / CONFIG).read_text(encoding="utf-8"))
        project = int(listed["info"]["project"])
    except (OSError, *_AMISS) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
        raise BadRequest(
            f"{folder} is no export that can be trained on: {told}. `promptbrush export` makes one."
        ) from error
    return project, config, _listed(folder, listed, max_pixels, account, parts)


def _bounds(mask: Mask) -> list[int]:
    """Left, top, width and height of a mask's bounding box, in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


def run_lengths(mask: Mask) -> list[int]:
    """COCO's uncompressed RLE of a mask (H, W): runs down the columns, zeros first."""
    pixels = mask.ravel(order="F")
    bounds = np.flatnonzero(np.diff(pixels, prepend=False))
    counts: list[int] = np.diff(bounds, prepend=0, append=pixels.size).tolist()
    return counts


def from_run_lengths(counts: list[int], height: int, width: int) -> Mask:
    """The inverse of `run_lengths`.

    Raises:
        ValueError: the counts do not fill the mask.
    """
    if sum(counts) != height * width:  # before so many pixels are made
        raise ValueError("the runs do not fill the mask")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape((height, width), order="F")


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Reads of a list what has to be there.

    Raises:
        BadRequest: it is not.
    """
    try:
        yield
    except _AMISS as error:
        raise BadRequest(
            f"{path} is damaged: {error!r}. `promptbrush export` makes it anew."
        ) from error


def _listed(
    folder: Path, listed: Json, max_pixels: int, account: Account, parts: Collection[Part]
) -> Iterator[Listed]:
    with _undamaged(folder / RLE):
        names = {category["id"]: category["name"] for category in listed["categories"]}
        held: dict[int, list[Json]] = {}
        for annotation in listed["annotations"]:
            held.setdefault(annotation["image_id"], []).append(annotation)
        wanted = set(of_parts({image["task"] for image in listed["images"]}, parts, int))
        found = [
            Listed(
                image["task"],
                image["image_key"],
                tuple(image.get("typed", ())),
                frozenset(image.get("suggested", ())),
                tuple(image["labels"]),
                (image["height"], image["width"]),
                {names[one["category_id"]]: one for one in held.get(image["id"], [])},
                folder / image["file_name"],
                max_pixels,
                account,
            )
            for image in listed["images"]
            if image["task"] in wanted
        ]
    yield from found


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """An image as it is listed."""

    task: int
    image_key: str
    typed: tuple[str, ...]
    suggested: frozenset[str]  # of these, what we had offered
    labels: tuple[str, ...]  # that were looked for
    size: Size
    annotations: Mapping[str, Json]  # by label
    path: Path
    max_pixels: int
    account: Account

    @property
    def masks(self) -> dict[str, Mask]:
        """(H, W) of the labels that are there."""
        with _undamaged(self.path.parents[1] / RLE):
            return {
                label: from_run_lengths(one["segmentation"]["counts"], *self.size)
                for label, one in self.annotations.items()
            }

    def see(self) -> Sample:
        """Read the image.

        Raises:
            BadRequest: it cannot be read, or is not as it is listed.
        """
        try:
            encoded = self.path.read_bytes()
        except OSError as error:
            raise BadRequest(f"{self.path} cannot be read: {error.strerror}.") from error
        picture = TaskImage(
            open_image(encoded, str(self.path), self.max_pixels),
            hashlib.sha256(encoded).hexdigest(),
        )
        size = self.size[::-1]
        if picture.image.size != size:
            raise BadRequest(
                f"{self.path} has {picture.image.size} pixels, and is listed with {size}."
            )
        sample = Sample(
            self.task,
            self.image_key,
            picture,
            self.labels,
            self.masks,
            typed=self.typed,
            suggested=self.suggested,
        )
        self.account.use(sample)
        return sample


def _distinct(keys: Collection[str]) -> dict[str, str]:
    """A part of a file's name for each field; what two have in common, plainer ones keep."""
    names: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: _slug(key, MOST_KEY) != key):
        slug = _slug(key, MOST_KEY)
        tried = chain([slug], (f"{slug}-{number}" for number in count(2)))
        if key not in names:
            names[key] = next(name for name in tried if name not in names.values())
    return names


def _slug(text: str, most: int) -> str:
    """A text as a part of a file's name, of 60 characters and so many bytes at most."""
    slug = re.sub(r"\W+", "-", text).strip("-").lower()[:60]
    return slug.encode()[:most].decode(errors="ignore").rstrip("-") or "label"
