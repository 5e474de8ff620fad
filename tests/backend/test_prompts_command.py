import io
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from backend.cli import main
from backend.inference.books import Books
from backend.inference.promptbook import Entry, Origin, Phrase, Probed, Proof, Shown
from backend.labelstudio.events import Event, Kind
from backend.labelstudio.starter import label_config
from backend.learning import export
from backend.learning.collected import Collected
from backend.learning.dataset import Account
from tests.backend.fake_label_studio import TOKEN, FakeLabelStudio
from tests.backend.learning.widgets import XML, sample

MEASURED = Entry(
    "Widget",
    texts=(
        Phrase("a cog", Origin.TYPED, 0.5, 4, predicted=12, accepted=0.75, times=2),
        Phrase("widget", Origin.CONFIG),
    ),
    exemplars=(
        Shown("aa", 3, 0.4, 0.1, 5),
        Shown("bb", 4, 0.1, -0.2, 5, used=False, reason="it lowers the IoU"),
    ),
    weight=0.75,
    threshold=0.2,
    proof=Proof(0.61, 0.23, 7, "held-out"),
    weights=((0.0, 0.23), (1.0, 0.6)),
    confidence=0.62,
    thresholds=((0.2, 0.61), (0.4, 0.5)),
    confidences=((0.2, 0.61), (0.62, 0.64)),
    probe=Probed("dd", 0.35, 0.042, 14, 9, ((0.35, 0.66),)),
    masks=12,
)

Run = Callable[..., str]


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    return Books(tmp_path)


@pytest.fixture
def run(books: Books, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(deed: str, *rest: str, status: int = 0) -> str:
        assert main(["prompts", deed, "--project", "7", *rest]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return command


def test_a_project_without_a_book_is_told_so(run: Run) -> None:
    assert "has no prompt book" in run("show")
    assert "has no prompt book" in run("list")
    assert "no prompt book to roll back" in run("rollback", status=1)


def test_where_nothing_was_written_no_version_counts(
    run: Run, books: Books, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text(json.dumps(books.exported(3)))
    for told in (run("import", str(empty)), run("set", "--label", "Widget", "--reset", "all")):
        assert told.startswith("Project 7 has no prompt book: the labeling config counts.")
        assert "Version 0" not in told


def test_a_label_is_shown_with_its_proof_and_what_was_left_out(run: Run, books: Books) -> None:
    books.change(7, "measured", lambda book: book.having(MEASURED), base="b" * 64)
    overview = run("show")
    for told in ("a cog, widget", "1 of 2", "0.75", "0.20", "0.62", "0.610", "0.230", "7 held-out"):
        assert told in overview
    label = run("show", "--label", "Widget")
    for told in (
        "typed by an annotator",
        "0.75 of 12",
        "exemplar of task 4",
        "no: it lowers the IoU",
        "-0.200",
        "below 0.35. It learned from 14 right and 9 wrong ones, and gains 0.042",
    ):
        assert told in label
    for name in ("weight", "threshold", "confidence"):
        assert f"IoU by {name}, on 12 masks" in label
    assert "says nothing of" in run("show", "--label", "Nut", status=1)


def test_many_texts_leave_figures_beside_each_other(run: Run) -> None:
    texts = [f"a thing with {number} wheels" for number in range(30)]
    told = run("set", "--label", "Widget", *(part for text in texts for part in ("--text", text)))
    overview, phrases = told.split("\n\n")[1:]
    assert max(map(len, overview.splitlines())) < 160  # two lines of a terminal
    assert all(text in phrases for text in texts)


def test_a_terminal_is_not_written_beyond_and_a_pipe_gets_lines_whole(
    run: Run, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.put(7, "measured", MEASURED)
    monkeypatch.setenv("COLUMNS", "80")
    piped = run("show", "--label", "Widget")
    assert max(map(len, piped.splitlines())) > 80
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = run("show", "--label", "Widget")
    assert all(len(line) <= 80 for line in shown.splitlines() if not line.startswith("A probe"))
    assert set(piped.split()) == set(shown.split())


def test_what_is_set_is_kept_as_a_version_and_can_be_taken_back(run: Run, books: Books) -> None:
    books.put(7, "measured", MEASURED)
    run("set", "--label", "Widget", "--text", "a gear", "--text", "gears", "--threshold", "0.3")
    entry = books.book(7).entry("Widget")
    assert [(one.text, one.origin) for one in entry.texts] == [
        ("a gear", Origin.HAND),
        ("gears", Origin.HAND),
    ]
    assert (entry.threshold, entry.by_hand) == (0.3, frozenset({"texts", "threshold"}))
    assert 'texts, threshold of "Widget" set by hand' in run("list")
    run("rollback")
    assert books.book(7).entry("Widget") == MEASURED
    run("rollback", "--to", "2")
    told = run("set", "--label", "Widget", "--reset", "threshold")
    assert "says nothing until it is measured again" in told
    assert "`promptbrush prompts measure --project 7`" in told
    entry = books.book(7).entry("Widget")
    assert (entry.threshold, entry.by_hand) == (None, frozenset({"texts"}))
    run("set", "--label", "Widget", "--confidence", "0.6")
    entry = books.book(7).entry("Widget")
    assert (entry.confidence, entry.by_hand) == (0.6, frozenset({"texts", "confidence"}))
    run("set", "--label", "Widget", "--reset", "confidence", "--no-probe")
    entry = books.book(7).entry("Widget")
    assert (entry.probe, entry.by_hand) == (None, frozenset({"texts", "probe"}))
    listed = run("list")
    assert 'threshold of "Widget" given back' in listed
    assert 'probe of "Widget" set by hand; confidence of "Widget" given back' in listed
    run("set", "--label", "Widget", "--without", "aa", "--not", "a shadow", "--weight", "1")
    entry = books.book(7).entry("Widget")
    assert [(one.used, one.refused) for one in entry.exemplars] == [(False, True), (False, False)]
    assert "no: left out by hand" in run("show", "--label", "Widget")
    assert (entry.weight, entry.negatives[0].text) == (1.0, "a shadow")


def test_a_text_that_is_given_twice_counts_once(run: Run, books: Books) -> None:
    texts = ("a gear", " a gear ", "A  Gear", "gears")
    run("set", "--label", "Widget", *(part for text in texts for part in ("--text", text)))
    assert [one.text for one in books.book(7).entry("Widget").texts] == ["a gear", "gears"]


@pytest.mark.parametrize("text", ["not the shadow", "a car, not the shadow"])
def test_what_a_label_is_not_is_said_without_a_not(run: Run, books: Books, text: str) -> None:
    told = run("set", "--label", "Widget", "--not", text, status=1)
    assert f'--not "{text}" has a "not" in it' in told
    assert '--not "the shadow"' in told
    assert books.history(7) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_an_export_that_cannot_be_written_is_told_with_its_name(run: Run, tmp_path: Path) -> None:
    for out in ("/dev/full", str(tmp_path), str(tmp_path / "no" / "book.json")):
        assert f"{out} cannot be written: " in run("export", "--out", out, status=1)


@pytest.mark.parametrize("option", ["--text", "--not"])
def test_a_text_that_the_model_does_not_read_is_refused(
    run: Run, books: Books, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    told = run("set", "--label", "Widget", option, "a cog", option, "w " * 80, status=1)
    assert "has 80 tokens; the model reads at most 75: shorten it" in told
    assert books.history(7) == []
    run("set", "--label", "Widget", option, "w " * 70)
    run("set", "--label", "Widget", "--text", f"{'w ' * 60}, not {'v ' * 60}")  # asked one by one
    monkeypatch.setenv("PROMPTBRUSH_CHECKPOINT", "promptbrush-test/elsewhere")
    run("set", "--label", "Widget", option, "w " * 80)  # where the model is not, nobody knows


def test_an_import_tells_which_checkpoint_its_figures_count_with(
    run: Run, books: Books, tmp_path: Path
) -> None:
    books.change(3, "measured", lambda book: book.having(MEASURED), base="b" * 64)
    books.keep(3, "aa", np.ones(4, np.float32))
    books.keep(3, "dd", np.ones(4, np.float32))
    file = tmp_path / "book.json"
    file.write_text(json.dumps(books.exported(3)))
    told = run("import", str(file))
    assert "Figures were measured with checkpoint bbbbbbbb" in told
    assert "count with that checkpoint alone" in told
    assert "count, for each label, until one of its masks is accepted" in told
    assert "or now with `promptbrush prompts measure --project 7`" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to set"),
        (["--threshold", "1.5"], "--threshold 1.5 cannot be used"),
        (["--confidence", "0"], "--confidence 0.0 cannot be used"),
        (["--weight", "nan"], "--weight nan cannot be used"),
        (["--text", " "], "1 to 500 characters"),
        (["--without", "zz"], "has no exemplar zz"),
    ],
)
def test_what_cannot_be_set_is_told_and_changes_nothing(
    run: Run, books: Books, options: list[str], told: str
) -> None:
    assert told in run("set", "--label", "Widget", *options, status=1)
    assert books.book(7).number == 0


def test_a_project_that_label_studio_lacks_is_told(
    run: Run, studio: FakeLabelStudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    assert "There is no project 7" in run("set", "--label", "Car", "--text", "a car")


def test_a_label_that_the_project_lacks_is_told(run: Run, books: Books, tmp_path: Path) -> None:
    assert "counts for nothing" not in run("set", "--label", "Wigdet", "--text", "a cog")
    told = Event(Kind.ANNOTATED, "X", 7, label_config=label_config(["Widget", "Nut"]))
    Collected(tmp_path).take(asdict(told))
    warned = run("set", "--label", "Wigdet", "--threshold", "0.3")
    assert '"Wigdet" counts for nothing: the labeling configuration has Nut, Widget.' in warned
    run("set", "--label", "Wigdet", "--reset", "all")
    assert "counts for nothing" not in run("set", "--label", "Widget", "--text", "a cog")
    assert "has to name a label" in run("set", "--label", " ", "--text", "a cog", status=1)


def test_what_is_best_is_measured_on_an_export(
    run: Run, books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "accepted"
    export.write(map(sample, (1, 2)), XML, 7, Account(), folder)
    told = run("measure", "--from", str(folder))
    assert "`promptbrush connect --project 7` brings Label Studio to it" in told
    assert "2 images" in told
    assert "Widget" in told
    book = books.book(7)
    assert book.note.by == "measured on 2 accepted images"
    assert book.entry("Widget").exemplars
    assert run("measure", "--from", str(folder / "none"), status=1)


def test_where_nothing_is_accepted_nothing_is_measured_and_that_is_told(
    run: Run, books: Books, tmp_path: Path
) -> None:
    export.write((), XML, 7, Account(), tmp_path / "empty")
    told = run("measure", "--from", str(tmp_path / "empty"))
    assert told.strip().startswith("Nothing is accepted yet")
    assert "Label Studio" not in told
    assert books.book(7).number == 0


def test_an_export_can_be_edited_and_imported(
    run: Run, books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aa", "dd"):
        books.keep(7, name, np.ones(4, np.float32))
    books.put(7, "measured", MEASURED)
    file = tmp_path / "book.json"
    run("export", "--out", str(file))
    assert json.loads(run("export", "--version", "1")) == json.loads(file.read_text())
    # as some editors save it, and some shells what is piped into a file
    exported = file.read_text()
    for encoding, weight in (("utf-8-sig", 0.5), ("utf-16", 0.25)):
        file.write_text(exported.replace(": 0.75", f": {weight}"), encoding=encoding)
        assert "counts from the next task on" in run("import", str(file))
        assert books.book(7).entry("Widget").weight == weight
    changed = exported.replace(": 0.5", ': "half"')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(changed.encode())))
    told = run("import", "-", status=1)
    assert "Widget\", texts, no. 1, iou: expected a number between 0 and 1, not 'half'" in told
    file.write_text("{")
    assert "book.json is not JSON" in run("import", str(file), status=1)
    file.write_text('{"project": 7, "labels": []}')
    assert "book.json is not imported: labels: expected" in run("import", str(file), status=1)
    assert f"{tmp_path} cannot be read" in run("import", str(tmp_path), status=1)
    assert books.book(7).number == 3
