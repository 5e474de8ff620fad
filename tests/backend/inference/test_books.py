import json
import shutil
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from backend.errors import BadPromptBook, NoSuchVersion
from backend.inference.books import Books, exemplar_id, probe_id
from backend.inference.conditions import as_text
from backend.inference.promptbook import Entry, Note, Origin, Phrase, Probed, PromptBook, Shown
from backend.labelstudio.labels import Label
from backend.prompting import Query

WIDGET = Entry("Widget").setting(threshold=0.3)
GASKET = Entry("Gasket").setting(texts=(Phrase("a ring", Origin.HAND),))


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def file(tmp_path: Path, number: int) -> Path:
    return tmp_path / "7" / "prompts" / f"{number:06}.json"


def test_a_project_without_a_book_has_an_empty_one(books: Books) -> None:
    assert books.book(7) == PromptBook(7)
    assert books.serving(None, "base") == PromptBook()
    assert books.history(7) == []


def test_projects_without_a_book_take_no_memory_however_many_are_asked_for(books: Books) -> None:
    books.serving(1, "base")
    tracemalloc.start()
    for project in range(2, 302):
        assert books.serving(project, "base") == PromptBook(project)
    left, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left < 20_000


def test_every_change_is_a_new_version_and_none_is_lost(books: Books) -> None:
    books.put(7, "one", WIDGET)
    books.put(7, "two", GASKET)
    assert books.book(7).entries == {"Widget": WIDGET, "Gasket": GASKET}
    assert [(one.number, one.note.by) for one in books.history(7)] == [(1, "one"), (2, "two")]
    assert books.version(7, 1).entries == {"Widget": WIDGET}
    assert books.book(8) == PromptBook(8)


def test_a_book_that_says_nothing_is_not_begun(books: Books) -> None:
    assert books.change(7, "measured", lambda book: book, base="base") == PromptBook(7)
    assert books.history(7) == []


def test_what_changes_nothing_writes_nothing(books: Books) -> None:
    books.put(7, "one", WIDGET)
    assert books.put(7, "again", WIDGET).number == 1


def test_versions_differ_in_the_lines_that_changed(books: Books, tmp_path: Path) -> None:
    books.put(7, "one", WIDGET, GASKET)
    books.put(7, "one", Entry("Widget").setting(threshold=0.25))
    before, after = (file(tmp_path, n).read_text().splitlines() for n in (1, 2))
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b and '"at"' not in a]
    assert changed == [('      "threshold": 0.3', '      "threshold": 0.25')]


def test_another_process_sees_a_change_at_once(books: Books, tmp_path: Path) -> None:
    here = Books(tmp_path)
    assert here.book(7).number == 0
    books.put(7, "one", WIDGET)
    first = here.serving(7, "base")
    assert first.entries == {"Widget": WIDGET}
    assert here.serving(7, "base") is first
    books.put(7, "two", GASKET)
    assert set(here.serving(7, "base").entries) == {"Widget", "Gasket"}


def test_every_version_is_told_as_it_was_asked_from(books: Books) -> None:
    shown = Shown("aa", 3)
    books.keep(7, "aa", np.ones(4, np.float32))
    books.put(7, "one", Entry("Widget", exemplars=(shown,), weight=1.0))
    books.put(7, "two", GASKET)
    empty, first, second = books.ever_serving(7, "base")
    assert empty == PromptBook(7)
    assert (first.number, second.number) == (1, 2)
    assert list(first.conditions) == ["aa"]
    assert second == books.serving(7, "base")


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    def write(number: int) -> None:
        for step in range(5):
            label = f"{number} {step}"
            Books(tmp_path).put(7, label, replace(WIDGET, label=label))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book = Books(tmp_path).book(7)
    assert (len(book.entries), book.number) == (20, 20)


def test_going_back_is_a_version_too(books: Books) -> None:
    books.put(7, "one", WIDGET)
    books.put(7, "two", GASKET)
    back = books.rollback(7)
    assert (back.number, back.entries) == (3, {"Widget": WIDGET})
    assert books.rollback(7).entries == {"Widget": WIDGET, "Gasket": GASKET}  # undone
    assert books.rollback(7, 0).entries == {}
    assert books.rollback(7, 1).entries == {"Widget": WIDGET}
    told = [book.note.by for book in books.history(7)[2:]]
    assert told == [f"rolled back to version {number}" for number in (1, 2, 0, 1)]
    with pytest.raises(NoSuchVersion, match="no version 9"):
        books.rollback(7, 9)
    with pytest.raises(NoSuchVersion, match="no prompt book"):
        books.rollback(8)


@pytest.mark.parametrize("nonsense", ["", "{", "[]", '{"labels": 3}', "[" * 100_000, "\udcff"])
def test_a_book_edited_into_nonsense_is_told_and_the_one_before_it_counts(
    books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture, nonsense: str
) -> None:
    books.put(7, "one", WIDGET)
    books.put(7, "two", GASKET)
    file(tmp_path, 2).write_bytes(nonsense.encode(errors="surrogateescape"))
    assert books.serving(7, "base").entries == {"Widget": WIDGET}
    assert books.serving(7, "base").number == 1
    assert caplog.text.count("The version before it counts") == 1
    assert str(file(tmp_path, 2)) in caplog.text
    with pytest.raises(BadPromptBook):
        books.version(7, 2)
    after = books.put(7, "three", replace(GASKET, threshold=0.2))
    assert (after.number, set(after.entries)) == (3, {"Widget", "Gasket"})
    assert [one.number for one in books.history(7)] == [1, 3]
    assert file(tmp_path, 2).exists()  # for whoever edited it


def test_a_book_edited_by_hand_counts_at_once(books: Books, tmp_path: Path) -> None:
    books.put(7, "one", WIDGET)
    assert books.serving(7, "base").entry("Widget").threshold == 0.3
    edited = file(tmp_path, 1).read_text().replace("0.3", "0.35")
    file(tmp_path, 1).write_text(edited)
    assert books.serving(7, "base").entry("Widget").threshold == 0.35


def test_a_text_that_stands_twice_in_an_import_counts_once(books: Books) -> None:
    again = [{"text": text, "used": False} for text in (" a cog ", "A Cog", "a  cog")]
    texts = [{"text": "a cog"}, {"text": "cogs"}, *again]
    raw = {"project": 7, "labels": {"Widget": {"texts": texts, "negatives": texts[:1] * 2}}}
    entry = books.imported(7, raw, "imported").entry("Widget")
    assert [(one.text, one.used) for one in entry.texts] == [("a cog", True), ("cogs", True)]
    assert [one.text for one in entry.negatives] == ["a cog"]


def test_an_exemplar_that_stands_twice_in_an_import_counts_once(books: Books) -> None:
    shown = [{"id": "aa", "task": 3}, {"id": "bb", "task": 4}, {"id": "aa", "task": 5}]
    told = {name: as_text(np.ones(4, np.float32)) for name in ("aa", "bb")}
    raw = {"project": 7, "labels": {"Widget": {"exemplars": shown}}, "conditions": told}
    entry = books.imported(7, raw, "imported").entry("Widget")
    assert [(one.id, one.task) for one in entry.exemplars] == [("aa", 3), ("bb", 4)]


def test_a_phrase_that_is_written_into_a_book_is_set_by_hand(books: Books) -> None:
    said = {"texts": [{"text": "a gear"}], "negatives": [{"text": "a wheel"}]}
    entry = books.imported(7, {"project": 7, "labels": {"Widget": said}}, "edited").entry("Widget")
    assert entry.by_hand == {"texts", "negatives"}  # else the next measuring may drop them


def test_a_copy_of_another_projects_book_tells_whose_exemplars_it_shows(
    books: Books, tmp_path: Path
) -> None:
    books.keep(3, "aa", np.ones(4, np.float32))
    books.put(3, "one", Entry("Widget", exemplars=(Shown("aa", 1),), weight=0.5))
    shutil.copytree(tmp_path / "3", tmp_path / "7")
    shutil.rmtree(tmp_path / "3")
    book = books.serving(7, "base")
    assert (book.project, set(book.conditions)) == (7, {"aa"})
    assert book.entry("Widget").exemplars == (Shown("aa", 1, project=3),)


def test_what_no_file_can_hold_is_told_and_writes_nothing(books: Books, tmp_path: Path) -> None:
    with pytest.raises(BadPromptBook, match=r"text in UTF-8, and .*Caf\\udce9"):
        books.put(7, "one", replace(WIDGET, label="Caf\udce9"))
    assert [one.name for one in file(tmp_path, 1).parent.iterdir()] == [".lock"]


def test_the_figures_name_what_they_were_measured_with(books: Books) -> None:
    books.change(7, "measured", lambda b: b.having(WIDGET), base="b", tuned="t")
    after = books.put(7, "by hand", GASKET)
    assert after.note == Note(after.note.at, "by hand", "b", "t")


def test_conditions_are_kept_and_go_with_an_export(books: Books, tmp_path: Path) -> None:
    condition = np.array([0.25, -3e-9, 7.0], np.float32)
    for name in ("ab", "cd"):
        books.keep(7, name, condition)
    entry = Entry("Widget", exemplars=(Shown("ab", 3, recoloured="cd"),), weight=0.5)
    books.change(7, "measured", lambda book: book.having(entry), base="b")
    exported = json.loads(json.dumps(books.exported(7)))
    elsewhere = Books(tmp_path / "elsewhere")
    imported = elsewhere.imported(9, exported, "imported")
    there = replace(entry, exemplars=(Shown("ab", 3, recoloured="cd", project=7),))
    assert (imported.project, imported.entries, imported.note.base) == (9, {"Widget": there}, "b")
    served = elsewhere.serving(9, "b")
    for name in ("ab", "cd"):
        assert served.conditions[name].tolist() == condition.tolist()
    assert not elsewhere.serving(9, "another").entries


def test_another_label_studios_project_of_the_same_number_is_another_project(
    books: Books, tmp_path: Path
) -> None:
    books.keep(7, "ab", np.ones(4, np.float32))
    entry = Entry("Widget", exemplars=(Shown("ab", 3),), weight=0.5)
    books.put(7, "measured", entry)
    exported = books.exported(7)
    assert books.imported(7, exported, "its own").entries == {"Widget": entry}
    assert books.imported(7, {**exported, "conditions": {}}, "edited").entries == {"Widget": entry}
    elsewhere = Books(tmp_path / "elsewhere")
    for _ in range(2):
        (shown,) = elsewhere.imported(7, exported, "imported").entry("Widget").exemplars
        assert shown == Shown("ab", 3, project=7)
    assert books.imported(7, elsewhere.exported(7), "back").entries == {"Widget": entry}


def test_what_is_exported_brings_its_probes(books: Books, tmp_path: Path) -> None:
    row = np.array([1.0, -2.0, 0.5], np.float32)
    entry = Entry("Widget", probe=Probed(probe_id(row), 0.3, 0.02, 9, 7, ((0.05, 0.5), (0.3, 0.6))))
    books.keep(7, probe_id(row), row)
    books.put(7, "measured", entry)
    assert books.serving(7, None).probes[probe_id(row)].tolist() == row.tolist()
    exported = json.loads(json.dumps(books.exported(7)))
    elsewhere = Books(tmp_path / "elsewhere")
    assert elsewhere.imported(9, exported, "imported").entries == {"Widget": entry}
    assert elsewhere.serving(9, None).probes[probe_id(row)].tolist() == row.tolist()
    with pytest.raises(BadPromptBook, match=f"what probe {probe_id(row)} knows is neither"):
        Books(tmp_path / "third").imported(9, {**exported, "conditions": {}}, "imported")


def test_going_back_passes_over_a_version_that_cannot_be_read(books: Books, tmp_path: Path) -> None:
    for threshold in (0.1, 0.2, 0.3):
        books.put(7, "set", Entry("Widget").setting(threshold=threshold))
    file(tmp_path, 2).write_text("nonsense")
    assert books.rollback(7).entry("Widget").threshold == 0.1


def test_versions_go_on_beyond_six_digits(books: Books, tmp_path: Path) -> None:
    books.put(7, "one", WIDGET)
    file(tmp_path, 1).rename(file(tmp_path, 999_999))
    assert books.put(7, "two", GASKET).number == 1_000_000
    assert books.book(7).entries == {"Widget": WIDGET, "Gasket": GASKET}


def test_a_copy_under_a_name_of_its_own_is_no_version(books: Books, tmp_path: Path) -> None:
    books.put(7, "one", WIDGET)
    for name in ("0000099.json", "000000.json", "٠٠٠٠٩٩.json", "000001 copy.json"):
        shutil.copy(file(tmp_path, 1), file(tmp_path, 1).with_name(name))
    assert [one.number for one in books.history(7)] == [1]
    assert books.put(7, "two", GASKET).number == 2


def test_a_label_that_stands_twice_in_a_file_is_told_as_nonsense(
    books: Books, tmp_path: Path
) -> None:
    books.put(7, "one", WIDGET)
    twice = '{"project": 7, "labels": {"Nut": {"weight": 1}, "Nut": {"weight": 0.5}}}'
    file(tmp_path, 2).write_text(twice)
    with pytest.raises(BadPromptBook, match="'Nut' stands twice"):
        books.version(7, 2)
    assert books.book(7).entries == {"Widget": WIDGET}


def test_a_lost_condition_is_told_and_missed_no_more_than_that(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    entry = Entry("Widget", exemplars=(Shown("ab", 3),), weight=0.5)
    books.put(7, "measured", entry)
    assert books.serving(7, "b").conditions == {}
    assert "does without" in caplog.text


def test_what_exemplars_show_in_different_lengths_is_told_and_the_usual_one_counts(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    for name, length in (("aa", 4), ("bb", 4), ("cc", 2)):
        books.keep(7, name, np.ones(length, np.float32))
    shown = tuple(Shown(name, 3) for name in ("aa", "bb", "cc"))
    books.put(7, "measured", Entry("Widget", exemplars=shown, weight=1.0))
    query = Query("image", "Widget", ("widget",), 0.4, ())
    asked = books.serving(7, "b").over(query, Label("Widget", ("widget",)))
    assert asked.exemplars == ("aa", "bb")
    assert "Exemplar cc has 2 numbers where others have 4" in caplog.text


@pytest.mark.parametrize("content", [b"", b"nonsense", save({"condition": np.ones((2, 2))})])
def test_a_damaged_condition_is_missed_until_it_is_kept_again(
    books: Books, tmp_path: Path, content: bytes
) -> None:
    books.keep(7, "aa", np.ones(4, np.float32))
    (tmp_path / "7" / "prompts" / "conditions" / "aa.safetensors").write_bytes(content)
    assert books.condition(7, "aa") is None
    books.keep(7, "aa", np.ones(4, np.float32))
    kept = books.condition(7, "aa")
    assert kept is not None
    assert kept.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"aa": 4}, "exemplar bb"),
        ({"aa": 4, "bb": 2}, "2 and 4 numbers"),
    ],
)
def test_a_book_whose_exemplars_cannot_be_shown_is_not_imported(
    books: Books, tmp_path: Path, conditions: dict[str, int], told: str
) -> None:
    held = {name: as_text(np.ones(length, np.float32)) for name, length in conditions.items()}
    exemplars = [{"id": name, "task": 3} for name in ("aa", "bb")]
    labels = {"Widget": {"exemplars": exemplars, "weight": 1}}
    with pytest.raises(BadPromptBook, match=told):
        books.imported(7, {"project": 7, "labels": labels, "conditions": held}, "imported")
    assert not list(tmp_path.rglob("*.*"))
    exemplars[1]["used"] = False
    assert books.imported(7, {"project": 7, "labels": labels, "conditions": held}, "x").number == 1


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {"project": 7, "conditions": []},
        {"project": 7, "conditions": {"ab": "!"}},
        {"project": 7, "conditions": {"../ab": "AACAPw=="}},
        {"project": 7, "conditions": {"a" * 300: "AACAPw=="}},
        {"project": 7, "labels": {"Widget": {"exemplars": [{"id": "a" * 300, "task": 1}]}}},
        {"project": 7, "labels": {"Caf\ud800": {"weight": 0.5}}},
        {"project": 7, "conditions": {"ab": "AAA="}},
        {"project": 7, "conditions": {"ab": "AADAfw=="}},
        {"project": 7, "conditions": {"ab": "AAAAAA=="}},
        {"project": 7, "conditions": {"ab": as_text(np.full(4, 3e38, np.float32))}},
        {"project": 7, "labels": {"Widget": {"threshold": 2}}, "conditions": {"ab": "AACAPw=="}},
    ],
)
def test_an_import_of_nonsense_writes_nothing(books: Books, tmp_path: Path, raw: object) -> None:
    with pytest.raises(BadPromptBook):
        books.imported(7, raw, "imported")
    assert not list(tmp_path.rglob("*.*"))


def test_an_exemplar_is_named_by_checkpoint_image_and_mask() -> None:
    mask = np.eye(4, dtype=bool)
    names = {
        exemplar_id("base", "image", mask),
        exemplar_id("another", "image", mask),
        exemplar_id("base", "another", mask),
        exemplar_id("base", "image", ~mask),
        exemplar_id("base", "image", np.eye(8, 2, dtype=bool)),
    }
    assert len(names) == 5
