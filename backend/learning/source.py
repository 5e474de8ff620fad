"""Where accepted work is had from: Label Studio if it is known, else what its webhooks brought."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from backend.diskcache import DiskCache
from backend.errors import TooLittleData
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.studio import Projects
from backend.learning.collected import Collected
from backend.learning.predicted import Predicted
from backend.learning.pulled import Pulled
from backend.settings import Settings

Json = dict[str, Any]


class Studio(Projects, Protocol):
    """What is used of Label Studio's API to learn."""

    def annotated_tasks(self, project: int) -> Iterator[Json]:
        """The project's tasks that somebody has submitted, with `annotations`."""

    def began_with(self, task: int, annotation: Mapping[str, Any], /) -> Json | None:
        """The prediction, with its regions, that an annotation began with; None if not known."""


class Webhooked:
    """What webhooks brought and this backend predicted, as Label Studio's API would answer."""

    def __init__(self, collected: Collected, predicted: Predicted) -> None:
        self._collected = collected
        self._predicted = predicted

    def project(self, project: int) -> Json:
        """A project, of which nothing but the labeling configuration is known.

        Raises:
            TooLittleData: no webhook has told of it.
        """
        xml = self._collected.label_config(project)
        if xml is None:
            raise TooLittleData(
                f"No webhook has told of project {project}, and Label Studio cannot be asked: set "
                "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY, or connect this backend to the project "
                "and submit some annotations."
            )
        return {"id": project, "label_config": xml}

    def annotated_tasks(self, project: int) -> Iterator[Json]:
        """The project's tasks that somebody has submitted, or skipped, with `annotations`."""
        return self._collected.tasks(project)

    def began_with(self, task: int, annotation: Mapping[str, Any]) -> Json | None:
        """The prediction of ours that an annotation began with; None if not known."""
        return self._predicted.began_with(task, annotation)


def studio_of(settings: Settings) -> Studio:
    """Label Studio where its address and a key are set, else what its webhooks brought."""
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        return Webhooked(Collected(settings.model_dir), Predicted.of(settings))
    api = LabelStudio(settings.label_studio_url, settings.label_studio_api_key)
    most = settings.annotation_cache_mb * 2**20
    return Pulled(api, DiskCache(settings.data_dir / "annotations", most))
