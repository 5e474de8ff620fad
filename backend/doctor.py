"""`promptbrush doctor`: the whole chain from here to the masks in the editor, link by link.

Each link gives one finding or several, in words; a problem comes with its remedy. What lies behind
a broken link is not looked at, since it would only be told to be broken too.
"""

from __future__ import annotations

from collections.abc import Iterator

import requests

from backend.connect import BOTH_PLACES, LABEL_STUDIO_NEEDS, label_studio
from backend.errors import BackendError, BadPromptBook, BadSetting, LabelStudioRefused
from backend.findings import Finding, Grade, ok, problem, warning
from backend.inference import booktext
from backend.inference.promptbook import PromptBook
from backend.labelstudio.api import as_given
from backend.labelstudio.client import Json, LabelStudio
from backend.labelstudio.config import LabelConfig, parse_label_config
from backend.labelstudio.images import ImageStore
from backend.labelstudio.tasks import Task, image_keys, image_url
from backend.labelstudio.wiring import Address, Wiring
from backend.prompting import queries
from backend.sampling import LATER, waits
from backend.settings import DEMOS, PUBLISHED, Settings

CONNECT = "run promptbrush connect again"
PATIENCE = 5  # seconds for the backend to answer


class Doctor:
    """Looks at everything between Label Studio and the model, as seen from here."""

    def __init__(self, settings: Settings, address: Address, images: ImageStore) -> None:
        self._settings = settings
        self._address = address
        self._images = images

    def examine(self, project: int | None) -> Iterator[Finding]:
        """The findings, as they come: settings, this backend, Label Studio, then the project."""
        yield self._of_settings()
        yield from self._of_backend()
        try:
            studio = label_studio(self._settings)
        except BadSetting as error:
            yield problem("Label Studio", str(error))
            return
        reached = False
        for finding in self._of_label_studio(studio):
            yield finding
            reached = finding.grade is not Grade.PROBLEM
        if reached and project is None:
            yield from self._of_no_project(studio)
        elif reached and project is not None:
            yield from self._of_project(studio, project)

    def _of_settings(self) -> Finding:
        settings = self._settings
        told = f"data in {settings.data_dir}, checkpoint {settings.checkpoint}, authentication "
        if settings.basic_auth_user is not None:
            return ok("settings", told + f"on (user {settings.basic_auth_user})")
        if settings.host not in {"127.0.0.1", "localhost", "::1"}:
            return warning(
                "settings",
                told + f"off although HOST={settings.host} lets other machines in: set "
                "BASIC_AUTH_USER and BASIC_AUTH_PASS",
            )
        return ok("settings", told + "off")

    def _of_backend(self) -> Iterator[Finding]:
        """Web process, broker, workers and model, by what /health says."""
        url = self._address.url
        try:
            health = requests.get(f"{url}/health", auth=as_given, timeout=PATIENCE).json()
            if health["model_class"] != "promptbrush":
                raise ValueError
        except requests.ConnectionError:
            yield problem("backend", f"nothing answers at {url}: start it with promptbrush up")
            return
        except requests.Timeout:
            yield problem(
                "backend",
                f"what listens at {url} does not answer within {PATIENCE} s: its broker may hang, "
                "or it is suspended",
            )
            return
        except (requests.RequestException, ValueError, KeyError, TypeError):
            yield problem(
                "backend",
                f"what answers at {url} is not promptbrush: choose another port for it with "
                "promptbrush up --port, and name it here with --backend",
            )
            return
        yield ok("backend", f"promptbrush {health['version']} answers at {url}")
        yield self._of_credentials()
        if health["broker"] != "UP":
            yield problem("broker", "it does not answer: see the log of promptbrush up")
            return
        yield from [problem("broker", told) for told in health["warnings"]] or [
            ok("broker", "it answers")
        ]
        if not health["ready"]:
            yield problem(
                "worker",
                "none is ready: the model is still loading, or the log says why it cannot be",
            )
            return
        yield ok("worker", f"{health['workers']} ready, on {health['device']}")
        if health["checkpoint"] in DEMOS:
            yield warning(
                "model",
                f"{health['model']}, the demo checkpoint, which knows drawn shapes only: for "
                f"photographs start promptbrush with PROMPTBRUSH_CHECKPOINT={PUBLISHED}",
            )
        else:
            yield ok("model", f"{health['model']} from {health['checkpoint']}")

    def _of_credentials(self) -> Finding:
        """Whether the backend takes the user and password that are set here."""
        url, headers = f"{self._address.url}/versions", self._address.headers
        try:
            answer = requests.get(url, headers=headers, auth=as_given, timeout=PATIENCE)
        except requests.RequestException:
            return problem(
                "authentication",
                f"not looked at: {url} does not answer within {PATIENCE} s, though /health does",
            )
        if answer.status_code == 401:
            return problem(
                "authentication",
                "the backend was started with another BASIC_AUTH_USER or BASIC_AUTH_PASS than is "
                "set here: use the same",
            )
        on = self._address.user is not None
        return ok("authentication", "the credentials are right" if on else "none is asked for")

    def _of_label_studio(self, studio: LabelStudio) -> Iterator[Finding]:
        try:
            release = studio.version()
        except BackendError as error:
            yield problem("Label Studio", str(error))
            return
        yield ok("Label Studio", f"{release} at {studio.url}")
        try:
            user = studio.user()
        except BackendError as error:
            yield problem("token", f"LABEL_STUDIO_API_KEY, a {studio.token_kind} token: {error}")
            return
        refreshed = ", and buys access" if studio.token_kind == "personal" else ""
        yield ok("token", f"a {studio.token_kind} one of {user['email']}{refreshed}")

    def _of_no_project(self, studio: LabelStudio) -> Iterator[Finding]:
        found = [f"{one['id']} {one['title']!r}" for one in studio.projects()]
        listed = ", ".join(found[:10]) or "none yet: promptbrush connect --create TITLE makes one"
        yield warning("project", f"not looked at: give --project ID. There are {listed}")

    def _of_project(self, studio: LabelStudio, number: int) -> Iterator[Finding]:
        try:
            project = studio.project(number)
            wiring = Wiring.of(studio, number, self._address)
            yield ok("project", f"{number} {project['title']!r}")
            yield from self._of_connection(project, wiring)
            yield from self._of_webhook(studio, wiring)
            config = parse_label_config(project["label_config"])
            yield from self._of_labels(config, self._book(number))
            yield from self._of_images(studio, number, config)
        except BackendError as error:
            yield problem("project", str(error))

    def _of_connection(self, project: Json, wiring: Wiring) -> Iterator[Finding]:
        link = "connection"
        if not wiring.ours:
            others = ", ".join(other["url"] for other in wiring.others)
            told = f"the project has none to {self._address.url}"
            yield problem(
                link,
                f"{told} but to {others}: run promptbrush connect, or name the right address with "
                "--backend"
                if others
                else f"{told}: run promptbrush connect --project {project['id']}",
            )
            return
        ours = wiring.ours[0]
        if ours["state"] != "CO":
            told = f"Label Studio says {ours['readable_state']}: {ours['error_message'] or ''}"
            yield problem(
                link,
                f"{told.rstrip(': ')}: {CONNECT}, which gives it the address and the credentials "
                f"that are set here. It has to reach {ours['url']} itself, and to be started with "
                f"{' and '.join(LABEL_STUDIO_NEEDS)} if that is a private address",
            )
        elif not ours["is_interactive"]:
            yield problem(link, f"it is not interactive, so prompts are not sent: {CONNECT}")
        elif len(wiring.ours) > 1:
            yield problem(link, f"there are {len(wiring.ours)} to the same backend: {CONNECT}")
        elif wiring.first != ours:
            yield problem(
                link,
                f"{wiring.others[0]['url']} was connected earlier, and only the first is asked "
                f"for pre-annotations: remove it{BOTH_PLACES}",
            )
        else:
            yield ok(link, f"connected and interactive, at {ours['url']}")
        yield self._of_version(project, ours)

    def _of_version(self, project: Json, ours: Json) -> Finding:
        link, version = "version", ours["model_version"]
        if not project["show_collab_predictions"]:
            return problem(
                link,
                "predictions are not shown: in Settings > Annotation switch on 'Use predictions "
                f"to prelabel tasks', then {CONNECT}",
            )
        if not version:
            return problem(link, f"none yet: wait until the backend is ready, then {CONNECT}")
        if {project["model_version"], ours["title"]} != {version}:
            return warning(
                link,
                f"the backend answers with {version}, the project shows "
                f"{project['model_version'] or 'none'}: {CONNECT}, so that sampling by "
                "uncertainty and opened tasks use the new one",
            )
        served = f"{version}; tasks are served by {project['sampling'].lower()}"
        if waits(ours):
            served += f", and {LATER}"
        return ok(link, served)

    def _of_webhook(self, studio: LabelStudio, wiring: Wiring) -> Iterator[Finding]:
        link = "webhook"
        if not wiring.webhooks:
            yield problem(link, f"there is none, so no event arrives: {CONNECT}")
            return
        webhook = wiring.webhooks[0]
        if not self._address.admits(webhook):
            yield problem(
                link,
                "it lacks the right Authorization header, so the backend refuses its events with "
                f"401 (Label Studio adds none itself): {CONNECT}",
            )
        elif not webhook["is_active"] or not webhook["send_for_all_actions"]:
            yield problem(link, f"it is switched off, or for some events only: {CONNECT}")
        elif not webhook["send_payload"]:
            yield problem(link, f"it sends events without what happened in them: {CONNECT}")
        elif len(wiring.webhooks) > 1:
            yield problem(link, f"every event is sent {len(wiring.webhooks)} times: {CONNECT}")
        elif blocked := self._blocked(studio, webhook):
            yield problem(link, blocked)
        else:
            yield ok(link, f"one, to {webhook['url']}, {self._carried()}")

    def _carried(self) -> str:
        return "with credentials" if self._address.headers else "no credentials needed"

    def _blocked(self, studio: LabelStudio, webhook: Json) -> str | None:
        """Why Label Studio would drop events; it tells when the URL is set, even to what it is."""
        try:
            studio.update_webhook(webhook["id"], url=webhook["url"])
        except LabelStudioRefused as refusal:
            return (
                f"Label Studio does not send it, as its address is private: start Label Studio "
                f"with {' and '.join(LABEL_STUDIO_NEEDS)}"
                if "reserved network address" in str(refusal)
                else str(refusal)
            )
        return None

    def _book(self, project: int) -> PromptBook:
        """What the backend asks the project's labels with; nothing where it does not say."""
        url = f"{self._address.url}/prompts?project={project}"
        try:
            headers = self._address.headers
            told = requests.get(url, headers=headers, auth=as_given, timeout=PATIENCE).json()
            return booktext.read({name: told[name] for name in ("project", "note", "labels")})
        except (requests.RequestException, BadPromptBook, ValueError, KeyError, TypeError):
            return PromptBook()

    def _of_labels(self, config: LabelConfig, book: PromptBook) -> Iterator[Finding]:
        tags = ", ".join(f"{control.name} ({control.kind})" for control in config.outputs)
        yield ok("labeling config", f"fills {tags}")
        several = len({control.image_key for control in config.outputs}) > 1
        for query in queries(config, self._settings.threshold, book):
            where = f" in {query.image_key}" if several else ""
            asked = ", ".join(f'"{prompt}"' for prompt in query.prompts)
            asked += "".join(f', not "{text}"' for text in query.negatives)
            entry = book.entry(query.label)
            shown = sum(one.used for one in entry.exemplars) if entry.asked_weights else 0
            beside = f" with exemplars ({shown})" if shown else ""
            yield ok("label", f"{query.label}{where}: {asked}{beside}, from {query.threshold:g}")
        for told in config.problems:
            yield warning("labeling config", told)
        if not any(text.smart for text in config.texts):
            yield warning(
                "labeling config",
                'nothing to type prompts into: add <TextArea name="prompt" toName="'
                f'{config.outputs[0].to_name}" rows="1" maxSubmissions="1" editable="true"/>',
            )

    def _of_images(
        self, studio: LabelStudio, project: int, config: LabelConfig
    ) -> Iterator[Finding]:
        """Every image that the first task has, as predictions need them all."""
        raw = next(studio.tasks(project), None)
        if raw is None:
            yield warning("image", "the project has no task to look at")
            return
        try:
            task = Task.from_json(raw)
            for key in image_keys(task, (control.image_key for control in config.outputs)):
                image = self._images.fetch(image_url(task, key)).image
                yield ok("image", f"of task {raw['id']}: {image.width} x {image.height} pixels")
        except BackendError as error:
            yield problem("image", f"of task {raw['id']}: {error}")
