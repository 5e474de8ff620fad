"""Label Studio's HTTP API, as much of it as promptbrush uses.

`label-studio-sdk` has all of it, and brings OpenCV and pandas along; what is needed here is some
twenty calls that fail in words. Answers are Label Studio's JSON as it is.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from backend.errors import LabelStudioError, LabelStudioRefused, LabelStudioUnavailable
from backend.labelstudio.api import Api

log = logging.getLogger(__name__)

Json = dict[str, Any]
T = TypeVar("T")

NOT_FOUND = 404
PAGE = 100  # rows asked for at once
PAGE_OF_REGIONS = 20  # where each may bring megabytes of masks
PREDICTIONS_AT_ONCE = 100
WAITS = 5  # for a page in the middle of a listing
# Label Studio holds the same list against the fields of tasks and of the annotations in them.
ANNOTATED = (
    *("id", "data", "annotations"),
    *("result", "was_cancelled", "ground_truth", "completed_by", "updated_at"),
    *("lead_time", "parent_prediction"),
)


class LabelStudio:
    """What promptbrush asks of Label Studio; `api.Api` tells what every call raises."""

    def __init__(self, url: str, api_key: str, *, timeout: float = 30.0) -> None:
        self._api = Api(url, api_key, timeout)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return self._api.url

    @property
    def token_kind(self) -> str:
        """`legacy` or `personal`, by the token's looks."""
        return self._api.token.kind

    # who and what it is

    def version(self) -> str:
        """Its release, such as "1.23.2"; this needs no token."""
        release = None
        try:
            answer = self._api.call_openly("/api/version")
            release = answer.get("release") if isinstance(answer, dict) else None
        except LabelStudioRefused as refusal:  # every Label Studio has that, for everybody
            if refusal.answered != NOT_FOUND:
                raise
        if not isinstance(release, str):
            raise LabelStudioError(
                f"{self.url} answers, but not as Label Studio: check LABEL_STUDIO_URL"
            )
        return release

    def user(self) -> Json:
        """The token's user."""
        return self._object("GET", "/api/current-user/whoami")

    # projects

    def projects(self) -> Iterator[Json]:
        """Id and title of each project."""
        page = 1
        while True:
            query = {"page": page, "page_size": PAGE, "include": "id,title"}
            answer = self._object("GET", "/api/projects", params=query)
            yield from answer["results"]
            if not answer.get("next"):
                return
            page += 1

    def project(self, project: int) -> Json:
        """A project, its labeling configuration included."""
        return self._of_project(project, f"/api/projects/{project}")

    def create_project(self, title: str, label_config: str) -> Json:
        """A new project."""
        return self._object(
            "POST", "/api/projects", json={"title": title, "label_config": label_config}
        )

    def update_project(self, project: int, **fields: Any) -> Json:
        """Change fields of a project; gives the whole of it."""
        return self._object("PATCH", f"/api/projects/{project}", json=fields)

    # tasks

    def tasks(
        self,
        project: int,
        *,
        ids: Iterable[int] | None = None,
        lacking: str | None = None,
        annotated: bool = False,
        include: Sequence[str] = ("id", "data"),
    ) -> Iterator[Json]:
        """Tasks by ascending id, in pages that hold while tasks and predictions come and go.

        Their data is as `/predict` has it: addresses in cloud storage are not resolved.

        A listing that has begun waits where Label Studio says how long: whoever may ask so often
        and no oftener would else never get to its end.

        Args:
            project: The project's id.
            ids: Only these tasks; those that do not exist are left out.
            lacking: Only tasks without a prediction of this model version.
            annotated: Only tasks that somebody has submitted, not those that were only skipped.
            include: Fields of the task, and of its annotations if these are among them.
        """
        size = PAGE_OF_REGIONS if "result" in include else PAGE
        chunks: Iterable[list[int] | None] = (
            [None] if ids is None else _chunks(sorted(set(ids)), size)
        )
        for chosen in chunks:
            last = 0
            while True:
                query = {
                    "project": project,
                    "page_size": size,
                    "include": ",".join(include),
                    "resolve_uri": "false",  # to an address that it may not have from here
                    "query": json.dumps(_task_query(last, lacking, chosen, annotated=annotated)),
                }
                if "annotations" in include:
                    query["fields"] = "all"  # without it Label Studio leaves them out
                page = self._page(query, waits=WAITS if last else 0)
                yield from page
                if chosen is not None or len(page) < size:
                    break
                last = page[-1]["id"]

    def _page(self, query: Json, waits: int) -> list[Json]:
        """A page of tasks, asked for again as often as that, when Label Studio says."""
        while True:
            try:
                page: list[Json] = self._of_project(query["project"], "/api/tasks", query)["tasks"]
                return page
            except LabelStudioUnavailable as error:
                if error.after is None or not waits:
                    raise
                waits -= 1
                log.warning("the listing goes on in %.0f s: %s", error.after, error)
                time.sleep(error.after)

    def annotated_tasks(
        self, project: int, *, ids: Iterable[int] | None = None, regions: bool = True
    ) -> Iterator[Json]:
        """Tasks that somebody has submitted, by ascending id, with `annotations` and `updated_at`.

        Args:
            project: The project's id.
            ids: Only these tasks; those that do not exist are left out.
            regions: Whether annotations have their `result`, which is nearly all of their bytes.
        """
        include = [name for name in ANNOTATED if regions or name != "result"]
        return self.tasks(project, ids=ids, annotated=True, include=include)

    def scores(self, project: int) -> dict[int, float]:
        """The scores of tasks, by id: of their prediction of the version that the project has."""
        found: dict[int, float] = {}
        while True:
            query = {
                "project": project,
                "page_size": PAGE,
                "include": "id,predictions_score",
                # it is computed where it is filtered by
                "query": json.dumps(_task_query(max(found, default=0), scored=True)),
            }
            page = self._of_project(project, "/api/tasks", query)["tasks"]
            found |= {row["id"]: float(row["predictions_score"]) for row in page}
            if len(page) < PAGE:
                return found

    def upload(self, project: int, name: str, content: bytes) -> None:
        """Add a task for an image file."""
        path = f"/api/projects/{project}/import"
        self._api.call("POST", path, files={"file": (name, content)})

    # predictions

    def prediction(self, prediction: int) -> Json | None:
        """A prediction by its id; None if it was deleted."""
        try:
            return self._object("GET", f"/api/predictions/{prediction}")
        except LabelStudioRefused as error:
            if error.answered == NOT_FOUND:
                return None
            raise

    def create_predictions(self, project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        """Add predictions, `{"task", "result", "score", "model_version"}` each; gives how many.

        They are sent by `PREDICTIONS_AT_ONCE`. Label Studio leaves out, without a word, what does
        not fit the labeling configuration, so fewer may be saved than were given. If one names a
        task that is not in the project, nothing of its request is saved and LabelStudioRefused is
        raised; requests before it have been saved.
        """
        created = 0
        for some in _chunks(predictions, PREDICTIONS_AT_ONCE):
            answer = self._object("POST", f"/api/projects/{project}/import/predictions", json=some)
            created += int(answer["created"])
        return created

    def create_prediction(self, project: int, prediction: Mapping[str, Any]) -> None:
        """Add one with its `cluster`, which Label Studio drops where many are added at once."""
        self._object("POST", "/api/predictions/", json={"project": project, **prediction})

    # ML backends and webhooks

    def ml_backends(self, project: int) -> list[Json]:
        """The project's ML backends; Label Studio asks each for its health meanwhile."""
        return self._list("/api/ml", {"project": project})

    def create_ml_backend(self, **fields: Any) -> Json:
        """Connect a backend: `project`, `url`, `title`, `is_interactive`, `auth_method` ..."""
        return self._object("POST", "/api/ml", json=fields)

    def update_ml_backend(self, backend: int, **fields: Any) -> Json:
        """Change a backend; `project` and `url` have to be among the fields."""
        return self._object("PATCH", f"/api/ml/{backend}", json=fields)

    def delete_ml_backend(self, backend: int) -> None:
        """Disconnect a backend; its webhook stays."""
        self._api.call("DELETE", f"/api/ml/{backend}")

    def webhooks(self, project: int) -> list[Json]:
        """The project's webhooks."""
        return self._list("/api/webhooks/", {"project": project})

    def create_webhook(self, **fields: Any) -> Json:
        """Add a webhook: `project`, `url`, `headers` and so on."""
        return self._object("POST", "/api/webhooks/", json=fields)

    def update_webhook(self, webhook: int, **fields: Any) -> Json:
        """Change a webhook."""
        return self._object("PATCH", f"/api/webhooks/{webhook}/", json=fields)

    def delete_webhook(self, webhook: int) -> None:
        """Remove a webhook."""
        self._api.call("DELETE", f"/api/webhooks/{webhook}/")

    def _of_project(self, project: int, path: str, query: Json | None = None) -> Json:
        """What is had of a project; that there is none is told with its number."""
        try:
            return self._object("GET", path, params=query)
        except LabelStudioRefused as error:
            if error.answered == NOT_FOUND:
                raise LabelStudioRefused(
                    f"There is no project {project} at {self.url}, or the token's user may not see "
                    "it: its number is in the address of its page",
                    NOT_FOUND,
                ) from None
            raise

    def _object(self, method: str, path: str, **rest: Any) -> Json:
        return self._api.call_for(dict, method, path, **rest)

    def _list(self, path: str, query: Mapping[str, Any] | None = None) -> list[Json]:
        return self._api.call_for(list, "GET", path, params=query)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _task_query(
    after: int,
    lacking: str | None = None,
    ids: Sequence[int] | None = None,
    *,
    annotated: bool = False,
    scored: bool = False,
) -> Json:
    """The data manager's query for the tasks beyond an id."""
    items: list[Json] = [
        {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
    ]
    if scored:
        items.append(
            {
                "filter": "filter:tasks:predictions_score",
                "operator": "greater_or_equal",
                "type": "Number",
                "value": 0,
            }
        )
    if lacking is not None:
        items.append(
            {
                "filter": "filter:tasks:predictions_model_versions",
                "operator": "not_contains",
                "type": "List",
                "value": [lacking],
            }
        )
    if annotated:
        items.append(
            {
                "filter": "filter:tasks:total_annotations",
                "operator": "greater",
                "type": "Number",
                "value": 0,
            }
        )
    query: Json = {
        "filters": {"conjunction": "and", "items": items},
        "ordering": ["tasks:id"],
    }
    if ids is not None:
        query["selectedItems"] = {"all": False, "included": list(ids)}
    return query
