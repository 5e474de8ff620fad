"""One Label Studio, one browser and one promptbrush for all scenarios; `make e2e` runs them."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from playwright.sync_api import Browser, BrowserContext

from backend.labelstudio import brush
from backend.settings import environment
from backend.showcase import serving
from demo.scenes import Look, Scene, generate
from tests.e2e.browser import chromium
from tests.e2e.client import Client
from tests.e2e.editor import Box, Editor, Mask
from tests.e2e.label_studio import OPEN, OUT, Server, running

AUTH = ("label-studio", "s3cret: with a colon")
BASIC_AUTH = dict(zip(("BASIC_AUTH_USER", "BASIC_AUTH_PASS"), AUTH, strict=True))

Promptbrush = Callable[..., subprocess.CompletedProcess[str]]


@dataclass(frozen=True)
class Drawn:
    """An image file, and what is in it."""

    path: Path
    scene: Scene

    def truth(self, look: Look) -> Mask:
        """The pixels of everything that looks so."""
        masks = [one.mask for one in self.scene.objects if one.look == look]
        together: Mask = np.logical_or.reduce(masks)
        return together

    def box(self, look: Look) -> Box:
        """Around the first thing that looks so."""
        first = next(one.mask for one in self.scene.objects if one.look == look)
        rows, columns = np.nonzero(first)
        return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def wait_until(condition: Callable[[], bool], seconds: float, told: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.5)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Label Studio started as the README says."""
    OUT.mkdir(parents=True, exist_ok=True)
    with running(tmp_path_factory.mktemp("label-studio"), OPEN) as server:
        yield server


@pytest.fixture(scope="session", params=["personal"])
def known(studio: Server, request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of a promptbrush that knows Label Studio, by a token of a kind."""
    return {
        **BASIC_AUTH,
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.tokens[request.param],
    }


@pytest.fixture(scope="session")
def backend(known: dict[str, str]) -> Iterator[str]:
    """`promptbrush up` with the demo checkpoint, behind a password; gives its address.

    What is submitted changes nothing that is asked, so that tests do not meet.
    """
    with serving({**known, "PROMPTS_AFTER": "0"}) as url:
        yield url


@pytest.fixture(scope="session")
def client(studio: Server) -> Client:
    return Client(studio.url, studio.tokens["personal"], timeout=120)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def signed_in(browser: Browser, studio: Server) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1500, "height": 1100})
    page = context.new_page()
    Editor(page, studio.url, "sign-in").sign_in()
    page.close()
    yield context
    context.close()


@pytest.fixture
def editor(
    signed_in: BrowserContext, studio: Server, request: pytest.FixtureRequest
) -> Iterator[Editor]:
    """A page of the signed-in annotator; its screenshots carry the test's name."""
    page = signed_in.new_page()
    name = re.sub(r"\W+", "-", request.node.name).removeprefix("test_").strip("-")
    editor = Editor(page, studio.url, name)
    yield editor
    editor.shot("end")
    page.close()


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Drawn]:
    """Draws a scene of known truth into a file of its own."""

    def draw(name: str, seed: int, looks: Sequence[Look], **options: Any) -> Drawn:
        count = (len(looks), len(looks))
        scene = generate(seed, (640, 480), include=looks, count=count, **options)
        path = tmp_path / f"{name}.png"
        scene.image.save(path)
        return Drawn(path, scene)

    return draw


@pytest.fixture
def promptbrush(known: dict[str, str], backend: str, tmp_path: Path) -> Promptbrush:
    """Runs the command with the settings of the running service; keywords change them."""
    _, _, port = backend.rpartition(":")

    def run(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        settings = {**known, "PORT": port, "PROMPTBRUSH_DATA_DIR": str(tmp_path), **changes}
        return subprocess.run(
            [sys.executable, "-m", "backend.cli", *arguments],
            env=environment(settings),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run


@pytest.fixture
def connected(
    promptbrush: Promptbrush, client: Client, request: pytest.FixtureRequest
) -> Callable[..., int]:
    """Makes a project by the command, with images; gives its id."""

    def make(images: list[Path], *options: str, **changes: str) -> int:
        title = f"{request.node.name[5:40]} {uuid.uuid4().hex[:6]}"
        run = promptbrush(
            "connect", "--create", title, "--images", *map(str, images), *options, **changes
        )
        assert run.returncode == 0, run.stdout + run.stderr
        (project,) = [p["id"] for p in client.projects() if p["title"] == title]
        return int(project)

    return make


def pushed(backend: str, project: int) -> int:
    """How many answers were sent to Label Studio after the deadline."""
    told = requests.get(f"{backend}/jobs?project={project}", auth=AUTH, timeout=20).json()
    return sum(one["pushed"] for one in told["projects"])


def accept(studio: Server, task: int, label: str, mask: Mask) -> None:
    """Submit a mask for a label of the brush, over the API."""
    value = {"format": "rle", "rle": list(brush.encode(mask)), "brushlabels": [label]}
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
    names = {"id": "accepted", "from_name": "brush", "to_name": "image", "type": "brushlabels"}
    result = [{**names, **size, "image_rotation": 0, "value": value}]
    studio.ask("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
