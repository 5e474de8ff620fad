"""promptbrush under a label-studio-ml server, of either version: forwards to the service.

    from label_studio_ml.api import init_app
    from backend.adapter import Promptbrush

    app = init_app(model_class=Promptbrush)

label-studio-ml makes a model object per request (2.x) or per `/setup` (1.x), so this one holds no
model: it sends what it is asked to a running `promptbrush up` (PROMPTBRUSH_URL). Going there over
HTTP, not straight to the broker, keeps deadlines, priorities and the journal in one place, and
needs nothing but requests in the server's environment, whatever else is pinned there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from flask import has_request_context, request
from label_studio_ml.model import LabelStudioMLBase

from backend.errors import Reported
from backend.settings import Settings, reach_itself

log = logging.getLogger(__name__)

# 2.x answers `/setup` with the version that a model sets; 1.x with a name of its own making.
SETS_VERSION = hasattr(LabelStudioMLBase, "set")
SPARE = 5.0  # seconds that an answer may take beyond the service's own deadline

Json = dict[str, Any]


class Promptbrush(LabelStudioMLBase):  # type: ignore[misc]
    """A model whose predictions are the service's."""

    # as Label Studio really names them; 1.x goes by this list, 2.x's server by one of its own
    TRAIN_EVENTS = (
        "ANNOTATION_CREATED",
        "ANNOTATION_UPDATED",
        "ANNOTATIONS_CREATED",
        "ANNOTATIONS_DELETED",
        "PROJECT_UPDATED",
        "START_TRAINING",
    )

    def setup(self) -> None:
        """Take the service's version for this labeling configuration; called by 2.x alone."""
        if self.label_config:
            version = _ask(
                "setup",
                {"schema": self.label_config, "project": getattr(self, "project_id", None)},
            )["model_version"]
            if version is not None:  # None while the service loads its model
                self.set("model_version", version)

    def predict(self, tasks: Sequence[Json], context: Json | None = None, **_: object) -> list[Any]:
        """One entry per task, as Label Studio takes them.

        Under 1.x they carry no version: Label Studio then notes the one that 1.x named at
        `/setup`, and would ask for each prediction again if it were another.

        Raises:
            Reported: the service does not answer, or refuses.
        """
        sent = request.get_json(silent=True) if has_request_context() else None
        body = {
            # 1.x hands over neither, and holds the configuration of the latest `/setup`, whichever
            # project's it was
            "project": getattr(self, "project_id", None),
            "label_config": self.label_config,
            **{key: sent[key] for key in ("project", "label_config") if sent and key in sent},
            "tasks": tasks,
            "params": {"context": context or None},
        }
        results: list[Any] = _ask("predict", body)["results"]
        return results if SETS_VERSION else [_without_version(entry) for entry in results]

    def fit(
        self, *given: Any, event: str | None = None, data: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Pass an event on; 2.x gives it by position, 1.x by name and after its tasks.

        Nothing is returned: 1.x would take it for a new version.
        """
        if event is None and given and isinstance(given[0], str):
            event, data = given[0], given[1]
        if event is not None:
            _ask("webhook", {**(data or {}), "action": event})


def _without_version(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {key: value for key, value in entry.items() if key != "model_version"}
    return entry


def _ask(path: str, body: Json) -> Any:
    """What the service answers; Reported tells what it could not do."""
    reach_itself()
    settings = Settings.from_environment()
    user, password = settings.basic_auth_user, settings.basic_auth_pass
    try:
        answer = requests.post(
            f"{settings.service_url}/{path}",
            json=body,
            auth=(user, password) if user is not None and password is not None else None,
            timeout=settings.predict_deadline + SPARE,
        )
        said = answer.json()
    except (requests.RequestException, ValueError) as error:
        log.error("%s/%s: %s", settings.service_url, path, error)
        raise Reported(
            "ServiceUnavailable",
            f"promptbrush does not answer at {settings.service_url} (PROMPTBRUSH_URL): start it "
            "with `promptbrush up`.",
        ) from None
    if not answer.ok:
        raise Reported(str(said.get("error")), f"promptbrush: {said.get('detail')}")
    return said
