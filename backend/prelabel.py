"""`promptbrush prelabel`: predictions for a whole project, in the background.

The command looks up in Label Studio which tasks lack a prediction of the version that is served,
hands them to the running backend, and then only watches: the work goes on without it. So it may be
stopped at any time and run again, and begins where things are.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tqdm import tqdm

from backend.labelstudio.studio import Tasks
from backend.report import table
from backend.service import Backend

log = logging.getLogger(__name__)

AT_ONCE = 200  # tasks that are handed over together
POLL = 1.0  # seconds between looks at the progress


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended, or where it is if nobody waited for the end."""

    version: str
    handed: int
    pending: int
    failed: Mapping[str, str]  # task -> reason
    failures: int

    def __str__(self) -> str:
        """Counts, and the reasons of failures."""
        done = self.handed - self.pending - self.failures
        lines = [
            f"Version {self.version}: {self.handed} tasks lacked a prediction, {done} have one."
        ]
        if self.pending:
            lines.append(f"{self.pending} are worked on; run this again to see how far it is.")
        if self.failures:
            reasons = Counter(self.failed.values())
            example = {reason: task for task, reason in reversed(list(self.failed.items()))}
            rows = [[str(n), reason, example[reason]] for reason, n in reasons.most_common()]
            lines += [f"{self.failures} failed:", table(["tasks", "reason", "such as task"], rows)]
        return "\n".join(lines)


def prelabel(
    studio: Tasks, backend: Backend, project: int, *, wait: bool = True, poll: float = POLL
) -> Report:
    """Let all tasks of a project be predicted that lack it; watch until they are.

    Raises:
        LabelStudioError: Label Studio cannot be asked.
        BackendError: the backend cannot be reached, or cannot push.
    """
    label_config = studio.project(project)["label_config"]
    version = backend.version(project, label_config)
    handed = 0
    with tqdm(unit="task", disable=None, total=0) as bar:
        lacking = studio.tasks(project, lacking=version)
        while tasks := list(islice(lacking, AT_ONCE)):
            backend.hand_over(project, label_config, tasks)
            handed += len(tasks)
            bar.total = handed
            bar.refresh()
        progress = backend.progress(project, version)
        while wait and progress["pending"]:
            bar.n = max(0, handed - progress["pending"])
            bar.set_postfix_str(_postfix(progress))
            time.sleep(poll)
            progress = backend.progress(project, version)
        bar.n = max(0, handed - progress["pending"])
        bar.set_postfix_str(_postfix(progress))
    return Report(version, handed, progress["pending"], progress["reasons"], progress["failed"])


def _postfix(progress: Mapping[str, Any]) -> str:
    failed = f"{progress['failed']} failed" if progress["failed"] else ""
    return " ".join(filter(None, (failed, progress["trouble"])))
