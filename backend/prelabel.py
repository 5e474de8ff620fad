"""`promptbrush prelabel`: predictions for a whole project, in the background.

The command looks up in Label Studio which tasks lack a prediction of the version that is served,
hands them to the running backend, and then only watches: the work goes on without it. So it may be
stopped at any time and run again, and begins where things are.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from tqdm import tqdm

from backend.labelstudio.studio import Tasks
from backend.report import table
from backend.service import Backend

AT_ONCE = 200  # tasks that are handed over together
POLL = 1.0  # seconds between looks at the progress
EXAMPLES = 3  # tasks named of those that failed for the same reason
SAVING = 20.0  # seconds that Label Studio may take to save what it asked for itself

# Words that name one task's image, its size or its place, but not what a host answered.
_OF_ONE = re.compile(r"(?<!\S)(?<!answered )\S*(?:[\d/\\]|\.\w{3,4}\b)\S*")


@dataclass(frozen=True, slots=True)
class Report:
    """How it ended, or where it is if nobody waited for the end."""

    version: str
    handed: int
    pending: int
    failed: Mapping[str, str]  # task -> reason
    failures: int
    lost: int = 0  # that lack a prediction though nothing waits
    trouble: str | None = None  # why pushing rests
    outdated: bool = False  # whether the project asks for other labels or prompts by now

    @property
    def postfix(self) -> str:
        """What stands behind the bar."""
        failed = f"{self.failures} failed" if self.failures else ""
        return " ".join(filter(None, (failed, self.trouble)))

    def __str__(self) -> str:
        """Counts, and the reasons of failures."""
        if not self.handed:
            return f"Version {self.version}: no task lacks a prediction."
        done = self.handed - self.pending - self.failures - self.lost
        lines = [
            f"Version {self.version}: {self.handed} tasks lacked a prediction, {done} have one."
        ]
        if self.pending:
            lines.append(f"{self.pending} are worked on; run this again to see how far it is.")
        if self.lost:
            lines.append(
                f"{self.lost} still lack one, though nothing is worked on: the queue's broker may "
                "have lost them. Run this again."
            )
        if self.outdated:
            lines.append(
                "The labeling configuration was changed meanwhile: run this again for predictions "
                "that go with it."
            )
        if self.failures:
            rows = [
                [str(len(tasks)), self.failed[tasks[0]], ", ".join(tasks[:EXAMPLES])]
                for tasks in self._alike()
            ]
            head = ["tasks", "reason of the first", "such as"]
            lines += [f"{self.failures} failed:", table(head, rows, words=3)]
        return "\n".join(lines)

    def _alike(self) -> list[list[str]]:
        """Tasks that failed for one reason but for the image that it names; the most first."""
        alike: dict[str, list[str]] = {}
        for task, reason in self.failed.items():
            alike.setdefault(_OF_ONE.sub("", reason), []).append(task)
        return sorted(alike.values(), key=len, reverse=True)


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
    watch = _Watch(backend, project)
    with tqdm(unit="task", disable=None, total=0) as bar:
        lacking = studio.tasks(project, lacking=version)
        while tasks := list(islice(lacking, AT_ONCE)):
            # another version may be served by now, and is what these wait for then
            version = backend.hand_over(project, label_config, tasks)["model_version"]
            watch.add(version, tasks)
            bar.total = len(watch.handed)
            bar.refresh()
        while True:
            report = watch.look(version)
            bar.n = max(0, report.handed - report.pending)
            bar.set_postfix_str(report.postfix)
            if not report.pending:
                outdated = studio.project(project)["label_config"] != label_config
                return replace(report, lost=watch.lost(studio, report, poll), outdated=outdated)
            if not wait:
                return report
            time.sleep(poll)


class _Watch:
    """What was handed over of a project, and by which versions it is predicted."""

    def __init__(self, backend: Backend, project: int) -> None:
        self.handed: set[int] = set()
        self._backend = backend
        self._project = project
        self._versions: dict[str, None] = {}

    def add(self, version: str, tasks: Iterable[Mapping[str, Any]]) -> None:
        """Watch these tasks, too."""
        self._versions[version] = None
        self.handed.update(int(task["id"]) for task in tasks)

    def look(self, version: str) -> Report:
        """How far it is; what failed before, and was not handed over now, is none of it."""
        told = [self._backend.progress(self._project, one) for one in self._versions]
        failed = {
            task: reason
            for one in told
            for task, reason in one["reasons"].items()
            if int(task) in self.handed
        }
        return Report(
            version,
            len(self.handed),
            sum(one["pending"] for one in told),
            failed,
            len(failed) + sum(one["failed"] - len(one["reasons"]) for one in told),
            trouble=next((one["trouble"] for one in told if one["trouble"]), None),
        )

    def lost(self, studio: Tasks, report: Report, poll: float) -> int:
        """How many lack a prediction of every version, and did not fail.

        Label Studio, too, may have asked for some: then it has the answer, and saves it just now.
        """
        end = time.monotonic() + SAVING
        while (lost := self._lacking(studio, report)) and time.monotonic() < end:
            time.sleep(poll)
        return lost

    def _lacking(self, studio: Tasks, report: Report) -> int:
        """The same, as it is now."""
        lacking = self.handed - set(map(int, report.failed))
        for version in self._versions:
            rows = studio.tasks(self._project, lacking=version, include=("id",))
            lacking &= {row["id"] for row in rows}
        return max(0, len(lacking) - (report.failures - len(report.failed)))
