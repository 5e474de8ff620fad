from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore, TaskImage
from backend.learning import dataset
from backend.learning.annotated import DISAGREED
from backend.learning.dataset import Account, Part, part_of
from backend.settings import Settings
from tests.backend.learning.strokes import (
    CONFIG,
    HEIGHT,
    WIDTH,
    XML,
    Images,
    annotation,
    mask,
    read,
    samples,
    stroke,
)


def test_of_many_held_out_tasks_some_judge_whatever_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dataset, "JUDGES", 10)
    fetched: list[str] = []

    class Told(Images):
        def fetch(self, url: str) -> TaskImage:
            fetched.append(url)
            return super().fetch(url)

    def ids(numbers: Iterable[int], *parts: Part) -> list[int]:
        tasks = [
            {"id": number, "data": {"image": str(number)}, "annotations": [annotation(1)]}
            for number in numbers
        ]
        return [sample.task for sample in samples(tasks, CONFIG, Told(), Account(), parts)]

    judges = ids(range(200), Part.HELD_OUT)
    assert len(judges) == len(fetched) == 10
    assert {part_of(task) for task in judges} == {Part.HELD_OUT}
    assert judges == sorted(judges) == ids(reversed(range(200)), Part.HELD_OUT)
    assert judges != [task for task in range(200) if part_of(task) is Part.HELD_OUT][:10]
    assert judges == ids(judges, Part.HELD_OUT)
    assert ids(range(200), *Part) == list(range(200))


def test_a_label_that_nobody_drew_is_absent() -> None:
    (sample,), account = read(annotation(1, stroke("Car", mask((0, 0)))))
    assert sample.labels == ("Car", "Dog")
    assert (sample.mask("Car") == mask((0, 0))).all()
    assert not sample.mask("Dog").any()
    assert (account.present, account.absent) == (Counter(Car=1), Counter(Dog=1))


def test_an_empty_annotation_says_that_nothing_is_there() -> None:
    (sample,), account = read(annotation(1))
    assert not sample.masks
    assert account.absent == Counter(Car=1, Dog=1)


def test_what_was_typed_goes_with_the_sample() -> None:
    text = {"type": "textarea", "from_name": "prompt", "to_name": "image"}
    said = {**text, "value": {"text": ["the red one"]}}
    xml = '<View><TextArea name="prompt" toName="image"/>'
    config = parse_label_config(XML.replace("<View>", xml))
    account = Account()
    drawn = stroke("Car", mask((0, 0)))
    annotations = [annotation(1, said, drawn), annotation(2, drawn, said, by=2)]
    task = {"id": 1, "data": {"image": "u"}, "annotations": annotations}
    (sample,) = samples([task], config, Images(), account)
    assert sample.typed == ("the red one",)
    assert not sample.suggested


@pytest.mark.parametrize(
    ("control", "offered"),
    [
        (
            '<TextArea name="suggestions" toName="image"/>',
            {"type": "textarea", "value": {"text": ["1 red car (0.61)", "2 dog (0.40)"]}},
        ),
        (
            '<Choices name="suggestions" toName="image"><Choice value="red car"/></Choices>',
            {"type": "choices", "value": {"choices": ["red car"]}},
        ),
    ],
)
def test_what_was_chosen_of_suggestions_is_told_from_what_somebody_thought_of(
    control: str, offered: dict[str, Any]
) -> None:
    xml = f'<View><TextArea name="prompt" toName="image"/>{control}'
    config = parse_label_config(XML.replace("<View>", xml))
    text = {"type": "textarea", "from_name": "prompt", "to_name": "image"}
    said = {**text, "value": {"text": ["a beetle", "red car"]}}
    listed = {"from_name": "suggestions", "to_name": "image", **offered}
    annotations = [annotation(1, said, listed, stroke("Car", mask((0, 0))))]
    task = {"id": 1, "data": {"image": "u"}, "annotations": annotations}
    (sample,) = samples([task], config, Images(), Account())
    assert sample.typed == ("a beetle", "red car")
    assert sample.suggested == {"red car"}


def test_a_skip_says_nothing() -> None:
    found, account = read(annotation(1, stroke("Car", mask((0, 0))), was_cancelled=True))
    assert not found
    assert account.left_out["the annotation is a skip"] == 1


def test_regions_of_one_label_are_one_mask() -> None:
    regions = stroke("Car", mask((0, 0))), stroke("Car", mask((1, 1)))
    (sample,), _ = read(annotation(1, *regions))
    assert (sample.mask("Car") == mask((0, 0), (1, 1))).all()


def test_ground_truth_silences_the_others() -> None:
    (sample,), account = read(
        annotation(1, stroke("Car", mask((0, 0))), by=1),
        annotation(2, stroke("Car", mask((1, 1))), by=2, ground_truth=True),
        annotation(3, stroke("Car", mask((0, 0))), by=3),
    )
    assert (sample.mask("Car") == mask((1, 1))).all()
    assert account.left_out["the task has a ground truth beside it"] == 2


def test_an_annotators_newest_annotation_counts() -> None:
    (sample,), _ = read(
        annotation(2, stroke("Car", mask((1, 1)))), annotation(1, stroke("Car", mask((0, 0))))
    )
    assert (sample.mask("Car") == mask((1, 1))).all()


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-11-21T12:00:00Z", "2026-11-21T12:00:00.900000Z"),
        ("2026-11-21T13:00:00+02:00", "2026-11-21T12:00:00Z"),
        (None, "2026-11-21T12:00:00Z"),
    ],
)
def test_what_is_newest_is_told_by_times_not_by_their_letters(
    earlier: str | None, later: str
) -> None:
    new = annotation(1, stroke("Car", mask((1, 1))), updated_at=later)
    old = annotation(2, stroke("Car", mask((0, 0))), updated_at=earlier)
    for order in ((new, old), (old, new)):
        (sample,), _ = read(*order)
        assert (sample.mask("Car") == mask((1, 1))).all()


@given(
    st.lists(
        st.lists(st.booleans(), min_size=HEIGHT * WIDTH, max_size=HEIGHT * WIDTH),
        min_size=1,
        max_size=5,
    )
)
def test_a_pixel_has_a_label_if_more_than_half_say_so(ballots: Sequence[Sequence[bool]]) -> None:
    drawn = [np.array(ballot).reshape(HEIGHT, WIDTH) for ballot in ballots]
    (sample,), account = read(
        *(annotation(n, stroke("Car", one), by=n) for n, one in enumerate(drawn, start=1))
    )
    assert (sample.mask("Car") == (np.mean(drawn, axis=0) > 0.5)).all()
    assert ("1 merged from several annotators" in str(account)) == (len(drawn) > 1)


@pytest.mark.parametrize("annotators", [128, 200, 256])
def test_of_very_many_annotators_more_than_half_is_still_so_many(annotators: int) -> None:
    drawn = [annotation(n, stroke("Car", mask((1, 1))), by=n) for n in range(1, annotators + 1)]
    (sample,), _ = read(*drawn)
    assert (sample.mask("Car") == mask((1, 1))).all()


@pytest.mark.parametrize("other", [[], [stroke("Car", mask((1, 1)))]])
def test_a_label_is_not_absent_unless_more_than_half_drew_none(other: list[Any]) -> None:
    drew = annotation(1, stroke("Car", mask((0, 0))))
    (sample,), account = read(drew, annotation(2, *other, by=2))
    assert not sample.masks
    assert sample.labels == ("Dog",)
    assert account.left_out == {DISAGREED: 1}
    (sample,), account = read(drew, annotation(2, *other, by=2), annotation(3, by=3))
    assert sample.labels == (("Dog",) if other else ("Car", "Dog"))


def test_an_annotation_that_is_no_list_of_regions_says_nothing() -> None:
    found, account = read(annotation(1, result={"id": "s"}), annotation(2, result="[]", by=2))
    assert not found
    assert account.left_out == {"the annotation is no list of regions": 2}


def test_annotators_are_told_apart_whatever_names_them() -> None:
    names: list[Any] = [[1], {"id": [2]}, 3, [1]]
    _, account = read(*(annotation(number, by=by) for number, by in enumerate(names, start=1)))
    assert account.left_out == {"its annotator made a newer one": 1}


def test_a_task_without_data_is_told() -> None:
    account = Account()
    task = {"id": 1, "data": [], "annotations": [annotation(1)]}
    assert not list(samples([task], CONFIG, Images(), account))
    assert account.left_out == {"the image cannot be had (BadRequest)": 1}


def test_of_several_images_one_that_a_task_is_without_is_not_missed() -> None:
    later = '<Image name="b" value="$b"/><BrushLabels name="bb" toName="b"><Label value="Car"/>'
    config = parse_label_config(XML.replace("</View>", f"{later}</BrushLabels></View>"))
    account = Account()
    task: dict[str, Any] = {"id": 1, "data": {"image": "u", "b": ""}, "annotations": []}
    task["annotations"] = [annotation(1, stroke("Car", mask((0, 0))))]
    assert [sample.image_key for sample in samples([task], config, Images(), account)] == ["image"]
    assert not account.left_out


def test_a_label_that_no_terminal_prints_is_told_in_what_it_does() -> None:
    _, account = read(annotation(1, stroke("Ca\ud800t\n" + 10**6 * "s", mask((0, 0)))))
    assert f'has no label "Ca?t?{35 * "s"}"' in str(account)
    str(account).encode()


def test_an_image_that_may_be_there_another_time_is_told_from_one_that_never_was() -> None:
    account = Account()
    tasks: list[dict[str, Any]] = [
        {"id": 1, "data": {"image": "gone"}},
        {"id": 2, "data": {"other": "u"}},
    ]
    for task in tasks:
        task["annotations"] = [annotation(1, stroke("Car", mask((0, 0))))]
    assert list(samples(tasks, CONFIG, Images(), account)) == []
    assert account.unseen == {1}


def test_a_label_that_was_renamed_since_leaves_open_what_nobody_drew() -> None:
    """As where a prediction is accepted that was made before."""
    cat, car = stroke("Cat", mask((0, 0))), stroke("Car", mask((1, 1)))
    (sample,), account = read(annotation(1, cat, car))
    assert sample.labels == ("Car",)
    assert 'has no label "Cat"' in str(account)
    more = "<Labels name='l' toName='image'><Label value='Cat'/></Labels></View>"
    xml = XML.replace("</View>", more)
    there = {"id": 1, "data": {"image": "u"}, "annotations": [annotation(1, cat, car)]}
    (sample,) = samples([there], parse_label_config(xml), Images(), account)
    assert sample.labels == ("Car", "Dog")
    assert '"Cat" is not looked for' in str(account)


def test_a_missing_image_is_told() -> None:
    found, account = read(annotation(1), url="gone")
    assert not found
    assert "ImageMissing" in str(account)


def test_a_sample_is_named_by_what_it_teaches() -> None:
    (one,), _ = read(annotation(1, stroke("Car", mask((0, 0)))))
    (same,), _ = read(annotation(7, stroke("Car", mask((0, 0))), by=4))
    (other,), _ = read(annotation(1, stroke("Car", mask((0, 1)))))
    assert one.digest() == same.digest() != other.digest()


BOX = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0}  # percent
FORMS = [
    ("rectangle", BOX),
    ("polygon", {"points": [[25, 50], [75, 50], [75, 75], [25, 75]]}),
    ("ellipse", {"x": 50, "y": 62.5, "radiusX": 25, "radiusY": 12.5, "rotation": 0}),
]


@pytest.mark.parametrize(("form", "value"), FORMS)
def test_every_form_lies_on_the_image_as_it_is_displayed(
    tmp_path: Path, form: str, value: dict[str, Any]
) -> None:
    """A photograph of 64 x 40 pixels that says it is to be turned is 40 wide and 64 high."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 40)).save(tmp_path / "turned.jpg", exif=exif)
    config = parse_label_config(
        '<View><Image name="image" value="$image"/>'
        + "".join(
            f'<{one.title()}Labels name="{one}" toName="image"><Label value="Car"/>'
            f"</{one.title()}Labels>"
            for one in ("rectangle", "polygon")
        )
        + "</View>"
    )
    region = {
        "id": "r",
        "from_name": form,
        "to_name": "image",
        "type": f"{form}labels",
        "original_width": 40,
        "original_height": 64,
        "value": {**value, f"{form}labels": ["Car"]},
    }
    task = {
        "id": 1,
        "data": {"image": "/data/local-files/?d=turned.jpg"},
        "annotations": [annotation(1, region)],
    }
    images = ImageStore.of(Settings(data_dir=tmp_path / "data", local_files_root=tmp_path))
    account = Account()
    (sample,) = samples([task], config, images, account)
    box = np.zeros((64, 40), bool)
    box[32:48, 10:30] = True
    found = sample.mask("Car")
    assert sample.size == (64, 40)
    assert not (found & ~box).any()
    share = np.pi / 4 if form == "ellipse" else 1.0
    assert found.sum() == pytest.approx(share * box.sum(), rel=0.02)
    assert account.regions == {form: 1}
