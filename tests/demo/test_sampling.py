import numpy as np
import pytest
from PIL import Image

from demo import pool, sampling
from demo.pool import Pool, Style
from demo.sampling import PromptSampler, VocabularySampler
from demo.scenes import KNOWN_SHAPES, NAMELESS
from models import ImageProcessor


@pytest.fixture(scope="module")
def drawn() -> Pool:
    return pool._chunk(500, 12, ImageProcessor(48, 48), Style())


@pytest.fixture(scope="module")
def nameless() -> Pool:
    return pool._chunk(500, 24, ImageProcessor(48, 48), Style(nameless=True))


@pytest.fixture(scope="module")
def cut() -> Pool:
    return pool._chunk(500, 12, ImageProcessor(48, 48), Style(cut=True))


def test_targets_are_what_the_prompt_means(drawn: Pool) -> None:
    batch = PromptSampler(drawn, 0, images=4, prompts=5, shown=2, patch=8).draw()
    assert len(batch.texts) == 20
    assert len(batch.rows) == len(batch.targets) == len(batch.traits) == 22
    assert batch.targets.min() >= 0
    assert batch.targets.max() <= 1
    absent = batch.targets.flatten(1).sum(dim=1) == 0
    assert absent.any()
    assert not absent.all()


def test_patches_are_named_by_the_object_on_them(drawn: Pool) -> None:
    batch = PromptSampler(drawn, 0, images=4, prompts=1, shown=1, patch=8).draw()
    assert batch.patches.shape == (4, 3, 6, 6)
    named = batch.patches > 0
    assert (named.any(dim=1) == named.all(dim=1)).all()


def test_exemplars_ask_for_what_they_have_in_common(nameless: Pool) -> None:
    sampler = PromptSampler(nameless, 0, images=8, prompts=1, shown=24, patch=8)
    for _ in range(5):
        batch = sampler.draw()
        np.testing.assert_allclose(batch.shares.sum(dim=1), 1)
        assert ((batch.shares > 0).sum(dim=0) == 1).all()
        assert len(batch.exemplars) == batch.shares.shape[1] > len(batch.shares) == 24
        assert len(batch.exemplar_texts) == len(batch.complete) == 24
    looks = nameless.exemplar_looks
    for exemplars in ([0], [0, 1], [2, 3, 4]):
        shared = sampler._shared(exemplars)
        assert all(shared.matches(looks[index]) for index in exemplars)
        kept = [name for name in (shared.shape, shared.colour, shared.texture) if name]
        same = [len({looks[i][trait] for i in exemplars}) == 1 for trait in range(3)]
        assert len(kept) == sum(same)


def test_exemplars_are_of_other_scenes_and_in_pairs_of_one_outline(nameless: Pool) -> None:
    assert len(nameless.exemplars) == len(nameless.exemplar_looks) == 2 * len(nameless)
    pairs = zip(nameless.exemplar_looks[::2], nameless.exemplar_looks[1::2], strict=True)
    painted = 0
    for looks, (same, other) in zip(nameless.looks, pairs, strict=True):
        assert same in looks
        assert other.shape == same.shape
        painted += other != same
    assert painted > len(nameless) / 2


def test_some_objects_are_shown_by_a_box_about_as_large_as_they_are() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 10:50] = True
    image = Image.new("RGB", (80, 60))
    shown = [pool._exemplar(image, mask, rng) for _ in range(100)]
    boxes = [one.box for one in shown if one.box is not None]
    assert 15 < len(boxes) < 45
    np.testing.assert_allclose(boxes, [(10, 20, 50, 40)] * len(boxes), atol=0.08 * 40)
    assert all(one.mask is mask for one in shown if one.box is None)


def test_twins_differ_in_their_outline_alone() -> None:
    one, other = pool._twins(["ring", "star", "star"], np.random.default_rng(0))
    assert {one.shape, other.shape} == {"ring", "star"}
    assert one[1:] == other[1:]


def test_absent_exemplars_may_differ_from_what_is_there_in_their_outline_alone(
    nameless: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "ABSENT_EXEMPLAR", 1.0)
    monkeypatch.setattr(sampling, "NEARLY", 1.0)
    monkeypatch.setattr(sampling, "SINGLE", 1.0)
    sampler = PromptSampler(nameless, 2, images=8, prompts=1, shown=1, patch=8)
    nearly = 0
    for looks in nameless.looks * 4:
        shared = sampler._shared(sampler._exemplars(looks))
        nearly += shared.shape not in {None, *(look.shape for look in looks)} and any(
            (look.colour, look.texture) == (shared.colour, shared.texture) for look in looks
        )
    assert nearly > len(nameless)


def test_no_word_says_an_outline_that_has_no_name(nameless: Pool) -> None:
    assert any(look.shape in NAMELESS for look in nameless.exemplar_looks)
    sampler = PromptSampler(nameless, 1, images=8, prompts=4, shown=16, patch=8)
    for _ in range(5):
        batch = sampler.draw()
        assert not any("nameless" in text for text in (*batch.texts, *batch.exemplar_texts))
        shapes = batch.traits[-16:, 0]
        assert not (batch.complete & (shapes >= len(KNOWN_SHAPES))).any()


def test_no_two_labels_of_a_vocabulary_mean_the_same_pixel(cut: Pool) -> None:
    sampler = VocabularySampler(cut, 0, images=8, patch=8)
    for _ in range(5):
        batch = sampler.draw()
        # objects share pixels at their edges only, and never more than all of one
        assert batch.targets.sum(dim=1).max() <= 1.01
        assert len(batch.texts) == len(batch.places) == len(batch.traits)
        assert batch.targets.shape[:2] == (8, int(batch.places[:, 1].max()) + 1)


def test_vocabularies_lack_some_of_what_is_there_and_name_some_of_what_is_not(cut: Pool) -> None:
    sampler = VocabularySampler(cut, 1, images=8, patch=8)
    left_out = absent = 0
    for _ in range(10):
        batch = sampler.draw()
        images, places = batch.places.unbind(dim=1)
        absent += int((batch.targets[images, places].flatten(1).sum(dim=1) == 0).sum())
        unnamed = (batch.patches[:, 0] > 0).flatten(1).any(dim=1)
        unnamed &= batch.targets.flatten(1).sum(dim=1) == 0
        left_out += int(unnamed.sum())
    assert absent > 0
    assert left_out > 0


def test_things_are_the_parts_of_a_patch_and_add_up_to_one(cut: Pool) -> None:
    batch = VocabularySampler(cut, 3, images=8, patch=8).draw()
    sums = batch.things.sum(dim=1)
    assert (sums - 1).abs().max() < 0.01  # bytes are rounded at the edges
    assert ((batch.things[:, -1] > 0.95) <= (batch.patches[:, 0] <= 0)).all()


def test_a_vocabulary_of_one_kind_names_everything_once_unless_it_leaves_it_out(
    cut: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "LEFT_OUT", 0.0)
    monkeypatch.setattr(sampling, "MIXED", 0.0)
    sampler = VocabularySampler(cut, 2, images=12, patch=8)
    for looks in cut.looks:
        queries = sampler._vocabulary(looks)
        assert all(sum(query.matches(look) for query in queries) == 1 for look in looks)


def test_a_view_is_the_whole_picture_or_a_square_inside_it() -> None:
    rng = np.random.default_rng(0)
    assert pool._view((60, 40), False, rng) == (0, 0, 60, 40)
    for _ in range(20):
        left, top, right, bottom = pool._view((60, 40), True, rng)
        assert right - left == bottom - top == 40
        assert 0 <= left <= 20
        assert top == 0
