"""`promptbrush connect` and `doctor` on a real Label Studio."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from backend.labelstudio.client import LabelStudio
from backend.labelstudio.wiring import Address
from demo import IMAGES
from tests.e2e.conftest import AUTH, Promptbrush
from tests.e2e.editor import Editor
from tests.e2e.label_studio import Server, running

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CONFIG = """
<View>
  <TextArea name="prompt" toName="image"/>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="RedCircle"/></BrushLabels>
</View>
"""

Connected = Callable[..., int]


def faults(output: str) -> dict[str, str]:
    """Doctor's lines that are not ok, but for the demo checkpoint's, by link."""
    lines = [re.split(r"\s{2,}", line.strip(), maxsplit=2) for line in output.splitlines()]
    return {link: told for grade, link, told in lines if grade != "ok" and link != "model"}


@pytest.fixture
def ours(backend: str) -> Address:
    """The running service, as `connect` names it by itself."""
    url = backend.replace("127.0.0.1", "localhost")
    return Address(url, *AUTH)


@pytest.mark.parametrize("kind", ["legacy", "personal"])
def test_a_project_is_wired_up_once_with_either_token(
    studio: Server, client: LabelStudio, promptbrush: Promptbrush, ours: Address, kind: str
) -> None:
    project = client.create_project(f"wired by {kind}", CONFIG)["id"]
    token = {"LABEL_STUDIO_API_KEY": studio.tokens[kind]}
    for _ in range(2):
        run = promptbrush("connect", "--project", str(project), **token)
        assert run.returncode == 0, run.stderr
        assert AUTH[1] not in run.stdout + run.stderr
    [backend] = client.ml_backends(project)
    [webhook] = client.webhooks(project)
    assert (backend["url"], backend["is_interactive"]) == (ours.url, True)
    assert (backend["auth_method"], backend["state"]) == ("BASIC_AUTH", "CO")
    assert (webhook["url"], webhook["headers"]) == (ours.webhook, ours.headers)
    version = client.project(project)["model_version"]
    assert version == backend["title"] == backend["model_version"]
    examined = promptbrush("doctor", "--project", str(project), **token)
    assert examined.returncode == 0, examined.stdout
    assert set(faults(examined.stdout)) == {"image"}  # there is no task yet
    assert f"a {kind} one" in examined.stdout


def test_the_commands_of_the_readme_lead_to_masks_in_the_editor(
    client: LabelStudio, promptbrush: Promptbrush, editor: Editor
) -> None:
    text = (ROOT / "README.md").read_text()
    shown = re.findall(r"^promptbrush (connect|doctor) (.*)$", text, re.MULTILINE)
    assert [command for command, _ in shown] == ["connect", "doctor"]
    connect, doctor = ([command, *shlex.split(rest)] for command, rest in shown)
    images = sorted(str(path) for path in ROOT.glob(connect.pop()))
    run = promptbrush(*connect, *images)
    assert run.returncode == 0, run.stderr
    (project,) = re.findall(r"/projects/(\d+)/data", run.stdout)
    examined = promptbrush(*doctor[:-1], project)
    assert examined.returncode == 0, examined.stdout
    assert faults(examined.stdout) == {}
    assert len(images) == len(list(client.tasks(int(project))))
    editor.open(int(project), next(client.tasks(int(project)))["id"])
    assert {region.label for region in editor.regions(4)} >= {"Red circle", "Green star"}


def test_events_arrive_with_credentials_and_are_refused_without(
    backend: str, client: LabelStudio, connected: Connected, promptbrush: Promptbrush
) -> None:
    project = connected([IMAGES / "04-square.png"])
    [webhook] = client.webhooks(project)
    # what Label Studio sends, sent by hand, so that the answer is seen
    event = {"action": "PROJECT_UPDATED", "project": {"id": project}}
    arrived = requests.post(f"{backend}/webhook", json=event, headers=webhook["headers"], timeout=9)
    assert arrived.status_code == 201
    client.update_webhook(webhook["id"], headers={})
    assert requests.post(f"{backend}/webhook", json=event, timeout=9).status_code == 401
    examined = promptbrush("doctor", "--project", str(project))
    assert examined.returncode == 1
    assert "401" in faults(examined.stdout)["webhook"]
    assert promptbrush("connect", "--project", str(project)).returncode == 0
    assert promptbrush("doctor", "--project", str(project)).returncode == 0


def test_what_was_done_by_hand_is_found_and_put_right(
    client: LabelStudio, promptbrush: Promptbrush, ours: Address
) -> None:
    project = client.create_project("by hand", CONFIG)["id"]
    fields = {"project": project, "title": "by hand", **ours.fields()}
    for url in (ours.url, ours.url.replace("localhost", "127.0.0.1")):
        client.create_ml_backend(**{**fields, "url": url})
    found = faults(promptbrush("doctor", "--project", str(project)).stdout)
    assert {"connection", "version", "webhook"} <= set(found)
    assert promptbrush("connect", "--project", str(project)).returncode == 0
    assert set(faults(promptbrush("doctor", "--project", str(project)).stdout)) == {"image"}
    assert len(client.ml_backends(project)) == len(client.webhooks(project)) == 1


def test_a_legacy_token_that_is_switched_off_is_told(
    studio: Server, promptbrush: Promptbrush
) -> None:
    legacy = {"LABEL_STUDIO_API_KEY": studio.tokens["legacy"]}
    with studio.without_legacy_tokens():
        refused = promptbrush("doctor", **legacy)
        personal = promptbrush("doctor")
    assert refused.returncode == 1
    assert "personal access token" in faults(refused.stdout)["token"]
    assert personal.returncode == 0, personal.stdout
    assert promptbrush("doctor", **legacy).returncode == 0


def test_wrong_credentials_are_told(client: LabelStudio, promptbrush: Promptbrush) -> None:
    project = str(client.create_project("wrong credentials", CONFIG)["id"])
    run = promptbrush("connect", "--project", project, BASIC_AUTH_PASS="wrong")
    assert run.returncode == 1
    assert "BASIC_AUTH_PASS" in run.stderr
    assert "authentication" in faults(promptbrush("doctor", BASIC_AUTH_PASS="wrong").stdout)


def test_a_label_studio_as_it_is_by_default_is_told_what_to_be_started_with(
    tmp_path: Path, promptbrush: Promptbrush
) -> None:
    with running(tmp_path / "label-studio", {}) as closed:
        client = LabelStudio(closed.url, closed.tokens["personal"])
        project = str(client.create_project("blocked", CONFIG)["id"])
        there = {
            "LABEL_STUDIO_URL": closed.url,
            "LABEL_STUDIO_API_KEY": closed.tokens["personal"],
        }
        run = promptbrush("connect", "--project", project, **there)
        assert run.returncode == 1
        assert "LABEL_STUDIO_ML_BLOCK_LOCAL_IP=false" in run.stderr
        assert "connection" in faults(promptbrush("doctor", "--project", project, **there).stdout)
    # one of the two variables is not enough: the connection is made, its webhook is refused
    with running(tmp_path / "half", {"LABEL_STUDIO_ML_BLOCK_LOCAL_IP": "false"}) as half:
        client = LabelStudio(half.url, half.tokens["personal"])
        project = str(client.create_project("half open", CONFIG)["id"])
        there = {"LABEL_STUDIO_URL": half.url, "LABEL_STUDIO_API_KEY": half.tokens["personal"]}
        run = promptbrush("connect", "--project", project, **there)
        assert run.returncode == 1
        assert "LABEL_STUDIO_SSRF_PROTECTION_ENABLED=false" in run.stderr
        assert "webhook" in faults(promptbrush("doctor", "--project", project, **there).stdout)
