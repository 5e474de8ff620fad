"""What annotations tell, of which Label Studio checks little: an import or a script may write any.

What can be asked of a region by itself is in `shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 1e9  # seconds, some thirty years

Json = Mapping[str, Any]


def regions(holder: Json) -> list[Json]:
    """The regions of an annotation, or a prediction; what is no object is none."""
    held = holder.get("result")
    return [one for one in held if isinstance(one, Mapping)] if isinstance(held, list) else []


def lead_time(annotation: Json) -> float | None:
    """Seconds that it took; None where that is not told, or by no clock."""
    told = annotation.get("lead_time")
    if isinstance(told, bool) or not isinstance(told, int | float):
        return None
    return float(told) if 0 < told < LONGEST else None  # nor a NaN
