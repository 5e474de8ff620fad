"""The running backend, as commands and the trainer talk to it: over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import requests

from backend.errors import BackendError, NotReady
from backend.labelstudio.api import as_given
from backend.labelstudio.wiring import Address

T = TypeVar("T")

PATIENCE = 120.0  # seconds for the backend to start, or to come back


class _NotYet(Exception):
    """Why the backend cannot do now what it is asked for."""


class Backend:
    """The running backend over HTTP; it may be away for a while, as when it is restarted."""

    def __init__(self, address: Address, patience: float = PATIENCE) -> None:
        self.address = address
        self._patience = patience
        self._session = requests.Session()
        self._session.headers.update(address.headers)
        self._session.auth = as_given

    def version(self, project: int, label_config: str) -> str:
        """The version of predictions for a labeling configuration, once a model is loaded."""

        def ask() -> str:
            body = {"project": str(project), "schema": label_config}
            version = self._call("POST", "/setup", json=body)["model_version"]
            if version is None:
                raise _NotYet("its model is still loading")
            return str(version)

        return self._insist(ask)

    def checkpoints(self) -> list[str]:
        """The checkpoints of the workers that are ready, each as a model and its digest's start."""
        return list(map(str, self._call("GET", "/versions")["versions"]))

    def hand_over(
        self, project: int, label_config: str, tasks: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Let tasks be predicted in the background; those that are pending already are left so."""
        body = {"project": project, "label_config": label_config, "tasks": list(tasks)}
        return self._call("POST", "/prelabel", json=body)

    def progress(self, project: int, version: str) -> dict[str, Any]:
        """How far it is; see `Deliveries.group_progress`."""
        query = {"project": project, "version": version}
        return self._call("GET", "/prelabel", params=query)

    def train(self, project: int) -> str:
        """Ask for a project's training; gives the name of the run."""
        return str(self._call("POST", "/train", json={"project": project})["job"])

    def stop_training(self, project: int) -> bool:
        """Stop a project's training; gives whether there was any."""
        return bool(self._call("DELETE", "/train", params={"project": project})["stopped"])

    def _call(self, method: str, path: str, **rest: Any) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            try:
                answer = self._session.request(method, self.address.url + path, timeout=60, **rest)
            except (requests.ConnectionError, requests.Timeout):
                raise _NotYet("it does not answer: start it with `promptbrush up`") from None
            return _read(answer)

        return self._insist(ask)

    def _insist(self, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, as long as patience lasts."""
        end = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except _NotYet as reason:
                if time.monotonic() > end:
                    told = str(reason).rstrip(".")
                    raise BackendError(
                        f"The backend at {self.address.url} cannot be used: {told}."
                    ) from None
            time.sleep(min(1.0, self._patience / 5))


def _read(answer: requests.Response) -> dict[str, Any]:
    try:
        content = answer.json()
        if answer.ok:
            return dict(content)
        told = f"{content['error']}: {content['detail']}"
    except (ValueError, KeyError, TypeError):
        told = f"{answer.status_code}, and not as promptbrush does"
    if answer.status_code == NotReady.status:
        raise _NotYet(told)
    raise BackendError(f"{answer.url.partition('?')[0]} answers {told}")
