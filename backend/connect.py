"""`promptbrush connect`: make a Label Studio project use this backend.

Everything may be run again: what is right stays, what is missing or wrong is put right.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from backend import sampling
from backend.errors import (
    BadRequest,
    BadSetting,
    LabelStudioError,
    LabelStudioRefused,
    LabelStudioUnavailable,
)
from backend.labelstudio.client import Json, LabelStudio
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.wiring import Address, Wiring, webhooks_to
from backend.settings import Settings

NAME = "promptbrush"  # of a connection until the version that it answers with is known

# Where a connection is removed: its webhook stays by itself, and goes on sending events.
BOTH_PLACES = " in Settings > Model, and its webhook in Settings > Webhooks"

# What Label Studio 1.23 refuses by default: backends on private addresses, twice over.
LABEL_STUDIO_NEEDS = (
    "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false",
    "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false",
)


def label_studio(settings: Settings) -> LabelStudio:
    """The Label Studio of the settings; BadSetting says what is missing."""
    missing = [
        name
        for name, value in (
            ("LABEL_STUDIO_URL (or --label-studio)", settings.label_studio_url),
            ("LABEL_STUDIO_API_KEY (or --api-key)", settings.label_studio_api_key),
        )
        if not value
    ]
    if settings.label_studio_url is None or settings.label_studio_api_key is None:
        raise BadSetting(
            f"Label Studio is unknown: set {' and '.join(missing)}. The key is an access token, "
            "from Account & Settings in Label Studio."
        )
    return LabelStudio(settings.label_studio_url, settings.label_studio_api_key)


def address(settings: Settings, url: str | None = None) -> Address:
    """Where Label Studio finds this backend: at `url`, else where this machine serves."""
    return Address(
        (url or settings.local_url).rstrip("/"),
        settings.basic_auth_user,
        settings.basic_auth_pass,
    )


def find_or_create(studio: LabelStudio, title: str, label_config: str) -> tuple[int, str]:
    """The project of this title, made if there is none, and what was done in words.

    Raises:
        BadRequest: the title is blank.
        BadLabelConfig: the labeling configuration has nothing to fill.
        LabelStudioError: several projects have the title.
    """
    title = title.strip()  # Label Studio does so, too
    if not title:
        raise BadRequest("A project needs a title: --create TITLE.")
    found = [project["id"] for project in studio.projects() if project["title"] == title]
    if len(found) > 1:
        raise LabelStudioError(
            f"{len(found)} projects are called {title!r}: name one with --project "
            f"{' or '.join(map(str, found))}"
        )
    if found:
        return found[0], f"Project {found[0]}, {title!r}, is there already and keeps its labels."
    parse_label_config(label_config)
    project: int = studio.create_project(title, label_config)["id"]
    return project, f"Project {project}, {title!r}, was made."


def upload(studio: LabelStudio, project: int, images: Sequence[Path]) -> str:
    """Add images to a project that has no tasks yet; says what was done.

    Raises:
        OSError: one of them cannot be read, and none was added.
        LabelStudioError: it does not take the first, and none was added; or it does not take some
            others, and all but these were; or it went away, and those before were.
    """
    if next(studio.tasks(project, include=("id",)), None):
        return "No image was added: the project has tasks already."
    for image in images:
        image.open("rb").close()  # once there are some, the others are not added any more
    refused: dict[str, list[str]] = {}
    for image in images:
        name = os.fsencode(image.name).decode(errors="replace")  # it may be in another encoding
        try:
            studio.upload(project, name, image.read_bytes())
        except LabelStudioRefused as refusal:
            if image is images[0]:  # likely it takes none of them
                raise LabelStudioError(f"No image was added. {name}: {refusal}") from None
            refused.setdefault(str(refusal), []).append(name)
        except LabelStudioUnavailable as error:
            if image is images[0]:
                raise
            raise LabelStudioError(
                f"Of {len(images)} images those before {name} were added: {error}. Add the "
                "others in Label Studio, or delete these there and run this again"
            ) from None
    if refused:
        told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in refused.items())
        raise LabelStudioError(f"Of {len(images)} images these were not added: {told}")
    return f"{len(images)} images were added." if len(images) != 1 else "One image was added."


def connect(
    studio: LabelStudio, project: int, address: Address, order: str | None = None
) -> list[str]:
    """Connect a project with the backend at an address; tells what it has now.

    The project's version, and the connection's title, become the version that predictions carry.
    Label Studio needs the first to sample by uncertainty, and the second to be the same to go on
    asking for predictions when a task is opened. In which order tasks are served, one of
    `sampling.SAMPLING`, stays as it is unless it is given.

    Raises:
        BadLabelConfig: the project's labeling configuration has nothing to fill.
        LabelStudioError: with what to do about it.
    """
    row = studio.project(project)
    config = parse_label_config(row["label_config"])
    wiring = Wiring.of(studio, project, address)
    try:
        backend = _connected(studio, project, address, wiring)
        _wire_webhook(studio, project, address)
    except LabelStudioRefused as refusal:
        _explain(refusal, address)
    version = pin(studio, project, backend, address)
    told = [f"Project {project} asks {address.url} for predictions, also interactively."]
    told.append(f"Its model version is {version}, and so is that of every prediction.")
    carried = "with credentials" if address.user is not None else "without credentials"
    told.append(f"Its webhook sends events, {carried}.")
    if order is not None:
        told.append(sampling.choose(studio, row, backend, address, order))
    elif sampling.reconsider(studio, row, backend, address):
        told.append(sampling.CHANGED)
    told += [
        f"Beside it is {other['url']}: Label Studio asks only the connection that is older for "
        f"pre-annotations. Remove the one that is not wanted{BOTH_PLACES}."
        for other in wiring.others
    ]
    told += [f"Of its labeling configuration: {problem}." for problem in config.problems]
    return told


def pin(studio: LabelStudio, project: int, backend: Json, address: Address) -> str:
    """Give the connection and the project the version that the backend answers with."""
    version = backend.get("model_version")
    if not version:
        raise LabelStudioError(
            "The backend has not loaded its model yet, so its version is unknown: run this again "
            "when it is ready (/health tells)."
        )
    if backend["title"] != version:
        fields = address.fields() | {"title": version}
        studio.update_ml_backend(backend["id"], project=project, **fields)
    if studio.project(project)["model_version"] != version:
        studio.update_project(project, model_version=version)
    return str(version)


def _connected(studio: LabelStudio, project: int, address: Address, wiring: Wiring) -> Json:
    """The one connection to this address, interactive."""
    fields = address.fields() | {"project": project, "is_interactive": True}
    if not wiring.ours:
        return studio.create_ml_backend(title=NAME, **fields)
    kept, *doubled = wiring.ours
    for backend in doubled:
        studio.delete_ml_backend(backend["id"])
    return studio.update_ml_backend(kept["id"], title=kept["title"], **fields)


def _wire_webhook(studio: LabelStudio, project: int, address: Address) -> None:
    """One webhook to this address, for all events, with the credentials."""
    wish = {
        "url": address.webhook,
        "headers": address.headers,
        "send_payload": True,
        "send_for_all_actions": True,
        "is_active": True,
    }
    webhooks = webhooks_to(address, studio.webhooks(project))
    for doubled in webhooks[1:]:
        studio.delete_webhook(doubled["id"])
    if not webhooks:
        studio.create_webhook(project=project, **wish)
    elif any(webhooks[0].get(name) != value for name, value in wish.items()):
        studio.update_webhook(webhooks[0]["id"], **wish)


def _explain(refusal: LabelStudioRefused, address: Address) -> NoReturn:
    """Say what a refusal means and what to do."""
    said = str(refusal)
    if "reserved network address" in said:
        remedy = (
            f"Label Studio refuses {address.url} because its address is private. Start Label "
            f"Studio with {' and '.join(LABEL_STUDIO_NEEDS)} in its environment, then run this "
            "again."
        )
    elif "authentication parameters" in said or "401 Client Error" in said:
        remedy = (
            f"The backend at {address.url} asks for a user and password, and got none or wrong "
            "ones: run this with the BASIC_AUTH_USER and BASIC_AUTH_PASS that it was started with."
        )
    elif "health check failed" in said:
        remedy = (
            f"Label Studio cannot reach {address.url}. Is promptbrush up there? If Label Studio "
            "runs in a container or on another machine, start promptbrush with --host 0.0.0.0 and "
            "give this command --backend with an address that Label Studio can reach."
        )
    elif "valid ML backend" in said:
        remedy = (
            f"What answers at {address.url} refuses the project: if it is promptbrush, its log "
            f"says why. {said}"
        )
    else:
        raise refusal
    raise LabelStudioRefused(remedy, refusal.answered) from None
