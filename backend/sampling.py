"""Which of a project's tasks Label Studio serves next, and when the least certain come first.

They are worth an annotator's time once the model knows the labels. Before that it is uncertain of
what has nothing to do with them: then such an order finds no more than a random one, and less where
labels are rare (benchmarks/RESULTS.md; Hacohen et al., "Active learning on a budget", ICML 2022,
tell why). So a project that is to be served by uncertainty is served in random order first. That it
is to change is kept with its connection in Label Studio, where everybody finds it who moves the
project to another version.
"""

from __future__ import annotations

from typing import Any

from backend.labelstudio.client import Json, LabelStudio
from backend.labelstudio.studio import UNCERTAINTY
from backend.labelstudio.wiring import Address

ENOUGH = 20  # annotated tasks
SEQUENTIAL, UNIFORM = "Sequential sampling", "Uniform sampling"
SAMPLING = {"sequential": SEQUENTIAL, "uniform": UNIFORM, "uncertainty": UNCERTAINTY}
LATER = f"by {UNCERTAINTY.lower()} once {ENOUGH} are annotated"
CHANGED = f"Tasks are served by {UNCERTAINTY.lower()} from now on."

_WISH = "sampling"  # its name among a connection's extra parameters


def waits(connection: Json) -> bool:
    """Whether a connection's project is to be served by uncertainty later."""
    return _extra(connection).get(_WISH) == UNCERTAINTY


def choose(
    studio: LabelStudio, project: Json, connection: Json, address: Address, choice: str
) -> str:
    """Serve a project's tasks in one of the orders of `SAMPLING`; says which it is now.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
    """
    annotated = project["num_tasks_with_annotations"]
    sampling = SAMPLING[choice]
    later = sampling == UNCERTAINTY and annotated < ENOUGH
    now = UNIFORM if later else sampling
    studio.update_project(project["id"], sampling=now)
    _keep(studio, project["id"], connection, address, later)
    told = f"Tasks are served by {now.lower()}"
    if not later:
        return f"{told}."
    return (
        f"{told}, and {LATER} ({annotated} are): before, "
        "the model does not know the labels well enough to tell what is worth a look."
    )


def reconsider(studio: LabelStudio, project: Json, connection: Json, address: Address) -> bool:
    """Serve a project by uncertainty if that was to come, and now is the time; gives whether.

    Who chose another order in Label Studio meanwhile keeps it.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
    """
    if not waits(connection) or project["num_tasks_with_annotations"] < ENOUGH:
        return False
    moves: bool = project["sampling"] == UNIFORM
    if moves:
        studio.update_project(project["id"], sampling=UNCERTAINTY)
    _keep(studio, project["id"], connection, address, False)
    return moves


def _keep(
    studio: LabelStudio, project: int, connection: Json, address: Address, later: bool
) -> None:
    """Remember with the connection whether uncertainty is to come."""
    extra = _extra(connection)
    wanted = {name: value for name, value in extra.items() if name != _WISH}
    if later:
        wanted[_WISH] = UNCERTAINTY
    if wanted != extra:
        fields = address.fields() | {"extra_params": wanted or None}
        studio.update_ml_backend(connection["id"], project=project, **fields)


def _extra(connection: Json) -> dict[str, Any]:
    extra = connection.get("extra_params")
    return extra if isinstance(extra, dict) else {}
