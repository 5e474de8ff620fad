"""A pull of accepted work, killed for real."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.labelstudio.client import PAGE_OF_REGIONS
from backend.labelstudio.starter import label_config
from backend.settings import environment
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio, serving
from tests.live.conftest import data_uri, wait_until

pytestmark = pytest.mark.live


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with serving() as fake:
        yield fake


def test_an_export_that_was_killed_goes_on_where_it_was(
    studio: FakeLabelStudio, tmp_path: Path
) -> None:
    project = studio.add_project("Cars", label_config(["Car"]))
    for _ in range(2 * PAGE_OF_REGIONS + 5):
        studio.annotate(studio.add_task(project, image=data_uri()), [])
    last = max(studio.tasks)
    command = [sys.executable, "-m", "backend.cli", "export", "--project", str(project)]
    env = environment(
        {
            "LABEL_STUDIO_URL": studio.url,
            "LABEL_STUDIO_API_KEY": TOKEN,
            "PROMPTBRUSH_DATA_DIR": tmp_path / "data",
        }
    )
    going = threading.Event()
    studio.before_regions = lambda tasks: last not in tasks or going.wait(60)
    process = subprocess.Popen([*command, "--out", str(tmp_path / "killed")], env=env)
    wait_until(lambda: len(studio.regions_of) == 3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    going.set()
    studio.regions_of.clear()
    command += ["--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert f"{2 * PAGE_OF_REGIONS + 5} images" in done.stdout
    assert [len(page) for page in studio.regions_of] == [5]
