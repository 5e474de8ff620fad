from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backend.errors import ImageMissing
from backend.labelstudio import brush
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.images import ImageStore, TaskImage
from backend.learning import dataset
from backend.learning.dataset import Account, Part, Sample, part_of, samples
from backend.settings import Settings

XML = """
    <View>
      <Image name="image" value="$image"/>
      <BrushLabels name="brush" toName="image">
        <Label value="Car"/><Label value="Dog"/>
      </BrushLabels>
      <RectangleLabels name="box" toName="image"><Label value="Car"/></RectangleLabels>
    </View>
"""
CONFIG = parse_label_config(XML)
HEIGHT, WIDTH = 4, 6


class Images:
    def fetch(self, url: str) -> TaskImage:
        if url == "gone":
            raise ImageMissing("gone")
        return TaskImage(Image.new("RGB", (WIDTH, HEIGHT)), url)


def mask(*pixels: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    for pixel in pixels:
        drawn[pixel] = True
    return drawn


def stroke(label: str, drawn: np.ndarray[Any, Any], **rest: Any) -> dict[str, Any]:
    return {
        "id": "s",
        "from_name": "brush",
        "to_name": "image",
        "type": "brushlabels",
        "original_height": drawn.shape[0],
        "original_width": drawn.shape[1],
        "value": {"rle": list(brush.encode(drawn)), "brushlabels": [label]},
        **rest,
    }


def annotation(number: int, *regions: dict[str, Any], by: int = 1, **rest: Any) -> dict[str, Any]:
    return {
        "id": number,
        "completed_by": by,
        "updated_at": f"{number:03}",
        "result": [*regions],
    } | rest


def read(*annotations: dict[str, Any], url: str = "u") -> tuple[list[Sample], Account]:
    account = Account()
    task = {"id": 1, "data": {"image": url}, "annotations": [*annotations]}
    return list(samples([task], CONFIG, Images(), account)), account


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
    (sample,), _ = read(
        *(annotation(n, stroke("Car", one), by=n) for n, one in enumerate(drawn, start=1))
    )
    assert (sample.mask("Car") == (np.mean(drawn, axis=0) > 0.5)).all()


@pytest.mark.parametrize("annotators", [128, 200, 256])
def test_of_very_many_annotators_more_than_half_is_still_so_many(annotators: int) -> None:
    drawn = [annotation(n, stroke("Car", mask((1, 1))), by=n) for n in range(1, annotators + 1)]
    (sample,), _ = read(*drawn)
    assert (sample.mask("Car") == mask((1, 1))).all()


def test_a_label_whose_region_cannot_be_read_is_neither_present_nor_absent() -> None:
    broken = stroke("Car", mask((0, 0))) | {"value": {"rle": [1], "brushlabels": ["Car"]}}
    (sample,), account = read(annotation(1, broken, stroke("Car", mask((1, 1)))))
    assert sample.labels == ("Dog",)
    assert not sample.masks
    assert account.left_out.total() == 1


@pytest.mark.parametrize(
    ("labels", "told"),
    [(5, "it does not tell what labels it has"), ([], "the region has no label")],
)
def test_a_region_that_does_not_tell_its_label_leaves_open_what_nobody_drew(
    labels: object, told: str
) -> None:
    nameless = stroke("Car", mask((0, 0))) | {"value": {"rle": [1], "brushlabels": labels}}
    (sample,), account = read(annotation(1, nameless, stroke("Dog", mask((1, 1)))))
    assert sample.labels == ("Dog",)  # the other one may be a car
    assert (sample.mask("Dog") == mask((1, 1))).all()
    assert told in str(account)


def test_a_label_that_is_drawn_as_a_vector_is_neither_present_nor_absent() -> None:
    path = {"vertices": [{"x": 1, "y": 2}, {"x": 50, "y": 60}], "closed": False}
    vector = stroke("Car", mask()) | {
        "type": "vectorlabels",
        "value": {**path, "vectorlabels": ["Car"]},
    }
    (sample,), account = read(annotation(1, vector))
    assert (sample.labels, sample.masks) == (("Dog",), {})
    assert account.left_out == {"it is a vector, which is not filled: draw a polygon instead": 1}


def test_a_region_without_a_value_is_left_out_and_told() -> None:
    (sample,), account = read(
        annotation(1, stroke("Car", mask(), value=None), stroke("Dog", mask((1, 1))))
    )
    assert sample.labels == ("Dog",)
    assert "its value is no object" in str(account)


def test_what_was_drawn_while_the_image_had_another_name_is_told_and_says_of_no_absence() -> None:
    (sample,), account = read(annotation(1, stroke("Car", mask((0, 0)), to_name="photo")))
    assert (sample.labels, sample.masks) == (("Dog",), {})
    told = 'the labeling configuration has no image "photo" to look at'
    assert account.left_out == Counter({told: 1})


def test_what_is_on_another_image_is_of_no_account_here() -> None:
    beside = '<Image name="map" value="https://example.org/legend.png"/></View>'
    config = parse_label_config(XML.replace("</View>", beside))
    drawn = annotation(1, stroke("Car", mask((0, 0)), to_name="map"))
    account = Account()
    task = {"id": 1, "data": {"image": "u"}, "annotations": [drawn]}
    (sample,) = samples([task], config, Images(), account)
    assert (sample.labels, sample.masks) == (("Car", "Dog"), {})
    assert not account.left_out


def test_what_is_on_a_later_image_of_a_list_is_told_and_not_drawn_on_the_first() -> None:
    (sample,), account = read(
        annotation(
            1,
            stroke("Car", mask((0, 0)), item_index=1),
            stroke("Dog", mask((1, 1)), item_index=0),
        )
    )
    assert (sample.labels, set(sample.masks)) == (("Car", "Dog"), {"Dog"})
    assert account.left_out == {"the region is on a later image of a list": 1}


def test_a_tool_to_prompt_with_leaves_nothing_open_whatever_it_holds() -> None:
    tool = stroke("Car", mask()) | {"from_name": "box", "type": "rectanglelabels", "value": None}
    (sample,), _ = read(annotation(1, tool))
    assert sample.labels == ("Car", "Dog")


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


def test_a_label_that_no_terminal_prints_is_told_in_what_it_does() -> None:
    _, account = read(annotation(1, stroke("Ca\ud800t\n" + 10**6 * "s", mask((0, 0)))))
    assert f'the label "Ca?t?{35 * "s"}" is not looked for' in str(account)
    str(account).encode()


def test_a_region_drawn_on_another_size_is_left_out_and_told() -> None:
    (sample,), account = read(annotation(1, stroke("Car", np.ones((9, 9), bool))))
    assert sample.labels == ("Dog",)
    assert "drawn on 9 x 9 pixels, and the image has 6 x 4" in str(account)


def test_a_label_drawn_too_small_for_a_pixel_is_neither_present_nor_absent() -> None:
    corners = [[10, 10], [10.1, 10], [10, 10.1]]
    value = {"points": corners, "polygonlabels": ["Car"]}
    speck = stroke("Car", mask()) | {"type": "polygonlabels", "value": value}
    (sample,), account = read(annotation(1, speck))
    assert sample.labels == ("Dog",)
    assert "the polygon covers no pixel" in str(account)
    (sample,), _ = read(annotation(1, speck, stroke("Car", mask((1, 1)))))
    assert sample.mask("Car").sum() == 1


def test_a_brush_that_was_erased_whole_says_that_nothing_is_there() -> None:
    (sample,), _ = read(annotation(1, stroke("Car", mask())))
    assert sample.labels == ("Car", "Dog")
    assert not sample.masks


def test_rectangles_of_a_tool_to_prompt_with_are_no_truth() -> None:
    value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["Car"]}
    box = stroke("Car", mask()) | {"from_name": "box", "type": "rectanglelabels", "value": value}
    (sample,), account = read(annotation(1, box))
    assert not sample.masks
    assert "prompt with" in str(account)


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


def test_unknown_labels_and_missing_images_are_told() -> None:
    (sample,), account = read(annotation(1, stroke("Cat", mask((0, 0)))))
    assert not sample.masks
    assert '"Cat" is not looked for' in str(account)
    found, account = read(annotation(1), url="gone")
    assert not found
    assert "ImageMissing" in str(account)


def test_the_split_is_what_it_was() -> None:
    """What a version was judged by must never be learnt from later."""
    held_out = [task for task in range(1, 41) if part_of(task) is Part.HELD_OUT]
    assert held_out == [2, 3, 8, 11, 19, 29, 30, 33, 36]
    shares = Counter(part_of(task) for task in range(10_000))
    assert abs(shares[Part.HELD_OUT] - 2000) < 150
    assert abs(shares[Part.VALIDATION] - 2000) < 150


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
