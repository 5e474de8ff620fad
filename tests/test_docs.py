"""README.md and docs/ tell the truth: commands run, files, targets and sections exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))}
ALL = "\n".join(PAGES.values())
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", ALL, flags=re.DOTALL)
LINKS = [
    (page, *link.partition("#")[::2])
    for page, text in PAGES.items()
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text)
]


def blocks(language: str) -> list[str]:
    return [text for tagged, text in BLOCKS if tagged == language]


def commands(start: str) -> list[str]:
    lines = [
        line.partition("#")[0].strip() for text in blocks("bash") for line in text.splitlines()
    ]
    return [line for line in lines if line.startswith(start)]


def test_every_command_shown_is_checked_here() -> None:
    shown = [line for text in blocks("bash") for line in text.splitlines() if line.strip()]
    # tests/e2e/test_connect.py, tests/live/test_prelabel.py, tests/backend/learning,
    # tests/backend/test_versions_command.py, tests/backend/test_prompts_command.py
    names = ("connect", "doctor", "prelabel", "export", "train", "versions", "prompts", "suggest")
    elsewhere = {f"promptbrush {name}" for name in names}
    checked = {"make", "promptbrush predict", *elsewhere}
    assert len(shown) == sum(len(commands(start)) for start in checked)
    assert commands("make") == ["make demo", "make test", "make up"]


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)`", ALL)) <= targets


@pytest.mark.parametrize("command", commands("promptbrush predict"))
def test_the_command_without_servers_does_what_it_says(command: str, tmp_path: Path) -> None:
    arguments = [
        str(path)
        for word in re.findall(r'"[^"]*"|\S+', command)[1:]
        for path in (sorted(ROOT.glob(word)) if "*" in word else [word.strip('"')])
    ]
    environment = {**os.environ, "PROMPTBRUSH_DATA_DIR": str(tmp_path / "data")}
    run = subprocess.run(
        [sys.executable, "-m", "backend.cli", *arguments],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out/predict/predictions.json").is_file()
    assert list((tmp_path / "out/predict/masks").glob("*--a-red-circle.png"))


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_shown_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(compile(code, "as shown", "exec"), names)
    masks = names["masks"]
    assert getattr(masks, "shape", (0,))[0] == 2


@pytest.mark.parametrize("xml", blocks("xml"))
def test_the_labeling_configuration_shown_is_usable(xml: str) -> None:
    from backend.labelstudio.config import parse_label_config

    config = parse_label_config(xml)
    assert config.problems == ()
    assert config.outputs[0].labels[0].value == "Car"
    assert {text.name for text in config.texts} >= {"prompt"}


def test_links_lead_to_files_and_headings() -> None:
    assert LINKS
    for page, file, anchor in LINKS:
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name}: {file}"
        if anchor:
            assert anchor in _anchors(PAGES[target]), f"{page.name}: {file}#{anchor}"


def test_every_page_is_reached_from_the_front_door() -> None:
    linked = {ROOT / file for page, file, _ in LINKS if page.name == "README.md"}
    assert set(PAGES) - {ROOT / "README.md"} <= linked


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
