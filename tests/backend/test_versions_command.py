"""`promptbrush versions` on a folder of versions."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend import cli
from backend.labelstudio import brush
from backend.labelstudio.events import Annotated, Event, Kind
from backend.labelstudio.starter import label_config
from backend.learning.card import Card, Version
from backend.learning.collected import Collected
from backend.learning.versions import Versions
from backend.service import Backend
from backend.showcase import free_port
from tests.backend.learning.history import make

PROJECT = 3


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Versions:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", str(free_port()))  # where nothing tells what runs
    return Versions(tmp_path)


@pytest.fixture
def made(versions: Versions) -> list[Version]:
    figures: list[dict[str, Any]] = [{"iou": 0.5, "labels": {"cat": {"iou": 0.4}}}, {"iou": 0.75}]
    return [
        versions.keep(PROJECT, bytes([number]), Card("b" * 64, metrics=metrics))
        for number, metrics in enumerate(figures)
    ]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def command(deed: str, *rest: str, status: int = 0) -> str:
        assert cli.main(["versions", deed, "--project", str(PROJECT), *rest]) == status
        told = capsys.readouterr()
        return told.err if status else told.out

    return command


def test_a_project_without_versions_is_served_by_the_base(
    versions: Versions, run: Callable[..., str]
) -> None:
    assert run("list") == "Project 3 is served by the base checkpoint. It has no versions.\n"
    assert "nothing to compare" in run("compare")


def test_activate_and_rollback_choose_what_is_served(
    versions: Versions, made: list[Version], run: Callable[..., str]
) -> None:
    one, two = made
    assert f"served by version {one.id} from" in run("activate", one.id[:6])
    assert f"served by version {two.id} from" in run("activate", two.id, "--reason", "better")
    listed = run("list")
    assert f"Project 3 is served by version {two.id}" in listed
    (line,) = (line for line in listed.splitlines() if line.startswith(one.id))
    assert line.split()[1] == "retired"
    assert "iou 0.5" in line
    assert line.endswith("better")
    assert f"served by version {one.id} from" in run("rollback")
    assert "served by the base checkpoint from" in run("rollback")
    assert "nothing to roll back to" in run("rollback", status=1)
    run("activate", one.id)
    assert "served by the base checkpoint from" in run("activate", "base")


def test_what_is_served_is_told_by_the_checkpoint_that_runs_if_that_is_known(
    versions: Versions,
    made: list[Version],
    run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = versions.keep(PROJECT, b"for another", Card("c" * 64)).id
    versions.activate(PROJECT, other, "better")
    active = made[0].id
    needs = "as long as checkpoint bbbbbbbb runs"
    assert f"version {active} from the next task on, {needs}" in run("activate", active)
    assert f"served by version {active}, {needs}" in run("list")

    def told(*running: str) -> str:
        monkeypatch.setattr(Backend, "checkpoints", lambda _: list(running))
        return run("list").splitlines()[-2]

    assert told("clipseg-bbbbbbbb") == f"Project 3 is served by version {active}."
    assert told("clipseg-cccccccc").endswith(f"and so version {other} is served.")
    assert told("clipseg-dddddddd").endswith("and so the base checkpoint is served.")
    for unknown in ([], ["clipseg-bbbbbbbb", "clipseg-cccccccc"]):
        assert needs in told(*unknown)
    assert needs not in run("activate", "base")


def test_show_tells_everything_and_compare_puts_figures_side_by_side(
    made: list[Version], run: Callable[..., str]
) -> None:
    shown = run("show", made[0].id)
    assert made[0].digest in shown
    assert "cat iou" in shown
    (digest,) = (line for line in shown.splitlines() if made[0].digest in line)
    (iou,) = (line for line in shown.splitlines() if "cat iou" in line)
    assert iou.index("0.4") == digest.index(made[0].digest)  # and not at a long line's end
    lines = [line.split() for line in run("compare").splitlines()]
    assert lines[0][1:] == [made[0].id[:8], made[1].id[:8]]
    assert ["iou", "0.5", "0.75"] in lines
    assert ["labels", "cat", "iou", "0.4"] in lines
    assert made[0].id[:8] not in run("compare", made[1].id)


def test_of_many_versions_the_served_and_the_latest_are_compared(
    versions: Versions, run: Callable[..., str]
) -> None:
    made = [versions.keep(PROJECT, bytes([number]), Card("b" * 64)) for number in range(9)]
    versions.activate(PROJECT, made[1].id, "better")
    head, *_ = run("compare").splitlines()
    ids = [one.id[:8] for one in versions.versions(PROJECT)]
    place = ids.index(made[1].id[:8])
    assert head.split()[1:] == [*ids[place : min(place + 1, 4)], *ids[4:]]


def test_reasons_begin_below_each_other_however_long_one_is(
    versions: Versions, made: list[Version], run: Callable[..., str]
) -> None:
    told = ["short", "long " * 60]
    for one, reason in zip(made, told, strict=True):
        versions.reject(PROJECT, one.id, reason)
    head, _, *lines = run("list").splitlines()
    starts = [line.index(reason[:5]) for line, reason in zip(lines, told, strict=False)]
    assert starts == [head.index("reason")] * 2


def test_curves_are_left_to_the_report(versions: Versions, run: Callable[..., str]) -> None:
    points = [{"probability": number / 10, "right": 0.123456789} for number in range(10)]
    metrics = {"iou": 0.5, "calibration": {"error": 0.25, "points": points}}
    made = versions.keep(PROJECT, b"weights", Card("b" * 64, metrics=metrics))
    for told in (run("show", made.id), run("compare")):
        assert "0.25" in told
        assert "probability" not in told
        assert max(map(len, told.splitlines())) < 120


@pytest.mark.parametrize("sign", ["\n", "\x9b31m", "\u202e", "\u2028", "\udcfc"], ids=ascii)
def test_what_no_terminal_can_print_stays_in_its_line(
    versions: Versions, run: Callable[..., str], sign: str
) -> None:
    metrics = {"labels": {f"a{sign}b": {"iou": 0.5}, "می\u200cخواهم": {"iou": 0.25}}}
    made = versions.keep(PROJECT, b"weights", Card("b" * 64, metrics=metrics))
    run("activate", made.id, "--reason", f"fur{sign} besser")
    assert versions.version(PROJECT, made.id).reason == f"fur?{sign[1:]} besser"
    for told in (run("show", made.id), run("compare")):
        assert f"a?{sign[1:]}b iou" in told
        assert "می\u200cخواهم iou" in told
        assert sign not in told.replace("\n", "")


def test_delete_spares_the_active_version(
    versions: Versions, made: list[Version], run: Callable[..., str]
) -> None:
    run("activate", made[0].id)
    assert "roll back first" in run("delete", made[0].id, status=1)
    assert "roll back first" in run("delete", made[1].id, made[0].id, status=1)
    assert {one.id for one in versions.versions(PROJECT)} == {one.id for one in made}
    assert "is gone" in run("delete", made[1].id[:5])
    assert [one.id for one in versions.versions(PROJECT)] == [made[0].id]
    assert "has no version" in run("show", made[1].id, status=1)


def test_several_are_deleted_or_all_but_the_latest_and_those_served_last(
    versions: Versions, run: Callable[..., str]
) -> None:
    made = [
        versions.keep(PROJECT, bytes([number]) * 2**20, Card("b" * 64)).id for number in range(12)
    ]
    for chosen in (0, 1, 2):
        versions.activate(PROJECT, made[chosen], "better")
    there = [one.id for one in versions.versions(PROJECT)]
    assert "take 12.0 MB" in run("list")
    assert " 1.0 MB " in run("list")
    told = run("delete", made[4], made[5][:8])
    assert all(f"{name} is gone" in told for name in (made[4], made[5]))
    assert "2.0 MB were freed" in told
    left = [name for name in there if name not in {made[4], made[5]}]
    told = run("delete", "--keep", "2")
    kept = [one.id for one in versions.versions(PROJECT)]
    assert kept == [one for one in left if one in {*left[-2:], made[1], made[2]}]
    assert f"{made[0]} is gone" in told or made[0] in left[-2:]
    assert "0 kB were freed" in run("delete", "--keep", "2")
    assert f"served by version {made[1]}" in run("rollback")


def test_what_another_checkpoint_is_served_by_is_kept(
    versions: Versions, run: Callable[..., str]
) -> None:
    other = versions.keep(PROJECT, b"for another", Card("c" * 64)).id
    made = [versions.keep(PROJECT, bytes([number]), Card("b" * 64)).id for number in range(5)]
    for chosen in (other, *made):
        versions.activate(PROJECT, chosen, "better")
    run("delete", "--keep", "1")
    kept = {one.id for one in versions.versions(PROJECT)}
    assert {other, made[-1]} <= kept
    assert len(kept) <= 3  # the one that was made last, as far as the clock tells
    assert versions.active(PROJECT, "c" * 64) is not None


def test_to_delete_needs_names_or_how_many_to_keep(
    made: list[Version], run: Callable[..., str]
) -> None:
    for wrong in ([], [made[0].id, "--keep", "1"]):
        assert "or give --keep N" in run("delete", *wrong, status=1)


def test_where_there_are_many_what_makes_room_is_told(
    versions: Versions, run: Callable[..., str]
) -> None:
    for number in range(10):
        versions.keep(PROJECT, bytes([number]), Card("b" * 64))
    assert "--keep" not in run("list")
    versions.keep(PROJECT, b"eleven", Card("b" * 64))
    assert "versions delete --project 3 --keep 10" in run("list")


def test_list_show_and_compare_tell_what_was_accepted(
    tmp_path: Path, versions: Versions, run: Callable[..., str]
) -> None:
    first, _, served = make(tmp_path)
    listed = run("list")
    (line,) = (line for line in listed.splitlines() if line.startswith(served.id))
    assert "9 of 10 masks untouched, IoU 0.98, 12 min saved" in line
    assert "untouched_share" in run("show", served.id)
    lines = [line.split() for line in run("compare", first.id, served.id).splitlines()]
    assert ["accepted", "untouched", "6", "9"] in lines


def predicts(folder: Path, weights: str) -> None:
    """A webhook tells of a mask that was accepted as these weights predicted it."""
    region = {
        "id": f"{weights}-0123456789",
        "origin": "prediction",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": 2,
        "original_width": 2,
        "value": {"rle": list(brush.encode(np.eye(2, dtype=bool))), "brushlabels": ["Car"]},
    }
    saved = Annotated(1, 1, {}, (region,), False, lead_time=4.0, parent_prediction=9)
    event = Event(Kind.ANNOTATED, "X", PROJECT, saved=(saved,), label_config=label_config(["Car"]))
    Collected(folder).take(asdict(event))


def test_measure_holds_accepted_work_against_what_was_predicted(
    tmp_path: Path, versions: Versions, run: Callable[..., str]
) -> None:
    predicts(tmp_path, "d" * 8)
    told = run("measure")
    assert "base dddddddd" in told
    assert "1 of 1 masks untouched" in told
    assert "an assumption" in told


def test_what_a_deleted_version_predicted_is_not_told_of_the_base(
    tmp_path: Path, versions: Versions, run: Callable[..., str]
) -> None:
    deleted = versions.keep(PROJECT, b"weights", Card("b" * 64))
    versions.delete(PROJECT, deleted.id)
    predicts(tmp_path, deleted.id[:8])
    told = run("measure")
    assert f"{deleted.id} (gone)" in told
    assert "base" not in told
