"""`promptbrush export` and `promptbrush train`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from backend.errors import BadRequest
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore
from backend.learning import export as files
from backend.learning.dataset import Account, Part, Sample, samples
from backend.learning.finetune import Look, Recipe
from backend.learning.registry import Registry
from backend.learning.train import Source, train
from backend.settings import Settings
from models import Segmenter

Json = dict[str, Any]


class Studio(Protocol):
    """What is used of Label Studio's API."""

    def project(self, project: int) -> Json:
        """A project, its labeling configuration included."""

    def annotated_tasks(self, project: int) -> Iterator[Json]:
        """The project's tasks that somebody has submitted, with `annotations`."""


def export(settings: Settings, studio: Studio, project: int, out: Path) -> str:
    """Write a project's accepted annotations to a folder; tells what was used.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
        BadLabelConfig: the project has nothing to fill.
    """
    xml = studio.project(project)["label_config"]
    account = Account()
    tasks = tqdm(studio.annotated_tasks(project), unit="task", disable=None)
    found = samples(tasks, parse_label_config(xml), ImageStore.of(settings), account)
    files.write(found, xml, project, account, out)
    return str(account)


def train_from_studio(
    settings: Settings, base: Segmenter, digest: str, studio: Studio, project: int, recipe: Recipe
) -> str:
    """Train a project on what Label Studio has of it; tells how it went."""
    xml = studio.project(project)["label_config"]
    config, images = parse_label_config(xml), ImageStore.of(settings)

    def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        return samples(studio.annotated_tasks(project), config, images, account, parts)

    return _train(settings, base, digest, project, xml, source, recipe)


def train_from_folder(
    settings: Settings, base: Segmenter, digest: str, folder: Path, project: int, recipe: Recipe
) -> str:
    """Train a project on an export; tells how it went.

    Raises:
        BadRequest: the folder is no export of that project.
    """
    most = settings.image_max_megapixels * 10**6
    held, _, _ = files.read(folder, most, Account())
    if held != project:
        raise BadRequest(f"{folder} is an export of project {held}, not of {project}.")

    def source(parts: Collection[Part], account: Account) -> Iterator[Sample]:
        return files.read(folder, most, account, parts)[2]

    xml = (folder / files.CONFIG).read_text(encoding="utf-8")
    return _train(settings, base, digest, project, xml, source, recipe)


def _train(
    settings: Settings,
    base: Segmenter,
    digest: str,
    project: int,
    xml: str,
    source: Source,
    recipe: Recipe,
) -> str:
    with tqdm(total=recipe.steps, unit="step", disable=None) as bar:

        def tell(look: Look) -> None:
            bar.n = look.step
            bar.set_postfix_str(
                f"loss {look.loss:.3f}, IoU {look.iou:.3f}, {look.seconds_left:.0f} s left"
            )

        done = train(
            base,
            digest,
            Registry(settings.model_dir),
            settings.model_dir,
            project,
            parse_label_config(xml),
            source,
            threshold=settings.threshold,
            recipe=recipe,
            told=tell,
        )
    became = "is active" if done.verdict.promoted else "is rejected"
    return (
        f"{done.account}\n\nVersion {done.version.id} {became}: {done.verdict.reason}.\n"
        f"Report: {done.report}"
    )
