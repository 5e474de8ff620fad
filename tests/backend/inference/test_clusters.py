import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from backend.inference.clusters import FIRST, GROUPS, Clusters, Description, grouped, nearest

KINDS = 4


def images(count: int, seed: int = 0) -> list[Description]:
    """Of a few kinds, in turn."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(9).normal(0, 5, (KINDS, 16))
    drawn = [middles[i % KINDS] + rng.normal(0, 0.2, 16) for i in range(count)]
    return [one.astype(np.float32) for one in drawn]


def feed(clusters: Clusters, count: int, seed: int = 0) -> list[int | None]:
    """The groups of some images of project 3, each as it is seen."""
    return [
        clusters.of(3, "base", f"{seed} {number}", image)
        for number, image in enumerate(images(count, seed))
    ]


def test_the_first_images_tell_the_groups_and_those_that_look_alike_are_in_one(
    tmp_path: Path,
) -> None:
    clusters = Clusters(tmp_path)
    *first, last = feed(clusters, FIRST)
    assert set(first) == {None}
    assert last is not None
    later = feed(clusters, 12, seed=1)
    kinds = [{later[i] for i in range(kind, 12, KINDS)} for kind in range(KINDS)]
    assert None not in later
    assert sum(map(len, kinds)) == len(set().union(*kinds))


def test_the_groups_are_the_same_in_every_process(tmp_path: Path) -> None:
    first, second = Clusters(tmp_path), Clusters(tmp_path)
    feed(second, FIRST - 1, seed=5)
    feed(first, FIRST)
    assert feed(first, 8, seed=2) == feed(second, 8, seed=2) == feed(Clusters(tmp_path), 8, seed=2)


def test_the_same_image_again_tells_nothing_new(tmp_path: Path) -> None:
    clusters, (image,) = Clusters(tmp_path), images(1)
    assert {clusters.of(3, "base", "same", image) for _ in range(2 * FIRST)} == {None}


def test_each_project_and_each_encoder_has_its_own(tmp_path: Path) -> None:
    clusters, (image,) = Clusters(tmp_path), images(1)
    feed(clusters, FIRST)
    assert clusters.of(3, "base", "x", image) is not None
    assert clusters.of(4, "base", "x", image) is None
    assert clusters.of(3, "another", "x", image) is None
    assert clusters.of(None, "base", "x", image) is None


def test_groups_that_cannot_be_read_are_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed(Clusters(tmp_path), FIRST)
    [file] = (tmp_path / "3").glob("clusters-*")
    file.write_bytes(b"no")
    with caplog.at_level(logging.WARNING):
        assert feed(Clusters(tmp_path), 2) == [None, None]
    assert "cannot be used" in caplog.text


@given(arrays(np.float32, (FIRST, 3), elements=st.floats(-9, 9, width=16)))
def test_there_are_few_groups_and_none_for_images_that_are_the_same(
    seen: np.ndarray[tuple[int, int], np.dtype[np.float32]],
) -> None:
    centres = grouped(seen)
    assert 1 <= len(centres) <= min(GROUPS, len(np.unique(seen, axis=0)))
    assert np.isfinite(centres).all()
    assert {nearest(centres, image) for image in seen} <= set(range(len(centres)))
