"""What the playground makes of a form."""

import io
import time
from base64 import b64decode
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from werkzeug.datastructures import FileStorage

from backend.errors import BadRequest, DeadlineExceeded, ImageMissing, ImageUnreadable
from backend.labelstudio.config import parse_label_config
from backend.labelstudio.negation import understood
from backend.overlay import LONGEST_SIDE
from backend.settings import Settings
from backend.web.playground import (
    KEPT,
    KEPT_BYTES,
    MOST_PROMPTS,
    Asked,
    Picked,
    Playground,
    read_prompts,
)
from demo import IMAGES
from tests.backend.web.finding import PlaygroundQueue

SAMPLES = {path.name: path for path in IMAGES.iterdir()}


@pytest.fixture
def playground() -> Playground:
    return Playground(Settings(image_max_mb=40), None, SAMPLES, lambda: False)  # type: ignore[arg-type]


class Watched(PlaygroundQueue):
    """Tells what it was asked, and takes its time to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.patience: list[float] = []  # seconds
        self.finished: list[Any] = []

    def submit(self, payloads: list[dict[str, Any]], **said: Any) -> list[Any]:
        self.patience.append(said["deadline"])
        return super().submit(payloads, **said)

    def wait(self, jobs: list[Any], deadline: float, *_: Any) -> list[Any]:
        self.patience.append(deadline - time.monotonic())
        time.sleep(0.02)
        return super().wait(jobs)

    def finish(self, jobs: list[Any]) -> None:
        self.finished += jobs


ASKED = Asked(Picked(Image.new("RGB", (1, 1)), KEPT), ("a dog",), 0.3)


def upload(width: int, height: int, kind: str, **options: object) -> FileStorage:
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(file, kind, **options)
    file.seek(0)
    return FileStorage(file, "mine.png")


def test_phrases_stand_on_lines_or_between_commas_and_count_once() -> None:
    assert read_prompts(" a dog,a  cat\r\n\n a dog ,") == ("a dog", "a cat")
    assert read_prompts("汽车，卡车、a dog، قط") == ("汽车", "卡车", "a dog", "قط")
    assert read_prompts("汽车， not its shadow") == ("汽车， not its shadow",)


@pytest.mark.parametrize(
    ("typed", "phrase"),
    [
        ("a\u00a0red\u3000circle", "a red circle"),  # spaces of web pages, and of Chinese
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("\u200ea sail\u00adboat\u200b", "a sailboat"),
    ],
)
def test_what_nobody_sees_parts_no_phrase(typed: str, phrase: str) -> None:
    assert read_prompts(typed) == (phrase,)


@given(st.text())
def test_whatever_is_typed_asks_for_what_was_typed_or_is_refused(text: str) -> None:
    try:
        prompts = read_prompts(text)
    except BadRequest:
        return
    asked = replace(ASKED, prompts=prompts)
    config = parse_label_config(asked.body()["label_config"])
    (control,) = config.outputs
    assert config.problems == ()
    assert [label.value for label in control.labels] == list(prompts)
    said = [understood(prompt)[0] for prompt in prompts]
    assert [label.prompts for label in control.labels] == [(prompt,) for prompt in said]
    assert {label.threshold for label in control.labels} == {0.3}


def test_what_follows_a_not_is_taken_away() -> None:
    prompts = read_prompts("a cup, not a mug, but  not a pot, a knot\na jug (not a jar)")
    assert prompts == ("a cup, not a mug, but not a pot", "a knot", "a jug (not a jar)")
    asked = replace(ASKED, prompts=prompts)
    (control,) = parse_label_config(asked.body()["label_config"]).outputs
    assert [(label.prompts, label.negatives) for label in control.labels] == [
        (("a cup",), ("a mug", "a pot")),
        (("a knot",), ()),
        (("a jug",), ("a jar",)),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" ,\n", "Nothing to look for"),
        ("a pot\nnot a pan", "“not a pan” does not say what to look for"),
        (",".join(map(str, range(MOST_PROMPTS + 1))), f"at most {MOST_PROMPTS}"),
        ("x" * 501, "shorten it"),
    ],
)
def test_phrases_that_cannot_be_asked_are_refused(text: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        read_prompts(text)


@pytest.mark.parametrize("threshold", ["0", "1", "-1", "nan", "much"])
def test_a_threshold_is_a_probability(playground: Playground, threshold: str) -> None:
    with pytest.raises(BadRequest, match="between 0 and 1"):
        playground.read({"threshold": threshold, "prompts": "x"}, ASKED.picked)


@pytest.mark.parametrize("threshold", ["", " "])
def test_who_leaves_the_threshold_out_asks_with_that_of_the_settings(threshold: str) -> None:
    playground = Playground(Settings(threshold=0.7), None, {}, lambda: False)  # type: ignore[arg-type]
    asked = playground.read({"threshold": threshold, "prompts": "x"}, ASKED.picked)
    assert asked.threshold == 0.7


def test_a_file_wins_over_the_chosen_image(playground: Playground) -> None:
    form = {"choice": "01-table.jpg"}
    assert playground.pick(form, upload(30, 20, "PNG")).image.size == (30, 20)
    assert playground.pick(form, FileStorage(io.BytesIO(), "")).image.size != (30, 20)


def test_an_image_that_comes_back_is_sent_as_it_was(playground: Playground) -> None:
    first = playground.pick({}, upload(30, 20, "PNG"))
    again = playground.pick({"choice": first.uri}, None)
    assert again.uri == first.uri


def test_a_large_file_is_sent_as_a_smaller_image(playground: Playground) -> None:
    large = upload(2600, 2000, "PNG", compress_level=0)
    picked = playground.pick({}, large)
    sent = b64decode(picked.uri.removeprefix(KEPT))
    assert len(sent) <= KEPT_BYTES
    with Image.open(io.BytesIO(sent)) as image:
        assert image.size == picked.image.size
        assert max(image.size) == LONGEST_SIDE


def test_the_file_of_who_is_sent_away_is_saved(playground: Playground) -> None:
    small = upload(30, 20, "PNG").read()
    kept = playground.save(FileStorage(io.BytesIO(small), "mine.png"))
    assert b64decode(kept.removeprefix(KEPT)) == small
    large = upload(2600, 2000, "PNG", compress_level=0)
    saved = playground.save(large)
    assert saved.startswith(KEPT)
    assert max(playground.pick({"choice": saved}, None).image.size) == LONGEST_SIDE
    assert playground.save(FileStorage(io.BytesIO(bytes(KEPT_BYTES + 1)), "mine.png")) == ""


def test_who_is_sent_away_waits_for_no_other_image_for_long(
    playground: Playground, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []

    def opening(content: bytes, *_: object) -> Image.Image:
        saved.append(playground.save(FileStorage(io.BytesIO(bytes(KEPT_BYTES + 1)), "mine.png")))
        saved.append(playground.save(upload(30, 20, "PNG")))
        return Image.open(io.BytesIO(content))

    monkeypatch.setattr("backend.web.playground.open_image", opening)
    monkeypatch.setattr("backend.web.playground.PATIENCE", 0.01)
    playground.pick({}, upload(30, 20, "PNG"))
    large, small = saved
    assert large == ""
    assert small.startswith(KEPT)


@pytest.mark.parametrize("choice", ["", "../card.py", "/etc/passwd", "data:image/png;base64,AAAA"])
def test_only_the_demo_images_can_be_chosen(playground: Playground, choice: str) -> None:
    with pytest.raises(ImageMissing, match="No image is chosen"):
        playground.pick({"choice": choice}, None)


@pytest.mark.parametrize("content", [b"", b"no image", b"<svg/>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused_by_its_name(playground: Playground, content: bytes) -> None:
    with pytest.raises(ImageUnreadable, match=r"mine\.png"):
        playground.pick({}, FileStorage(io.BytesIO(content), "mine.png"))


def test_a_file_beyond_the_limit_is_refused_with_the_limit(tmp_path: Path) -> None:
    small = Playground(Settings(image_max_mb=1), None, SAMPLES, lambda: False)  # type: ignore[arg-type]
    with pytest.raises(ImageUnreadable, match=r"more than 1 MB.*IMAGE_MAX_MB"):
        small.pick({}, upload(900, 900, "PNG"))


def test_an_image_of_more_pixels_than_the_limit_is_refused_with_the_limit() -> None:
    small = Playground(Settings(image_max_megapixels=1), None, {}, lambda: False)  # type: ignore[arg-type]
    assert small.pick({}, upload(1000, 1000, "JPEG")).image.size
    with pytest.raises(ImageUnreadable, match=r"IMAGE_MAX_MEGAPIXELS"):
        small.pick({}, upload(1001, 1000, "JPEG"))


@pytest.mark.parametrize("comes", [True, False])
def test_an_answer_is_waited_for_until_the_deadline_and_leaves_nothing_behind(comes: bool) -> None:
    queue = Watched()
    queue.answer = queue.find if comes else lambda _: None
    playground = Playground(Settings(predict_deadline=9), queue, {}, lambda: False)  # type: ignore[arg-type]
    with nullcontext() if comes else pytest.raises(DeadlineExceeded, match="within 9 s"):
        playground.ask(ASKED)
    assert queue.patience == [9, pytest.approx(9, abs=1)]
    assert queue.finished == [payload for payload, _ in queue.submitted]


def test_the_parts_of_the_time_add_up_to_all_of_it() -> None:
    playground = Playground(Settings(), Watched(), {}, lambda: False)  # type: ignore[arg-type]
    spent = dict(playground.ask(ASKED).milliseconds)
    total = spent.pop("total")
    assert 20 < total < 10_000
    assert spent["fetch"] == 1
    assert sum(spent.values()) == pytest.approx(total)


def test_an_image_that_came_back_broken_is_refused(playground: Playground) -> None:
    with pytest.raises(ImageUnreadable, match="add it again"):
        playground.pick({"choice": KEPT + "?"}, None)
