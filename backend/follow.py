"""What follows when another version of a project is served: Label Studio moves on with it.

Its tasks that nobody has labeled are predicted anew in the background, the least certain first, so
that what annotators get next is new and worth their time. And the project's version, with its
connection's title, becomes the new one: Label Studio samples by the predictions of that version
only, and asks again for what lacks them. A project that is to be served by uncertainty once enough
is annotated is from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backend.connect import pin
from backend.errors import LabelStudioError
from backend.labelstudio.client import LabelStudio
from backend.labelstudio.wiring import Address
from backend.prelabel import AT_ONCE
from backend.sampling import CHANGED, reconsider
from backend.service import Backend

Json = dict[str, Any]


def follow(studio: LabelStudio, backend: Backend, project: int) -> str:
    """Bring Label Studio to what is served now; tells what was done. May be done again.

    Raises:
        LabelStudioError: Label Studio cannot be asked, or does not reach this backend.
        BackendError: this backend cannot be reached, or cannot push.
    """
    row = studio.project(project)
    label_config = row["label_config"]
    version = backend.version(project, label_config)
    connections = studio.ml_backends(project)
    shown = backend.address.user, backend.address.password
    ours = [
        (one, Address(one["url"], *shown))
        for one in connections
        if one.get("model_version") == version
    ]
    # before anything is predicted: clusters go along where tasks are served by uncertainty only
    moved = any(reconsider(studio, row, *one) for one in ours)
    # before anything moves: Label Studio gives the scores of the version that it goes by
    scores = studio.scores(project)
    lacking = studio.tasks(project, lacking=version, include=("id", "data", "is_labeled"))
    tasks = least_certain_first(lacking, scores)
    for start in range(0, len(tasks), AT_ONCE):
        backend.hand_over(project, label_config, tasks[start : start + AT_ONCE])
    told = f"{len(tasks)} tasks of project {project} are predicted anew by version {version}"
    if not connections:
        return f"{told}; Label Studio has no connection that could ask for more."
    for one in ours:
        pin(studio, project, *one)
    if not ours:
        raise LabelStudioError(
            f"{told}, but no connection of the project in Label Studio answers with that version: "
            f"`promptbrush connect --project {project}` puts that right."
        )
    told += ", which is the project's in Label Studio too."
    return f"{told} {CHANGED}" if moved else told


def least_certain_first(tasks: Iterable[Json], scores: Mapping[int, float]) -> Sequence[Json]:
    """Tasks that nobody has labeled, `id` and `data`: those without a score, then by score."""
    open_tasks = [
        {"id": task["id"], "data": task["data"]} for task in tasks if not task["is_labeled"]
    ]
    return sorted(open_tasks, key=lambda task: scores.get(task["id"], -1.0))
