"""`promptbrush export` and `promptbrush train`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore
from backend.learning import export as files
from backend.learning.dataset import Account, samples
from backend.settings import Settings

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
