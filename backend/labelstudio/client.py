"""Label Studio's HTTP API, as much of it as promptbrush uses.

`label-studio-sdk` has all of it, and brings OpenCV and pandas along; what is needed here is a dozen
calls that fail in words. Answers are Label Studio's JSON as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from itertools import islice
from typing import Any, NoReturn, TypeVar
from urllib.parse import urljoin

import requests

from backend.errors import LabelStudioError, LabelStudioRefused, LabelStudioUnavailable
from backend.labelstudio.token import REFRESH, Token

Json = dict[str, Any]
T = TypeVar("T")

PAGE = 100  # rows asked for at once
PREDICTIONS_AT_ONCE = 100
_QUOTED = 500  # characters of an answer that go into a message


class LabelStudio:
    """A Label Studio at an address, which may have a path, as the user whose token is given.

    Every method raises LabelStudioUnavailable if there is no good answer in time, and
    LabelStudioRefused if Label Studio says no. Nothing is sent twice: a request that may have
    been carried out is left to the caller.
    """

    def __init__(self, url: str, api_key: str, *, timeout: float = 30.0) -> None:
        self.url = url.rstrip("/")
        self._token = Token(api_key.strip(), self._buy_access)
        self._timeout = timeout
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "promptbrush"
        # Label Studio hands out a session cookie, which would count more than the token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    @property
    def token_kind(self) -> str:
        """`legacy` or `personal`, by the token's looks."""
        return self._token.kind

    # who and what it is

    def version(self) -> str:
        """Its release, such as "1.23.2"; this needs no token."""
        answer = self._read(self._send("GET", "/api/version"))
        release = answer.get("release") if isinstance(answer, dict) else None
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
        return self._object("GET", f"/api/projects/{project}")

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
        include: Sequence[str] = ("id", "data"),
    ) -> Iterator[Json]:
        """Tasks by ascending id, in pages that hold while tasks and predictions come and go.

        Args:
            project: The project's id.
            ids: Only these tasks; those that do not exist are left out.
            lacking: Only tasks without a prediction of this model version.
            include: Fields of the task, `id` among them.
        """
        chunks: Iterable[list[int] | None] = (
            [None] if ids is None else _chunks(sorted(set(ids)), PAGE)
        )
        for chosen in chunks:
            last = 0
            while True:
                query = {
                    "project": project,
                    "page_size": PAGE,
                    "include": ",".join(include),
                    "query": json.dumps(_task_query(last, lacking, chosen)),
                }
                page = self._object("GET", "/api/tasks", params=query)["tasks"]
                yield from page
                if len(page) < PAGE:
                    break
                last = page[-1]["id"]

    def task(self, task: int) -> Json:
        """A task, its annotations, drafts and predictions included."""
        return self._object("GET", f"/api/tasks/{task}")

    def annotations(self, task: int) -> list[Json]:
        """The annotations of a task."""
        return self._list(f"/api/tasks/{task}/annotations")

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> list[int]:
        """Add tasks, each an object of its data; gives their ids."""
        path = f"/api/projects/{project}/import?return_task_ids=true"
        answer = self._call("POST", path, json=list(tasks))
        return [int(task) for task in answer.get("task_ids", [])]

    # predictions

    def predictions(
        self,
        *,
        task: int | None = None,
        project: int | None = None,
        model_version: str | None = None,
    ) -> list[Json]:
        """The predictions of a task or a project, masks included: of a project that is a lot."""
        query = {"task": task, "project": project}
        found = self._list("/api/predictions", {k: v for k, v in query.items() if v is not None})
        return [p for p in found if model_version in {None, p["model_version"]}]

    def create_predictions(self, project: int, predictions: Iterable[Mapping[str, Any]]) -> int:
        """Add predictions, `{"task", "result", "score", "model_version"}` each; gives how many.

        They are sent by `PREDICTIONS_AT_ONCE`. Label Studio leaves out, without a word, what does
        not fit the labeling configuration, so fewer may be saved than were given. If one names a
        task that is not in the project, nothing of its request is saved and LabelStudioRefused is
        raised; requests before it have been saved.
        """
        created = 0
        for some in _chunks(predictions, PREDICTIONS_AT_ONCE):
            answer = self._call("POST", f"/api/projects/{project}/import/predictions", json=some)
            created += int(answer["created"])
        return created

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
        self._call("DELETE", f"/api/ml/{backend}")

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
        self._call("DELETE", f"/api/webhooks/{webhook}/")

    # the wire

    def _object(self, method: str, path: str, **rest: Any) -> Json:
        answer: Json = self._call(method, path, **rest)
        return answer

    def _list(self, path: str, query: Mapping[str, Any] | None = None) -> list[Json]:
        answer: list[Json] = self._call("GET", path, params=query)
        return answer

    def _call(self, method: str, path: str, **rest: Any) -> Any:
        answer = self._token.authorize(
            lambda headers: self._send(method, path, headers=headers, **rest)
        )
        return self._read(answer)

    def _buy_access(self, personal: str) -> str:
        answer = self._send("POST", REFRESH, json={"refresh": personal})
        if answer.status_code in {400, 401}:
            raise LabelStudioRefused(
                f"{self.url} does not take the personal access token: it has expired, was revoked, "
                "or belongs to another Label Studio. Make a new one under Account & Settings",
                answer.status_code,
            )
        access = self._read(answer)
        if not isinstance(access, dict) or not isinstance(access.get("access"), str):
            raise LabelStudioError(f"{self.url}{REFRESH} did not answer with an access token")
        return str(access["access"])

    def _send(self, method: str, path: str, **rest: Any) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.url + path,
                timeout=self._timeout,
                # a redirected POST would arrive as a GET
                allow_redirects=False,
                # given explicitly, or requests prefers what a .netrc file has for the host
                auth=_as_given,
                **rest,
            )
        except requests.Timeout:
            raise LabelStudioUnavailable(
                f"{self.url} did not answer within {self._timeout:g} seconds"
            ) from None
        except requests.RequestException as error:
            raise LabelStudioUnavailable(
                f"Label Studio cannot be reached at {self.url}: {_cause(error)}. "
                "Is it running, and is LABEL_STUDIO_URL its address as seen from here?"
            ) from None

    def _read(self, answer: requests.Response) -> Any:
        """The answer's JSON; None where there is none to be expected."""
        if not answer.ok or answer.is_redirect:
            self._refuse(answer)
        if answer.status_code == 204 or not answer.content:
            return None
        try:
            return answer.json()
        except requests.JSONDecodeError:
            raise LabelStudioError(
                f"{answer.url} answers with something else than JSON: check LABEL_STUDIO_URL"
            ) from None

    def _refuse(self, answer: requests.Response) -> NoReturn:
        asked = f"{answer.request.method} {answer.url.partition('?')[0]}"
        if answer.is_redirect:
            target = urljoin(answer.url, answer.headers["Location"])
            raise LabelStudioRefused(
                f"{asked} is redirected to {target.partition('?')[0]}: set LABEL_STUDIO_URL to the "
                "address that Label Studio has itself, with the right scheme",
                answer.status_code,
            )
        told = f"Label Studio answers {answer.status_code} to {asked}"
        if answer.status_code == 401:
            remedy = (
                "legacy tokens may be switched off in the organization: take a personal access "
                "token, or start Label Studio with LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true"
                if self.token_kind == "legacy"
                else "take another token under Account & Settings"
            )
            raise LabelStudioRefused(f"{told}: it does not know the token; {remedy}", 401)
        reason = _reason(answer)
        if answer.status_code >= 500:
            raise LabelStudioUnavailable(f"{told}: {reason}")
        raise LabelStudioRefused(f"{told}: {reason}", answer.status_code)


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _task_query(after: int, lacking: str | None, ids: Sequence[int] | None) -> Json:
    """The data manager's query for the tasks beyond an id."""
    items: list[Json] = [
        {"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after}
    ]
    if lacking is not None:
        items.append(
            {
                "filter": "filter:tasks:predictions_model_versions",
                "operator": "not_contains",
                "type": "List",
                "value": [lacking],
            }
        )
    query: Json = {
        "filters": {"conjunction": "and", "items": items},
        "ordering": ["tasks:id"],
    }
    if ids is not None:
        query["selectedItems"] = {"all": False, "included": list(ids)}
    return query


def _as_given(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _reason(answer: requests.Response) -> str:
    """Label Studio's own words, with those that matter first."""
    try:
        body = answer.json()
    except requests.JSONDecodeError:
        return answer.reason
    if not isinstance(body, dict):
        return str(body)[:_QUOTED]
    errors = body.get("validation_errors")
    if isinstance(errors, dict):
        told = [
            text if field == "non_field_errors" else f"{field}: {text}"
            for field, texts in errors.items()
            for text in (texts if isinstance(texts, list) else [texts])
        ]
        return "; ".join(map(str, told))[:_QUOTED]
    return str(body.get("detail") or body)[:_QUOTED]


def _cause(error: Exception) -> str:
    """The innermost reason, without addresses in memory and retry counts."""
    while inner := error.__cause__ or error.__context__:
        if not isinstance(inner, Exception):
            break
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
