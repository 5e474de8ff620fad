import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NoReturn

import pytest

from backend import cli
from backend.errors import CONFIG_FAULT, TooLittleData
from backend.inference.books import Books
from backend.inference.promptbook import Entry
from backend.learning.dataset import Account
from backend.learning.promotion import Verdict
from backend.learning.train import Trained
from backend.settings import Settings
from demo.scenes import Look, generate
from tests.backend.learning.history import make


def test_prompts_are_given_in_a_row_or_one_by_one() -> None:
    parse = cli._parser().parse_args
    in_a_row = parse(["predict", "a.png", "b.png", "--prompt", "a dog", "a cat"])
    one_by_one = parse(["predict", "a.png", "b.png", "--prompt", "a dog", "--prompt", "a cat"])
    assert in_a_row.prompt == one_by_one.prompt == ["a dog", "a cat"]
    assert in_a_row.images == [Path("a.png"), Path("b.png")]


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("predict a.png", "--prompt", ["dog", "cat"]),
        ("predict a.png", "--exemplar", ["b.png", "c.png"]),
        ("predict a.png", "--form", ["brush", "polygon"]),
        ("connect --create Title", "--labels", ["Car", "Bus"]),
        ("connect --create Title", "--images", ["b.png", "c.png"]),
    ],
)
def test_an_option_for_several_things_takes_them_one_by_one_too(
    command: str, option: str, values: list[str]
) -> None:
    one_by_one = [word for value in values for word in (option, value)]
    options = cli._parser().parse_args([*command.split(), *one_by_one])
    assert list(map(str, getattr(options, option[2:]))) == values


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Of a command, and of all that are under it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for under in action.choices.values():
                yield from parsers(under)


def test_help_tells_of_every_command_and_option_what_it_does() -> None:
    for parser in parsers(cli._parser()):
        assert parser.description, parser.prog
        for action in parser._actions:
            commands = isinstance(action, argparse._SubParsersAction)
            assert commands or action.help, f"{parser.prog}: {action.dest}"
            flags, usage = action.option_strings, parser.format_usage()
            assert not flags or any(flag in usage for flag in flags), f"{parser.prog}: {flags}"
        assert parser.format_help()


def test_without_a_command_those_that_there_are_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main([]) == cli.USAGE
    assert "make a Label Studio project use this backend" in capsys.readouterr().err


def test_images_that_a_prompt_took_for_texts_are_told_to_come_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "--prompt", "a red circle", "a.png"])
    assert "predict IMAGE [IMAGE ...] --prompt TEXT" in capsys.readouterr().err


def test_a_form_that_there_is_not_is_told_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["predict", "a.png", "--prompt", "x", "--form", "circle"])
    told = capsys.readouterr().err
    assert "'circle' (choose from" in told
    assert "polygon" in told


def test_errors_are_one_line_and_set_the_exit_status(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "ninety")
    assert cli.main(["up"]) == CONFIG_FAULT
    monkeypatch.delenv("PORT")
    assert cli.main(["predict", "a.png", "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("promptbrush: ") for line in lines)


@pytest.mark.parametrize(
    "command",
    [
        "train --project 0",
        "export --project -3",
        "versions list --project three",
        "prompts show --project 1.5",
        "doctor --project 0",
        f"train --project {2**63}",
        f"connect --project {10**300}",
        f"versions list --project {'9' * 5000}",
        f"train --project 3 --steps {'9' * 5000}",
        "train --project 3 --steps 0",
        "train --project 3 --steps -5",
        "train --project 3 --seed -1",
        "suggest --project 3 --most 0",
        "evaluate --scenes 0",
        "evaluate --seed -1",
    ],
)
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_done(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command.split())
    assert ended.value.code == 2
    assert "give a whole number from" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "-1", "nan", "half"])
@pytest.mark.parametrize("command", ["predict a.png --prompt dog", "evaluate"])
def test_a_threshold_that_is_no_probability_is_told_of_the_option(
    command: str, threshold: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--threshold", threshold])
    assert ended.value.code == 2
    assert "argument --threshold: expected a number" in capsys.readouterr().err


def test_asking_for_the_version_needs_no_torch() -> None:
    code = """
import sys
from backend.cli import main
try:
    main(["--version"])
except SystemExit:
    sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("waits", ["launcher", "pusher", "trainer", "web.server"])
def test_a_process_that_waits_holds_no_torch(waits: str) -> None:
    """It takes seconds to be loaded, and most of a process's memory."""
    code = f"import sys, backend.{waits}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_what_a_terminal_cannot_write_ends_no_command(tmp_path: Path) -> None:
    known = {**os.environ, "PYTHONIOENCODING": "latin-1", "PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    command = ["prompts", "set", "--project", "3", "--label", "狗", "--threshold", "0.3"]
    ended = subprocess.run(
        [sys.executable, "-m", "backend.cli", *command], env=known, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"\u72d7" in ended.stdout


@pytest.mark.parametrize("command", ["doctor", "versions list --project 1"])
def test_a_command_whose_reader_is_gone_ends_quietly(command: str, tmp_path: Path) -> None:
    # PORT: nothing answers there
    known = {**os.environ, "PORT": "1", "PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as unread:
        ended = subprocess.run(
            [sys.executable, "-m", "backend.cli", *command.split()],
            env=known,
            stdout=unread,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert (ended.returncode, ended.stderr) == (cli.UNREAD, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
def test_a_full_disk_is_told_in_words(tmp_path: Path) -> None:
    known = {**os.environ, "PROMPTBRUSH_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "backend.cli", "versions", "list", "--project", "1"]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, env=known, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"promptbrush: No space left on device.\n")


def with_closed(streams: str, command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A command that a shell runs without some of its streams."""
    known = {**os.environ, "PROMPTBRUSH_DATA_DIR": str(folder)}
    line = f"exec {sys.executable} -m backend.cli {command} {streams}"
    return subprocess.run(["sh", "-c", line], env=known, capture_output=True, check=False)


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_does_its_work_where_streams_are_closed(streams: str, tmp_path: Path) -> None:
    ended = with_closed(
        streams, "prompts set --project 1 --label Car --threshold 0.3 --text car", tmp_path
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert (tmp_path / "models" / "1" / "prompts").is_dir()


def test_what_is_piped_in_is_nothing_where_that_is_closed(tmp_path: Path) -> None:
    ended = with_closed("<&-", "prompts import --project 1 -", tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"promptbrush: what is piped in is not JSON")


def test_a_blank_data_folder_is_none_and_not_the_one_where_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of `--data-dir "$DIR"` where nothing has set that."""
    kept: list[Path] = []

    class Launcher:
        def __init__(self, settings: Settings, _: object) -> None:
            kept.append(settings.data_dir)

        def run(self, *_: object) -> int:
            return 0

    monkeypatch.setattr("backend.launcher.Launcher", Launcher)
    monkeypatch.setenv("PROMPTBRUSH_DATA_DIR", "")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    cli.main(["up", "--quiet", "--data-dir", ""])
    cli.main(["up", "--quiet", "--data-dir", str(tmp_path / "own")])
    assert kept == [tmp_path / "promptbrush", tmp_path / "own"]


def test_ctrl_c_while_a_command_loads_what_it_needs_is_no_error() -> None:
    code = """
import sys
class Interrupted:
    def find_spec(self, name, *_):
        if name == "backend.cli.versions":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
from backend.cli import main
sys.exit(main(["versions", "list", "--project", "1"]))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, b"")


def test_letters_that_a_terminal_lacks_are_told_by_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    terminal = TextIOWrapper(BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", terminal)
    assert (
        cli.main(["prompts", "set", "--project", "1", "--label", "汽车", "--text", "ein Käfer"])
        == 0
    )
    told = terminal.buffer.getvalue().decode("latin-1")
    assert "\\u6c7d\\u8f66" in told
    assert "ein Käfer" in told


def test_a_file_that_cannot_be_had_is_named_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = tmp_path / "1"
    in_the_way.write_text("a file where the project's folder should be")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    assert cli.main(["prompts", "set", "--project", "1", "--label", "Car", "--text", "a car"]) == 1
    told = capsys.readouterr().err
    assert str(in_the_way) in told
    assert "Errno" not in told


@pytest.mark.parametrize(
    "end", [None, TooLittleData("too little"), OSError("no space"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("measures", [True, False])
def test_prompts_that_were_measured_are_told_where_no_version_is_promoted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    end: BaseException | None,
    measures: bool,
) -> None:
    *_, version = make(tmp_path)

    class Rejected:
        def learn(self, *_: object) -> Trained:
            if measures:
                Books(tmp_path).put(3, "measured", Entry("Car").setting(threshold=0.3))
            if end is not None:
                raise end
            return Trained(version, Verdict(False, "it is no better"), tmp_path / "r", Account())

    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setattr("backend.cli.learning.learner", lambda *_: Rejected())
    cli.main(["train", "--project", "3"])
    told = capsys.readouterr().out
    assert ("`promptbrush connect --project 3` brings Label Studio to it" in told) is measures


def test_an_export_that_is_stopped_says_that_it_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("backend.learning.commands.export", stopped)
    assert cli.main(["export", "--project", "3", "--out", str(tmp_path)]) == 130
    assert f"{tmp_path} is not whole" in capsys.readouterr().out


def test_an_image_of_no_project_is_told_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generate(1, 160, include=[Look("circle", "red", "plain")], count=(2, 2)).image.save("one.png")
    assert cli.main(["suggest", "--image", "one.png", "--checkpoint", "demo"]) == 0
    assert "red circle" in capsys.readouterr().out
    for alone in ("--label Star --image one.png", "--label Star", "--from export --image one.png"):
        assert cli.main(["suggest", *alone.split(), "--checkpoint", "demo"]) != 0
        assert "--project ID" in capsys.readouterr().err
