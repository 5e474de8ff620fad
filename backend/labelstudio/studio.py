"""What is used of Label Studio's API, by purpose, so that others can stand in for its client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

UNCERTAINTY = "Uncertainty sampling"  # a project's `sampling` by scores and clusters

Json = dict[str, Any]


class Projects(Protocol):
    """Projects by their id."""

    def project(self, project: int) -> Json:
        """A project, its labeling configuration included."""


class Tasks(Projects, Protocol):
    """What is to be predicted."""

    def tasks(
        self,
        project: int,
        *,
        ids: Iterable[int] | None = None,
        lacking: str | None = None,
        include: Sequence[str] = ("id", "data"),
    ) -> Iterator[Json]:
        """Those of the tasks that exist, and lack a prediction of a version if one is given."""


class Predictions(Tasks, Protocol):
    """What is predicted, and by whom it is said to be."""

    def user(self) -> Json:
        """The token's user."""

    def create_predictions(self, project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        """Add predictions, all or none, but not their clusters."""

    def create_prediction(self, project: int, prediction: Mapping[str, Any]) -> None:
        """Add a prediction with its cluster."""
