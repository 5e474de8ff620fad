"""What annotators keep of masks in the real editor, measured with an API key and without."""

from __future__ import annotations

import base64
import shutil
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from backend.labelstudio.events import Event
from backend.learning.collected import Collected
from backend.showcase import serving
from demo import IMAGES
from tests.e2e.client import Client
from tests.e2e.conftest import Promptbrush
from tests.e2e.editor import Editor

pytestmark = pytest.mark.e2e


def test_masks_that_are_kept_and_deleted_in_the_editor_are_measured(
    client: Client,
    connected: Callable[..., int],
    editor: Editor,
    promptbrush: Promptbrush,
    tmp_path: Path,
) -> None:
    again = tmp_path / "again.jpg"
    shutil.copyfile(IMAGES / "01-table.jpg", again)
    project = connected([IMAGES / "01-table.jpg", again])
    kept, changed = (task["id"] for task in client.tasks(project))
    editor.open(project, kept)
    editor.regions(4)
    editor.submit()
    editor.open(project, changed)
    label = editor.regions(4)[0].label
    assert label
    editor.remove(label)
    editor.submit()

    told = promptbrush("versions", "measure", "--project", str(project))
    assert "7 of 8 masks untouched, IoU 0.88" in told.stdout, told.stdout + told.stderr

    # what the webhooks say, without a key
    elsewhere = tmp_path / "elsewhere"
    collected = Collected(elsewhere / "models")
    for task in client.tasks(project):
        for annotation in client.annotations(task["id"]):
            body = {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task}
            body["project"] = client.project(project)
            collected.take(asdict(Event.from_json(body)))
    changes = {"LABEL_STUDIO_API_KEY": "", "PROMPTBRUSH_DATA_DIR": str(elsewhere)}
    told = promptbrush("versions", "measure", "--project", str(project), **changes)
    assert "7 of 7 masks untouched" in told.stdout, told.stdout + told.stderr


def test_without_a_key_masks_that_are_deleted_in_the_editor_are_known(
    client: Client,
    known: dict[str, str],
    editor: Editor,
    promptbrush: Promptbrush,
    tmp_path: Path,
) -> None:
    keyless = {"LABEL_STUDIO_API_KEY": "", "PROMPTBRUSH_DATA_DIR": str(tmp_path / "data")}
    title = f"Without a key {uuid.uuid4().hex[:6]}"
    with serving({**known, **keyless}) as url:
        made = promptbrush("connect", "--create", title, "--backend", url)
        assert made.returncode == 0, made.stdout + made.stderr
        (project,) = [one["id"] for one in client.projects() if one["title"] == title]
        image = base64.b64encode((IMAGES / "01-table.jpg").read_bytes()).decode()
        (task,) = client.import_tasks(project, [{"image": f"data:image/jpeg;base64,{image}"}])
        editor.open(project, task)
        label = editor.regions(4)[0].label
        assert label
        editor.remove(label)
        editor.submit()
        end = time.monotonic() + 60
        while True:  # until the trainer has read the webhook
            told = promptbrush("versions", "measure", "--project", str(project), **keyless)
            if "masks" in told.stdout or time.monotonic() > end:
                break
    assert "3 of 4 masks untouched, IoU 0.75" in told.stdout, told.stdout + told.stderr
