"""What damaged files of versions do: they give way to the version before, and the log says so."""

import errno
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import NoSuchVersion, VersionDamaged, VersionRefused
from backend.learning.card import Card, Version
from backend.learning.registry import Registry
from backend.learning.versions import ACTIVE, CARD, WEIGHTS
from tests.backend.learning.published import BASE, PROJECT, names, some_weights


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_bit_anywhere_never_changes_the_weights_that_are_served(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    registry = Registry(tmp_path_factory.mktemp("models"))
    one, two = (registry.publish(PROJECT, some_weights(i), Card(BASE)) for i in (1, 2))
    registry.activate(PROJECT, one.id, "")
    registry.activate(PROJECT, two.id, "")
    files = [p for p in sorted((registry._folder / str(PROJECT)).rglob("*")) if p.is_file()]
    path = data.draw(st.sampled_from([p for p in files if p.stat().st_size]))
    flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
    version = Registry(registry._folder).active(PROJECT, BASE)
    if version is not None:
        seed = {one.id: 1, two.id: 2}[version.id]
        served = registry.weights(version)
        assert all(torch.equal(served[name], t) for name, t in some_weights(seed).items())


@pytest.mark.parametrize(
    "damage", ["flipped", "truncated", "gone", "no card", "bad card", "other card"]
)
def test_a_damaged_version_gives_way_to_the_one_before_and_the_log_says_so(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "")
    registry.activate(PROJECT, two.id, "")
    assert names(registry.active(PROJECT)) == two.id
    folder = tmp_path / str(PROJECT) / two.id
    if damage == "flipped":
        flip(folder / WEIGHTS, 100)
    elif damage == "truncated":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    elif damage == "gone":
        (folder / WEIGHTS).unlink()
    elif damage == "no card":
        (folder / CARD).unlink()
    elif damage == "bad card":
        (folder / CARD).write_text("{")
    else:
        (folder / CARD).write_text((folder.with_name(one.id) / CARD).read_text())
    with caplog.at_level(logging.ERROR):
        assert names(registry.active(PROJECT)) == one.id
        assert names(registry.active(PROJECT)) == one.id
        assert one.id in {version.id for version in registry.versions(PROJECT)}
    assert sum("The version before it is served" in text for text in caplog.messages) == 1
    with pytest.raises((VersionDamaged, NoSuchVersion)):
        registry.activate(PROJECT, two.id, "again")
    assert names(registry.rollback(PROJECT)) == one.id
    registry.delete(PROJECT, two.id)
    assert publish(2).id == two.id
    registry.activate(PROJECT, two.id, "healed")
    assert names(registry.active(PROJECT)) == two.id


ENDLESS = "[" * 100_000


@pytest.mark.parametrize(
    "changed",
    [
        *("5", "[]", "null", '"text"', "{}", ENDLESS, "9" * 5000),
        *({"created": 5}, {"digest": None}, {"size": "9"}, {"project": "7"}, {"id": 7}),
        *({"base": None}, {"parent": 5}, {"metrics": []}, {"settings": None}, {"code": []}),
        *({"metrics": {"iou": float("nan")}}, {"metrics": {"labels": {"Car": float("inf")}}}),
    ],
    ids=lambda changed: str(changed)[:30],
)
def test_a_card_of_the_wrong_form_is_damaged(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    changed: str | dict[str, object],
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "")
    registry.activate(PROJECT, two.id, "")
    path = tmp_path / str(PROJECT) / two.id / CARD
    if isinstance(changed, dict):
        changed = json.dumps(json.loads(path.read_text()) | changed)
    path.write_text(changed)
    assert [version.id for version in registry.versions(PROJECT)] == [one.id]
    assert names(registry.active(PROJECT, BASE)) == one.id
    assert registry.overview(PROJECT, BASE)["served"] == one.id
    assert str(path) in caplog.text
    assert publish(2).id == two.id


@pytest.mark.parametrize(
    "changed",
    [
        *("5", "[]", "null", "{}", ENDLESS, '{"active": null, "history": [5]}'),
        *({"version": 5}, {"version": ["a"]}, {"reason": None}, {"at": 5}, {"replaced": {}}),
    ],
    ids=lambda changed: str(changed)[:30],
)
def test_decisions_of_the_wrong_form_serve_the_base_and_are_kept_aside(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    changed: str | dict[str, object],
) -> None:
    version = publish(1)
    registry.activate(PROJECT, version.id, "")
    path = tmp_path / str(PROJECT) / ACTIVE
    if isinstance(changed, dict):
        told = json.loads(path.read_text())
        told["history"][0] |= changed
        told["active"] = told["history"][0]["version"]
        changed = json.dumps(told)
    path.write_text(changed)
    assert registry.active(PROJECT) is None
    assert registry.overview(PROJECT, BASE)["active"] is None
    assert f"{path} cannot be read" in caplog.text
    registry.activate(PROJECT, version.id, "again")
    assert names(registry.active(PROJECT)) == version.id
    assert (path.parent / f"damaged-{ACTIVE}").read_text() == changed


@pytest.mark.parametrize("lost", [(), (CARD,), (WEIGHTS,), (CARD, WEIGHTS)], ids=str)
def test_a_version_published_again_heals_a_damaged_one(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path, lost: tuple[str, ...]
) -> None:
    version = publish(1)
    registry.activate(PROJECT, version.id, "")
    flip(tmp_path / str(PROJECT) / version.id / WEIGHTS, 100)
    for name in lost:
        (tmp_path / str(PROJECT) / version.id / name).unlink()
    assert registry.active(PROJECT) is None
    publish(1)
    assert names(registry.active(PROJECT)) == version.id


@pytest.mark.parametrize("length", [4, 16])
def test_a_damaged_version_can_be_deleted_by_the_beginning_of_its_name(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path, length: int
) -> None:
    version = publish(1)
    (tmp_path / str(PROJECT) / version.id / CARD).write_text("{")
    assert registry.delete(PROJECT, version.id[:length]) == [version.id]
    assert not (tmp_path / str(PROJECT) / version.id).exists()


def test_what_is_served_in_place_of_a_damaged_version_is_not_deleted(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    older, one, two = publish(1), publish(2), publish(3)
    for version in (older, one, two):
        registry.activate(PROJECT, version.id, "")
    flip(tmp_path / str(PROJECT) / two.id / WEIGHTS, 100)
    told = f"Version {one.id} of project {PROJECT} is served in place of {two.id}, which is damaged"
    with pytest.raises(VersionRefused, match=f"{told}: roll back first"):
        registry.delete(PROJECT, one.id)
    assert names(registry.active(PROJECT)) == one.id
    assert registry.delete(PROJECT, older.id) == [older.id]
    assert names(registry.rollback(PROJECT)) == one.id
    assert registry.rollback(PROJECT) is None
    assert registry.delete(PROJECT, one.id) == [one.id]


def test_unreadable_decisions_serve_the_base_and_are_kept_aside(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    version = publish(1)
    registry.activate(PROJECT, version.id, "")
    path = tmp_path / str(PROJECT) / ACTIVE
    path.write_text(path.read_text()[:-20])
    assert registry.active(PROJECT) is None
    registry.activate(PROJECT, version.id, "again")
    assert names(registry.active(PROJECT)) == version.id
    assert (path.parent / f"damaged-{ACTIVE}").exists()


def test_decisions_that_cannot_be_read_just_now_are_not_replaced(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "")
    path, read = tmp_path / str(PROJECT) / ACTIVE, Path.open

    def stale(self: Path, *how: Any, **more: Any) -> Any:
        if self == path:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
        return read(self, *how, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", stale)
        assert registry.active(PROJECT) is None
        for deed in (registry.activate, registry.reject):
            with pytest.raises(OSError, match="Stale"):
                deed(PROJECT, two.id, "")
        with pytest.raises(OSError, match="Stale"):
            registry.rollback(PROJECT)
        with pytest.raises(OSError, match="Stale"):
            registry.delete(PROJECT, two.id)
    assert names(registry.active(PROJECT)) == one.id
    assert registry.decisions(PROJECT).line == [None, one.id]
