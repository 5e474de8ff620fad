import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from backend.errors import BadRequest
from backend.labelstudio.geometry import Polygon
from backend.labelstudio.images import TaskImage
from backend.learning import dataset, export
from backend.learning.dataset import Account, Part, Sample, part_of
from backend.learning.export import from_run_lengths, read, run_lengths, write

XML = """
<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="Red Car" predicted_values="a red car"/><Label value="Dog"/>
  </BrushLabels>
</View>
"""


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_run_lengths_give_the_mask_back(mask: np.ndarray[Any, Any]) -> None:
    counts = run_lengths(mask)
    assert (from_run_lengths(counts, *mask.shape) == mask).all()
    assert sum(counts) == mask.size
    assert all(counts[1:])


@given(st.integers(0, 5), st.integers(0, 4))
def test_run_lengths_go_down_the_columns_and_begin_with_zeros(row: int, column: int) -> None:
    mask = np.zeros((6, 5), bool)
    mask[row, column] = True
    assert run_lengths(mask)[:2] == [column * 6 + row, 1]


def sample(task: int) -> Sample:
    rng = np.random.default_rng(task)
    pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[5:25, 10 : 20 + task] = True
    image = TaskImage(Image.fromarray(pixels), f"digest {task}")
    return Sample(
        task,
        "image",
        image,
        ("Red Car", "Dog"),
        {"Red Car": mask},
        typed=("a car",),
        suggested=frozenset({"a car"}),
    )


def test_of_many_held_out_tasks_of_an_export_some_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "JUDGES", 2)
    write([sample(task) for task in range(20)], XML, 12, Account(), tmp_path)
    found = list(read(tmp_path, 10**6, Account(), (Part.HELD_OUT,))[2])
    assert [part_of(one.task) for one in found] == [Part.HELD_OUT] * 2
    assert len(list(read(tmp_path, 10**6, Account())[2])) == 20


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = [sample(3), sample(8)]
    write(written, XML, 12, Account(), tmp_path)
    account = Account()
    project, config, found = read(tmp_path, 10**6, account)
    assert project == 12
    assert config.outputs[0].labels[0].prompts == ("a red car",)
    for one, listed in zip(written, found, strict=True):
        assert listed.masks.keys() == one.masks.keys()  # before the image is read
        assert (listed.typed, listed.suggested) == (one.typed, one.suggested)
        other = listed.see()
        assert (one.task, one.labels, one.typed) == (other.task, other.labels, other.typed)
        assert one.suggested == other.suggested
        assert (np.asarray(one.image.image) == np.asarray(other.image.image)).all()
        assert (one.mask("Red Car") == other.mask("Red Car")).all()
        assert other.masks.keys() == {"Red Car"}
    assert account.absent == {"Dog": 2}


def images_of(*keys: str) -> str:
    """A labeling configuration with an image for each field, or address with fields."""
    shown = "".join(
        f'<Image name="i{n}" value="{key if "$" in key else f"${key}"}"/>'
        f'<BrushLabels name="b{n}" toName="i{n}">'
        '<Label value="Red Car"/></BrushLabels>'
        for n, key in enumerate(keys)
    )
    return f"<View>{shown}</View>"


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (("left", "right"), ("3-left", "3-right")),
        (("Left", "$top/Left Side"), ("3-left", "3-top-left-side")),
        (("left", "Left"), ("3-left", "3-left-2")),
        (("Left", "left"), ("3-left-2", "3-left")),
        (("a.b", "$a-b", "$a b", "$a-b-2"), ("3-a-b", "3-a-b-2", "3-a-b-3", "3-a-b-2-2")),
        (("x" * 70 + "1", "x" * 70 + "2"), (f"3-{'x' * 60}", f"3-{'x' * 60}-2")),
    ],
)
def test_each_image_of_a_task_has_a_file_of_its_own(
    tmp_path: Path, keys: tuple[str, ...], names: tuple[str, ...]
) -> None:
    pictures = [Image.new("RGB", (60, 40), (n, 0, 0)) for n in range(len(keys))]
    written = [
        replace(sample(3), image_key=key, labels=("Red Car",), image=TaskImage(picture, key))
        for key, picture in zip(keys, pictures, strict=True)
    ]
    write(written, images_of(*keys), 12, Account(), tmp_path)
    _, _, found = read(tmp_path, 10**6, Account())
    seen = [one.see() for one in found]
    read_back = {one.image_key: np.asarray(one.image.image)[0, 0, 0] for one in seen}
    assert read_back == {key: n for n, key in enumerate(keys)}
    assert {path.stem for path in (tmp_path / "images").iterdir()} == set(names)
    masks = {f"{name}--1-red-car.png" for name in names}
    assert {path.name for path in (tmp_path / "masks").iterdir()} == masks
    write([], images_of(*keys), 12, Account(), tmp_path)
    assert not list((tmp_path / "masks").iterdir())


@pytest.mark.parametrize("label", ["\U00020000" * 70, "ы" * 300, "-a" * 200], ids=["𠀀", "ы", "-a"])
def test_names_are_no_longer_than_a_file_may_have(tmp_path: Path, label: str) -> None:
    key = "\U00020000" * 70
    one = replace(sample(3), task=2**63 - 1, image_key=key, labels=(label,))
    one = replace(one, masks={label: one.masks["Red Car"]})
    xml = images_of(key, "other").replace("Red Car", label)
    write([one], xml, 12, Account(), tmp_path)
    (again,) = (one.see() for one in read(tmp_path, 10**6, Account())[2])
    assert again.labels == (label,)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Красная машина с очень длинным названием и ещё", None),
        ("赤い車", None),
        ("Red  Car!", "red-car"),
        ("?!", "label"),
    ],
)
def test_an_ordinary_label_names_its_mask(tmp_path: Path, label: str, name: str | None) -> None:
    one = replace(sample(3), labels=(label,), masks=sample(3).masks)
    one = replace(one, masks={label: one.masks["Red Car"]})
    write([one], XML.replace("Red Car", label), 12, Account(), tmp_path)
    (mask,) = (tmp_path / "masks").iterdir()
    assert mask.stem == f"3--1-{name or label.replace(' ', '-').lower()}"


def test_coco_has_polygons_and_boxes_and_the_masks_are_pictures(tmp_path: Path) -> None:
    write([sample(3)], XML, 12, Account(), tmp_path)
    coco = json.loads((tmp_path / "coco-polygons.json").read_text())
    (annotation,) = coco["annotations"]
    assert annotation["bbox"] == [10, 5, 13, 20]
    assert annotation["area"] == 13 * 20
    (ring,) = annotation["segmentation"]
    points = np.array(ring).reshape(-1, 2) / [60, 40] * 100
    mask = Polygon(tuple(map(tuple, points.tolist()))).mask((40, 60))
    assert (mask == sample(3).mask("Red Car")).mean() > 0.99
    (picture,) = (tmp_path / "masks").iterdir()
    with Image.open(picture) as image:
        assert (np.asarray(image) == 255 * sample(3).mask("Red Car")).all()


def test_a_mask_of_specks_that_has_no_outline_is_told_and_kept_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.inference.outlines.LONGEST", 100)
    specks = np.zeros((40, 60), bool)
    specks[::4, ::4] = True
    account = Account()
    write([replace(sample(3), masks={"Dog": specks})], XML, 12, account, tmp_path)
    exact, outlined = (
        json.loads((tmp_path / name).read_text())["annotations"]
        for name in ("coco-rle.json", "coco-polygons.json")
    )
    assert (len(exact), outlined) == (1, [])
    told = "coco-polygons.json cannot outline specks alone"
    assert told in json.loads((tmp_path / "report.json").read_text())["left_out"]


def test_what_a_stopped_export_left_goes_with_the_next_one_that_is_whole(tmp_path: Path) -> None:
    def stopped(*tasks: int) -> Iterator[Sample]:
        yield from map(sample, tasks)
        raise KeyboardInterrupt

    def pictures() -> set[str]:
        return {path.name for path in (*tmp_path.glob("images/*"), *tmp_path.glob("masks/*"))}

    for tasks in ((3, 4), (5,)):
        with pytest.raises(KeyboardInterrupt):
            write(stopped(*tasks), XML, 12, Account(), tmp_path)
    (tmp_path / "images" / "own.png").touch()
    write([sample(4), sample(8)], XML, 13, Account(), tmp_path)  # of another project
    whole = {"4.png", "4--1-red-car.png", "8.png", "8--1-red-car.png"}
    assert pictures() == {*whole, "own.png"}
    with pytest.raises(KeyboardInterrupt):
        write(stopped(6), XML, 13, Account(), tmp_path)
    write([sample(4), sample(8)], XML, 13, Account(), tmp_path)
    assert pictures() == {*whole, "own.png"}
    lists = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert lists == {export.RLE, export.POLYGONS, export.CONFIG, export.REPORT}


def test_what_is_no_longer_accepted_goes_with_the_next_export(tmp_path: Path) -> None:
    write([sample(3), sample(8)], XML, 12, Account(), tmp_path)
    mine = tmp_path / "masks" / "mine.png"
    mine.write_bytes(b"")
    bare = replace(sample(3), masks={})
    write([bare], XML, 12, Account(), tmp_path)
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["3.png"]
    assert list((tmp_path / "masks").iterdir()) == [mine]


def test_an_export_of_another_project_is_not_lost(tmp_path: Path) -> None:
    write([sample(3)], XML, 12, Account(), tmp_path)
    with pytest.raises(BadRequest, match=r"project 12.*--out"):
        write([sample(8)], XML, 13, Account(), tmp_path)
    assert [one.task for one in read(tmp_path, 10**6, Account())[2]] == [3]


def test_an_export_that_breaks_off_leaves_the_lists_of_before(tmp_path: Path) -> None:
    def broken() -> Iterator[Sample]:
        yield sample(8)
        raise OSError("full")

    write([sample(3)], XML, 12, Account(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(OSError, match="full"):
        write(broken(), XML, 12, Account(), tmp_path)
    begun = {tmp_path / export.BEGUN: b"8\n"}
    after = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert after == before | begun


def test_what_many_images_have_is_not_held_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "polygons", lambda _: [np.zeros((4, 2))])  # which take time
    row = np.zeros((4, 6000), bool)
    row[1:3] = True
    image = TaskImage(Image.new("RGB", (6000, 4)), "row")
    one = replace(sample(3), image=image, masks={"Dog": row})

    def peak(images: int) -> int:
        tracemalloc.start()
        write([one] * images, XML, 12, Account(), tmp_path)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, first, again = peak(2), peak(24), peak(24)
    assert first < 1.5 * few
    assert again < 2.5 * few  # the list of before is text meanwhile


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"counts": [', '"counts": [7, '),
        ('"counts": [', '"counts": [10000000000000, '),
        ('"counts": [', '"counts": ["x", '),
        ('"category_id": 1', '"category_id": 9'),
        ('"annotations": ', '"notes": '),
        ('"width": 60', '"width": 61'),
    ],
)
def test_an_export_that_was_damaged_is_told(tmp_path: Path, old: str, new: str) -> None:
    write([sample(3)], XML, 12, Account(), tmp_path)
    listed = tmp_path / "coco-rle.json"
    listed.write_text(listed.read_text().replace(old, new))
    _, _, found = read(tmp_path, 10**6, Account())
    with pytest.raises(BadRequest, match=str(tmp_path)):
        [one.see() for one in found]


def test_a_folder_that_is_no_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"trained on: \S*coco-rle\.json: No such file"):
        read(tmp_path, 10**6, Account())


@pytest.mark.parametrize("content", ["[" * 50_000, '{"info": {"project": Infinity}}'])
def test_what_json_can_hold_and_an_export_never_does_is_told(tmp_path: Path, content: str) -> None:
    write([sample(3)], XML, 12, Account(), tmp_path)
    (tmp_path / "coco-rle.json").write_text(content)
    with pytest.raises(BadRequest, match="promptbrush export"):
        read(tmp_path, 10**6, Account())
    write([sample(3)], XML, 12, Account(), tmp_path)
    assert read(tmp_path, 10**6, Account())[0] == 12
