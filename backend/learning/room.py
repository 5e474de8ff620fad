"""What versions take on the disk, and which of them need not be kept."""

from __future__ import annotations

from pathlib import Path

from backend.learning.card import Version
from backend.learning.versions import REPORTS, Versions

ALL = "[0-9a-f]" * 16


def taken(folder: Path, project: int, name: str = ALL) -> int:
    """Bytes of a project's version and its report, or of all; `folder` has all projects'."""
    own = folder / str(project)
    files = [*own.glob(f"{name}/*"), *own.glob(f"{REPORTS}/{name}.*")]
    return sum(path.stat().st_size for path in files)


def spare(versions: Versions, project: int, keep: int) -> list[Version]:
    """Versions that are neither among the latest, nor among those that were served last.

    So many of each are kept, and so is what is served with each checkpoint that versions were made
    for. As many rollbacks, less one, can go back without the others.
    """
    found = versions.versions(project)
    served = [versions.active(project, base) for base in {one.card.base for one in found}]
    kept = {one.id for one in (*found[-keep:], *served) if one is not None}
    kept.update(filter(None, versions.decisions(project).line[-keep:]))
    return [one for one in found if one.id not in kept]
