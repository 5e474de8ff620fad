"""A Label Studio project that people accepted work in, and a promptbrush that may train on it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests

from backend.labelstudio import brush
from backend.learning.dataset import Part, part_of
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio, serving
from tests.backend.learning.school import XML, sample
from tests.live.conftest import ImageHost, Up, wait_until

TASKS = 30


@dataclass
class School:
    """The project, its accepted tasks, and the words of its backend."""

    studio: FakeLabelStudio
    images: ImageHost
    launch: Callable[..., Up]
    project: int = 0
    tasks: list[int] = field(default_factory=list)

    def begin(self, **settings: object) -> Up:
        """A promptbrush that knows this Label Studio."""
        known: dict[str, object] = {
            "LABEL_STUDIO_URL": self.studio.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "IMAGE_HOSTS": "127.0.0.1",
            "PROMPTS_AFTER": 0,
            "TRAIN_STEPS": 4,
            "TRAIN_AFTER": 0,
            "TRAIN_QUIET": 0.1,
        }
        return self.launch(**{**known, **settings})

    def of(self, part: Part) -> list[int]:
        """The accepted tasks that are for one thing."""
        return [task for task in self.tasks if part_of(task) is part]

    def webhook(self, up: Up, action: str, **content: Any) -> requests.Response:
        """An event as Label Studio sends it."""
        project = {"id": self.project, "label_config": XML}
        body = {"action": action, "project": project, **content}
        return requests.post(f"{up.url}/webhook", json=body, timeout=10)

    def submitted(self, up: Up, task: int) -> None:
        """Tell of a task that somebody has accepted."""
        row = self.studio.tasks[task]
        (annotation,) = row["annotations"]
        self.webhook(up, "ANNOTATION_CREATED", annotation=annotation, task=row)

    def ask(self, up: Up) -> str:
        """Ask for a training."""
        body = {"project": self.project}
        return str(requests.post(f"{up.url}/train", json=body, timeout=10).json()["job"])

    def state(self, up: Up) -> dict[str, Any]:
        """What is told of the project's training; nothing while nobody answers."""
        try:
            told = up.get(f"/jobs?project={self.project}")["training"]["projects"]
        except (requests.RequestException, KeyError):
            return {}
        return dict(told[0]) if told else {}

    def wait_for(self, up: Up, state: str, job: str | None = None) -> dict[str, Any]:
        """What is told once a run is in a state."""
        seen: list[dict[str, Any]] = [{}]

        def there() -> bool:
            seen[0] = self.state(up)
            return seen[0].get("state") == state and job in {None, seen[0].get("job")}

        try:
            wait_until(there, 240, pause=0.3)
        except AssertionError:
            raise AssertionError(
                f"{seen[0]} instead of {state}\n{up.log.read_text()[-4000:]}"
            ) from None
        return seen[0]

    def versions(self, up: Up) -> dict[str, Any]:
        """The project's versions and decisions."""
        return dict(up.get(f"/versions?project={self.project}"))

    def predict(self, up: Up) -> requests.Response:
        """Ask for a prediction of the first task."""
        body = {
            "tasks": [{"id": self.tasks[0], "data": self.studio.tasks[self.tasks[0]]["data"]}],
            "project": f"{self.project}.1795303384",
            "label_config": XML,
        }
        return requests.post(f"{up.url}/predict", json=body, timeout=60)

    def predicted(self, up: Up) -> str | None:
        """The version of a prediction that is asked for now; None if there is none."""
        try:
            entry = self.predict(up).json()["results"][0]
        except (requests.RequestException, KeyError):
            return None
        return str(entry["model_version"]) if entry else None


def school(images: ImageHost, launch: Callable[..., Up]) -> Iterator[School]:
    """A project with `TASKS` accepted tasks; its images are on the host."""
    with serving() as studio:
        project = studio.add_project("Squares", XML)
        tasks = [studio.add_task(project) for _ in range(TASKS)]
        drawn = {f"/{task}.png": sample(task) for task in tasks}
        for task in tasks:
            studio.tasks[task]["data"] = {"image": f"{images.url}/{task}.png"}
        for task in tasks:
            mask = drawn[f"/{task}.png"].masks["Bright"]
            value = {"format": "rle", "rle": list(brush.encode(mask)), "brushlabels": ["Bright"]}
            size = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
            names = {"from_name": "brush", "to_name": "image", "type": "brushlabels"}
            studio.annotate(task, [{"id": "r", **names, **size, "value": value}])

        def picture(path: str) -> bytes:
            file = io.BytesIO()
            drawn[path].image.image.save(file, "PNG")
            return file.getvalue()

        images.picture = picture
        yield School(studio, images, launch, project, tasks)
