"""The CLIPSeg checkpoint as shipped, and the pictures it is shown on."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from demo import CHECKPOINT, IMAGES
from demo.evaluate import ABSENT, EXEMPLAR, THRESHOLD, Row, evaluate, iou, table, truth
from demo.phrases import Query
from demo.pictures import PICTURES
from demo.scenes import Look, generate
from models import Exemplar, Segmenter


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def rows(segmenter: Segmenter) -> dict[str, Row]:
    return {row.kind: row for row in evaluate(segmenter, scenes=20, seed=31, progress=False)}


def test_no_progress_is_drawn_where_there_is_no_terminal(
    segmenter: Segmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(segmenter, scenes=1, seed=31)
    assert capsys.readouterr().err == ""


def test_it_weighs_less_than_eight_megabytes() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 8_000_000


@pytest.mark.parametrize(
    ("kind", "bar"),
    [("colour", 0.75), ("colour+shape", 0.75), ("texture+shape", 0.55), (EXEMPLAR, 0.65)],
)
def test_it_finds_what_it_is_asked_for(rows: dict[str, Row], kind: str, bar: float) -> None:
    assert rows[kind].score > bar


def test_it_leaves_the_rest_alone(rows: dict[str, Row]) -> None:
    assert rows[ABSENT].score < 0.03


def test_the_table_has_a_line_for_every_kind(rows: dict[str, Row]) -> None:
    lines = table(list(rows.values())).splitlines()
    assert len(lines) == 1 + len(rows)
    assert "of the image marked" in lines[-1]


@pytest.mark.parametrize(
    ("prompt", "query"),
    [
        ("a red circle", Query(shape="circle", colour="red")),
        ("striped square", Query(shape="square", texture="striped")),
        ("the blue thing", Query(colour="blue")),
        ("a photo of a green star.", Query(shape="star", colour="green")),
    ],
)
def test_it_draws_on_the_demo_pictures(segmenter: Segmenter, prompt: str, query: Query) -> None:
    scores = []
    for name, size, seed, looks in PICTURES:
        scene = generate(seed, size, include=looks, count=(len(looks), len(looks)))
        wanted = truth(scene, query)
        if wanted.any():
            features = segmenter.encode_image([Image.open(IMAGES / name)])
            answer = segmenter.segment(features, segmenter.encode_text([prompt]))[0][0]
            scores.append(iou(answer.numpy() > THRESHOLD, wanted))
    assert len(scores) >= 3
    assert sum(scores) / len(scores) > 0.75


def test_the_pictures_are_as_described() -> None:
    for picture in PICTURES:
        with Image.open(IMAGES / picture.name) as image:
            assert ImageOps.exif_transpose(image).size == picture.size
    with Image.open(IMAGES / "05-turned.jpg") as image:
        assert image.size == (600, 480)


def test_words_and_pictures_can_be_mixed(segmenter: Segmenter) -> None:
    scene = generate(77)
    target = scene.objects[0]
    features = segmenter.encode_image([scene.image])
    said = segmenter.encode_text([f"the {Query(*target.look).simple()}"])
    shown = segmenter.encode_exemplar(Exemplar(scene.image, target.mask))
    answer = segmenter.segment(features, torch.lerp(said, shown, 0.5))[0][0]
    assert iou(answer.numpy() > THRESHOLD, truth(scene, Query(*target.look))) > 0.6


def test_a_word_that_it_never_met_finds_nothing(segmenter: Segmenter) -> None:
    said = segmenter.encode_text(["zorp", "widget-7", "tumor", "banana", "class 3", "red hexagon"])
    for seed in range(900, 910):
        features = segmenter.encode_image([generate(seed).image])
        answer = segmenter.segment(features, said)[0]
        assert (answer > THRESHOLD).float().mean(dim=(1, 2)).max() < 0.01


def test_a_word_that_changes_nothing_is_passed_over(segmenter: Segmenter) -> None:
    said = segmenter.encode_text(["big red thing", "the small red object"])
    scores = []
    for seed in range(20):
        scene = generate(seed, include=[Look("star", "red", "striped")])
        answers = segmenter.segment(segmenter.encode_image([scene.image]), said)[0].numpy()
        right = truth(scene, Query(colour="red"))
        scores += [iou(answer > THRESHOLD, right) for answer in answers]
    assert sum(scores) / len(scores) > 0.75


def test_a_box_shows_as_much_as_a_mask(segmenter: Segmenter) -> None:
    scores: dict[str, list[float]] = {"box": [], "mask": []}
    for seed in range(20):
        scene = generate(seed)
        target = scene.objects[0]
        other = generate(1000 + seed, include=[target.look])
        mask = other.objects[0].mask
        box = tuple(np.add(np.array(Image.fromarray(mask).getbbox()), (-1, -1, 1, 1)))
        shown = [Exemplar(other.image, box=box), Exemplar(other.image, mask)]
        features = segmenter.encode_image([scene.image])
        answers = segmenter.segment(features, segmenter.encode_exemplar(shown))[0].numpy()
        for kind, answer in zip(scores, answers, strict=True):
            scores[kind].append(iou(answer > THRESHOLD, truth(scene, Query(*target.look))))
    assert np.mean(scores["box"]) > 0.7
    assert np.mean(scores["mask"]) - np.mean(scores["box"]) < 0.08
