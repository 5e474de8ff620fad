import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.errors import NoSuchVersion, VersionDamaged, VersionRefused
from backend.learning.card import Card, Version
from backend.learning.decisions import Decisions, State
from backend.learning.registry import Registry
from backend.learning.versions import ACTIVE, CARD, REPORTS, WEIGHTS
from models import CheckpointError, Segmenter, checkpoint
from tests.backend.learning.published import BASE, PROJECT, names, some_weights
from tests.models.test_segmenter import picture


def test_a_published_version_is_a_candidate_with_its_card(registry: Registry) -> None:
    card = Card(BASE, parent="a" * 16, data="d" * 64, settings={"lr": 1e-3}, metrics={"iou": 0.5})
    version = registry.publish(PROJECT, some_weights(1), card)
    assert version.state is State.CANDIDATE
    assert version.card == card
    assert registry.active(PROJECT) is None
    assert registry.versions(PROJECT) == [version]
    assert registry.version(PROJECT, version.id[:4]) == version
    for name, tensor in registry.weights(version).items():
        assert torch.equal(tensor, some_weights(1)[name])


def test_a_version_is_named_by_its_weights(registry: Registry) -> None:
    weights = some_weights(1)
    one = registry.publish(PROJECT, weights, Card(BASE))
    again = registry.publish(PROJECT, dict(reversed(weights.items())), Card(BASE))
    assert one.id == Registry.name(weights)
    assert again == one
    assert registry.publish(PROJECT, some_weights(2), Card(BASE)).id != one.id
    assert len(registry.versions(PROJECT)) == 2


def test_the_same_weights_tell_how_they_were_judged_last(registry: Registry) -> None:
    one = registry.publish(PROJECT, some_weights(1), Card(BASE, metrics={"held_out_tasks": 0}))
    registry.reject(PROJECT, one.id, "0 held-out tasks are too few")
    card = Card(BASE, metrics={"held_out_tasks": 5})
    again = registry.publish(PROJECT, some_weights(1), card)
    assert (again.id, again.created, again.state) == (one.id, one.created, State.REJECTED)
    assert again.card == card
    assert registry.versions(PROJECT) == [again]


def test_activation_retires_what_was_active_and_says_why(
    registry: Registry, publish: Callable[[int], Version]
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "first")
    registry.activate(PROJECT, two.id[:6], "better by 0.1")
    states = {v.id: (v.state, v.reason) for v in registry.versions(PROJECT)}
    assert states[one.id] == (State.RETIRED, f"replaced by {two.id}: better by 0.1")
    assert states[two.id] == (State.ACTIVE, "better by 0.1")
    assert [d.reason for d in registry.decisions(PROJECT).history] == ["first", "better by 0.1"]
    registry.activate(PROJECT, None, "by hand")
    assert registry.version(PROJECT, two.id).reason == "replaced by the base checkpoint: by hand"


def test_a_rejected_version_is_kept_with_its_reason(
    registry: Registry, publish: Callable[[int], Version]
) -> None:
    registry.reject(PROJECT, publish(1).id, "worse by 0.2")
    (version,) = registry.versions(PROJECT)
    assert (version.state, version.reason) == (State.REJECTED, "worse by 0.2")
    assert registry.active(PROJECT) is None


def test_the_active_version_is_neither_rejected_nor_deleted(
    registry: Registry, publish: Callable[[int], Version]
) -> None:
    version = publish(1)
    registry.activate(PROJECT, version.id, "")
    with pytest.raises(VersionRefused, match="roll back first"):
        registry.delete(PROJECT, version.id)
    with pytest.raises(VersionRefused, match="roll back first"):
        registry.reject(PROJECT, version.id, "")
    assert registry.active(PROJECT) == registry.version(PROJECT, version.id)


def test_a_file_that_is_no_project_hides_no_other(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    publish(1)
    (tmp_path / "8").write_text("")
    assert registry.projects() == [PROJECT]
    assert registry.overview(8, BASE)["served"] is None


def test_a_deleted_version_is_gone_with_its_report_and_rollback_passes_it_by(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    one, two, three = publish(1), publish(2), publish(3)
    reports = tmp_path / str(PROJECT) / REPORTS
    reports.mkdir()
    for version in (one, two, three):
        registry.activate(PROJECT, version.id, "")
        for kind in (".html", ".json"):
            (reports / f"{version.id}{kind}").touch()
    registry.delete(PROJECT, two.id)
    assert {path.stem for path in reports.iterdir()} == {one.id, three.id}
    assert {v.id for v in registry.versions(PROJECT)} == {one.id, three.id}
    back = registry.rollback(PROJECT)
    assert back is not None
    assert back.id == one.id
    assert publish(2).state is State.CANDIDATE


def test_a_deletion_makes_room_on_a_full_disk(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "")

    def full(_: int) -> None:
        if (tmp_path / str(PROJECT) / two.id).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert registry.delete(PROJECT, two.id) == [two.id]
    assert [version.id for version in registry.versions(PROJECT)] == [one.id]


def test_decisions_are_read_again_only_when_there_are_more(
    registry: Registry,
    publish: Callable[[int], Version],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = publish(1), publish(2)
    registry.activate(PROJECT, one.id, "")
    assert names(registry.active(PROJECT)) == one.id
    read, times = Decisions.read, list[int]()

    def counted(content: bytes) -> Decisions:
        times.append(len(content))
        return read(content)

    monkeypatch.setattr(Decisions, "read", counted)
    for _ in range(3):
        assert names(registry.active(PROJECT)) == one.id
    assert not times
    Registry(tmp_path).activate(PROJECT, two.id, "by another process")
    assert names(registry.active(PROJECT)) == two.id


def test_an_unknown_or_ambiguous_name_is_told(
    registry: Registry, publish: Callable[[int], Version]
) -> None:
    publish(1)
    publish(2)
    for name in ("zz", "../7"):
        told = f"has no version {name!r}: .*versions list --project 7"
        with pytest.raises(NoSuchVersion, match=told):
            registry.version(PROJECT, name)
    with pytest.raises(NoSuchVersion, match="2 versions of project 7 begin with ''"):
        registry.version(PROJECT, "")
    with pytest.raises(VersionRefused, match="nothing to roll back"):
        registry.rollback(PROJECT)


@pytest.mark.parametrize("gone", [True, False])
def test_a_rollback_that_meets_a_lost_version_tells_how_to_pass_it_by(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path, gone: bool
) -> None:
    one, lost, three = publish(1), publish(2), publish(3)
    for version in (one, lost, three):
        registry.activate(PROJECT, version.id, "served")
    place = tmp_path / str(PROJECT) / lost.id
    if gone:
        shutil.rmtree(place)  # by hand
    else:
        (place / WEIGHTS).write_bytes(b"?")
    with pytest.raises(VersionDamaged, match=f"versions delete --project {PROJECT} {lost.id}"):
        registry.rollback(PROJECT)
    assert names(registry.active(PROJECT)) == three.id
    assert registry.delete(PROJECT, lost.id) == [lost.id]
    assert names(registry.rollback(PROJECT)) == one.id


@settings(max_examples=25)
@given(
    deeds=st.lists(
        st.one_of(
            st.tuples(st.just("activate"), st.sampled_from([None, 0, 1, 2])),
            st.tuples(st.just("reject"), st.integers(0, 2)),
            st.tuples(st.just("delete"), st.integers(0, 2)),
            st.tuples(st.just("rollback"), st.none()),
        ),
        max_size=8,
    ),
    activations=st.lists(st.sampled_from([None, 0, 1, 2]), max_size=5),
)
def test_rollbacks_undo_activations_one_by_one_whatever_was_before(
    tmp_path_factory: pytest.TempPathFactory,
    deeds: list[tuple[str, int | None]],
    activations: list[int | None],
) -> None:
    registry = Registry(tmp_path_factory.mktemp("models"))
    ids = [registry.publish(PROJECT, some_weights(i), Card(BASE)).id for i in range(3)]
    for deed, which in deeds:
        name = None if which is None else ids[which]
        try:
            if deed == "activate":
                registry.activate(PROJECT, name, "")
            elif deed == "rollback":
                registry.rollback(PROJECT)
            elif deed == "reject":
                registry.reject(PROJECT, str(name), "")
            else:
                registry.delete(PROJECT, str(name))
        except (VersionRefused, NoSuchVersion):
            pass  # then it changes nothing, which the rest relies on
    for i in range(3):
        registry.publish(PROJECT, some_weights(i), Card(BASE))
    served = [registry.active(PROJECT)]
    for chosen in activations:
        registry.activate(PROJECT, None if chosen is None else ids[chosen], "")
        if names(registry.active(PROJECT)) != names(served[-1]):
            served.append(registry.active(PROJECT))
    for expected in reversed(served[:-1]):
        registry.rollback(PROJECT)
        assert names(registry.active(PROJECT)) == names(expected)


def test_what_later_code_writes_beside_the_rest_is_passed_over(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    version = publish(1)
    registry.activate(PROJECT, version.id, "better")
    card = tmp_path / str(PROJECT) / version.id / CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | {"notes": [], "card": 1}))
    decided = card.parent.with_name(ACTIVE)
    told = json.loads(decided.read_text())
    told["history"][0]["by"] = "somebody"
    decided.write_text(json.dumps(told | {"form": 2}))
    served = Registry(tmp_path).active(PROJECT, BASE)
    assert served == registry.version(PROJECT, version.id)
    assert served.reason == "better"


def test_a_version_of_another_checkpoint_is_not_served(
    registry: Registry, publish: Callable[[int], Version], caplog: pytest.LogCaptureFixture
) -> None:
    registry.activate(PROJECT, publish(1).id, "")
    assert registry.active(PROJECT, BASE) is not None
    assert registry.active(PROJECT, "c" * 64) is None
    assert "was made for checkpoint bbbbbbbb, and cccccccc is served" in caplog.text


def test_a_publication_that_was_cut_off_is_never_seen_and_cleared_away(
    registry: Registry, publish: Callable[[int], Version], tmp_path: Path
) -> None:
    left = tmp_path / str(PROJECT) / ".new-0123"
    left.mkdir(parents=True)
    (left / WEIGHTS).write_bytes(b"half")
    assert registry.versions(PROJECT) == []
    publish(1)
    assert not left.exists()


WRITER = """
import sys
from pathlib import Path
import torch
from backend.learning.registry import Registry
from backend.learning.versions import Card
registry, seed = Registry(Path(sys.argv[1])), int(sys.argv[2])
for turn in range(6):
    weights = {"decoder.a": torch.full((64, 64), 10.0 * (turn % 2) + seed % 2)}
    version = registry.publish(7, weights, Card("b" * 64))
    registry.activate(7, version.id, f"{seed} {turn}")
    registry.reject(7, registry.publish(7, {"decoder.a": torch.full((9,), 1.0 * seed)},
                                        Card("b" * 64)).id, f"{seed} {turn}")
    active = registry.active(7, "b" * 64)
    assert active is not None
    registry.weights(active)
"""


def test_processes_that_write_at_the_same_time_lose_no_decision(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path), str(i)])
        for i in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    registry = Registry(tmp_path)
    made = registry.decisions(PROJECT).history
    rejections = [d.reason for d in made if d.deed == "reject"]
    assert sorted(rejections) == sorted(f"{i} {turn}" for i in range(3) for turn in range(6))
    for before, after in pairwise(made):
        if after.serves:
            assert after.replaced == next(
                (d.version for d in reversed(made[: made.index(after)]) if d.serves), None
            )
        assert before.at <= after.at
    assert len(registry.versions(PROJECT)) == 4 + 3
    for version in registry.versions(PROJECT):
        registry.check(version)
    assert not list((tmp_path / str(PROJECT)).glob(".new-*"))


def test_a_writer_that_is_killed_leaves_nothing_half_done_and_no_lock(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for number in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(number)])
        seen = len(registry.decisions(PROJECT).history)
        while len(registry.decisions(PROJECT).history) < seen + number + 1:
            assert writer.poll() is None
        writer.kill()
        writer.wait()
        active = registry.active(PROJECT, BASE)
        assert names(active) == registry.decisions(PROJECT).active
        for version in registry.versions(PROJECT):
            registry.weights(version)
        registry.publish(PROJECT, some_weights(number), Card(BASE))


def test_a_version_merged_with_its_base_is_a_checkpoint_of_the_same_masks(
    registry: Registry, segmenter: Segmenter, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    weights = {
        name: tensor + 0.1
        for name, tensor in segmenter.model.state_dict().items()
        if name.startswith("decoder.") and "reduces" not in name
    }
    version = registry.publish(PROJECT, weights, Card(checkpoint.digest(tiny_checkpoint)))
    registry.merged(version, tiny_checkpoint, tmp_path / "merged")
    merged = Segmenter.from_pretrained(tmp_path / "merged", device="cpu")
    tuned = segmenter.with_decoder(registry.weights(version))
    masks = [
        one.segment(one.encode_image(picture(64, 48)), one.encode_text("a dog"))[0]
        for one in (merged, tuned)
    ]
    assert torch.equal(*masks)
    other = registry.publish(PROJECT, weights | {"more": torch.zeros(1)}, Card(BASE))
    with pytest.raises(CheckpointError, match="was made for checkpoint bbbbbbbb"):
        registry.merged(other, tiny_checkpoint, tmp_path / "refused")


def test_what_stands_in_a_card_is_plain_json(registry: Registry, tmp_path: Path) -> None:
    version = registry.publish(PROJECT, some_weights(1), Card(BASE, metrics={"iou": {"cat": 0.5}}))
    told = json.loads((tmp_path / str(PROJECT) / version.id / CARD).read_text())
    assert told["metrics"] == {"iou": {"cat": 0.5}}
    assert told["digest"].startswith(told["id"])
    assert "state" not in told
