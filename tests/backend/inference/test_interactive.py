"""On one generated scene, whose truth is known: what is asked of what.

How well it goes on many scenes is measured in `benchmarks/bench_interactive.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.errors import BadPrompt, BadRequest
from backend.inference import interactive
from backend.inference.masks import under
from backend.inference.predictor import Found, Predictor
from backend.labelstudio.config import Role, parse_label_config
from backend.labelstudio.geometry import Point, Rectangle
from backend.labelstudio.images import TaskImage
from backend.labelstudio.interaction import Interaction
from backend.prompting import Query, queries
from demo.evaluate import iou
from demo.scenes import Look, Scene, generate
from models import Exemplar, ImageFeatures

CONFIG = """<View><Image name="image" value="$image"/><Image name="second" value="$other"/>
<BrushLabels name="brush" toName="image"><Label value="Red circle"/><Label value="Star"/>
<Label value="Odd one" predicted_values="a cat"/></BrushLabels>
<BrushLabels name="aside" toName="second"><Label value="Star" predicted_values="a blue star"/>
</BrushLabels></View>"""
ASKED = queries(parse_label_config(CONFIG), 0.4)
RED_CIRCLE = Look("circle", "red", "plain")
BLUE_STAR = Look("star", "blue", "plain")

Mask = NDArray[np.bool_]


@pytest.fixture
def scene() -> Scene:
    return generate(22, 256, include=[RED_CIRCLE, BLUE_STAR, RED_CIRCLE, BLUE_STAR], count=(4, 4))


@pytest.fixture
def ask(predictor: Predictor, scene: Scene) -> Callable[..., Found]:
    def one(*asked: object, **interaction: object) -> Found:
        image = TaskImage(scene.image, f"{id(scene)}")
        request = Interaction(*asked, **{"to_name": "image", **interaction})  # type: ignore[arg-type]
        return interactive.answer(predictor, ASKED, {"image": image, "other": image}, request)

    return one


def like(scene: Scene, look: Look) -> Mask:
    alike: Mask = np.any([thing.mask for thing in scene.objects if thing.look == look], axis=0)
    return alike


def first(scene: Scene, look: Look) -> Mask:
    return next(thing.mask for thing in scene.objects if thing.look == look)


def around(mask: Mask, margin: int = 3) -> Rectangle:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    left, top = columns[0] - margin, rows[0] - margin
    across, along = columns[-1] + margin + 1 - left, rows[-1] + margin + 1 - top
    return Rectangle(
        100 * left / width, 100 * top / height, 100 * across / width, 100 * along / height
    )


def on(mask: Mask, positive: bool = True) -> Point:
    row, column = (int(places.mean()) for places in np.nonzero(mask))
    return Point(100 * (column + 0.5) / mask.shape[1], 100 * (row + 0.5) / mask.shape[0], positive)


def found(one: Found) -> Mask:
    assert one.mask is not None
    return one.mask


def test_who_asks_is_shown_what_there_is_however_doubtful(
    predictor: Predictor, scene: Scene
) -> None:
    images = {"image": TaskImage(scene.image, f"{id(scene)}")}
    never = np.append(np.zeros(64), -9).astype(np.float32)  # what says of all parts that they go
    sure = [
        replace(query, confidence=0.99, probed="aa", chance=0.5, probe=never) for query in ASKED[:2]
    ]
    star, circle = around(first(scene, BLUE_STAR)), first(scene, RED_CIRCLE)
    for asked in (
        Interaction("red circle", to_name="image"),
        Interaction(label="Star", rectangles=(star,), to_name="image", role=Role.EXEMPLAR),
        Interaction(label="Red circle", points=(on(circle),), to_name="image"),
    ):
        assert found(interactive.answer(predictor, sure, images, asked)).any()


# phrases


def test_a_phrase_is_asked_for_the_label_that_it_means_most_nearly(
    ask: Callable[..., Found], scene: Scene
) -> None:
    answer = ask("the red disc")
    assert answer.query.label == "Red circle"
    assert iou(found(answer), like(scene, RED_CIRCLE)) > 0.8


def test_a_phrase_may_name_another_label(ask: Callable[..., Found], scene: Scene) -> None:
    answer = ask("odd one: a blue star")
    assert answer.query.label == "Odd one"
    assert iou(found(answer), like(scene, BLUE_STAR)) > 0.7


def test_a_labels_name_asks_with_its_exemplars_too(predictor: Predictor, scene: Scene) -> None:
    star = Exemplar(scene.image, mask=first(scene, BLUE_STAR))
    shown = predictor.segmenter.encode_exemplar(star)[0].numpy()
    learnt = replace(ASKED[2], exemplars=("aa",), weights=((1.0, 0.0),), shown=shown)
    images = {"image": TaskImage(scene.image, f"{id(scene)}")}

    def ask(typed: str) -> Found:
        return interactive.answer(predictor, [*ASKED[:2], learnt], images, Interaction(typed))

    for typed in ("Odd one", "Odd one, not the red circle"):
        assert iou(found(ask(typed)), like(scene, BLUE_STAR)) > 0.8
    assert ask("a cat").mask is None  # one of its prompts asks for just that


def test_a_label_may_be_called_what_a_thing_is_not(predictor: Predictor, scene: Scene) -> None:
    images = {"image": TaskImage(scene.image, f"{id(scene)}")}
    xml = CONFIG.replace('"Star"/>', '"Not OK" predicted_values="a blue star"/>')
    asked = queries(parse_label_config(xml), 0.4)
    for phrase, look in (("not ok", BLUE_STAR), ("Not OK: a red circle", RED_CIRCLE)):
        answer = interactive.answer(predictor, asked, images, Interaction(phrase, to_name="image"))
        assert (answer.query.label, answer.query.negatives) == ("Not OK", ())
        assert iou(found(answer), like(scene, look)) > 0.7
    box = around(first(scene, BLUE_STAR))
    other = Interaction("Not OK", label="Odd one", rectangles=(box,), to_name="image")
    assert interactive.answer(predictor, asked, images, other).query.negatives == ()


def test_what_it_is_not_goes_with_the_only_label(predictor: Predictor, scene: Scene) -> None:
    config = """<View><Image name="image" value="$image"/><BrushLabels name="brush" toName="image">
    <Label value="Part" predicted_values="a red circle"/></BrushLabels></View>"""
    asked = queries(parse_label_config(config), 0.4)
    images = {"image": TaskImage(scene.image, "alone")}
    told = Interaction("not a blue star", to_name="image")
    one = interactive.answer(predictor, asked, images, told)
    assert (one.query.label, one.query.negatives) == ("Part", ("a blue star",))
    assert iou(found(one), like(scene, RED_CIRCLE)) > 0.5


def test_nothing_found_is_no_mask(ask: Callable[..., Found]) -> None:
    assert ask("a cat").mask is None


def test_an_unusable_phrase_is_told(ask: Callable[..., Found]) -> None:
    with pytest.raises(BadPrompt, match="token"):
        ask("red " * 500)


def test_a_text_of_a_label_that_cannot_be_asked_spoils_no_phrase(
    predictor: Predictor, scene: Scene
) -> None:
    images = {"image": TaskImage(scene.image, f"{id(scene)}")}
    long = "red " * 100
    xml = CONFIG.replace('"Star"/>', f'"Star" negative_values="{long}, a red circle"/>')
    asked = queries(parse_label_config(xml), 0.4)

    def answer(phrase: str) -> Found:
        request = Interaction(phrase, to_name="image")
        return interactive.answer(predictor, asked, images, request)

    for phrase in ("Star", "Star: a blue star"):
        assert iou(found(answer(phrase)), like(scene, BLUE_STAR)) > 0.7
    with pytest.raises(BadPrompt, match="token"):  # whoever types it can shorten it
        answer(f"Star: a blue star, not {long}")


# rectangles


def test_a_rectangle_finds_the_others_like_what_is_in_it(
    ask: Callable[..., Found], scene: Scene
) -> None:
    answer = ask(label="Odd one", rectangles=(around(first(scene, BLUE_STAR)),))
    assert answer.query.label == "Odd one"
    assert iou(found(answer), like(scene, BLUE_STAR)) > 0.7


def test_several_rectangles_are_one_exemplar(ask: Callable[..., Found], scene: Scene) -> None:
    stars = [thing.mask for thing in scene.objects if thing.look == BLUE_STAR]
    answer = ask(label="Odd one", rectangles=tuple(map(around, stars)))
    assert iou(found(answer), like(scene, BLUE_STAR)) > 0.7


@pytest.mark.parametrize("role", list(Role))
def test_an_older_rectangle_between_pixels_spoils_no_newer_one(
    ask: Callable[..., Found], scene: Scene, role: Role
) -> None:
    between, star = Rectangle(50, 50, 1e-3, 1e-3), around(first(scene, BLUE_STAR))
    alone = ask(label="Star", rectangles=(star,), role=role)
    both = ask(label="Star", rectangles=(between, star), role=role)
    assert (found(both) == found(alone)).all()
    with pytest.raises(BadRequest, match="no pixel"):
        ask(label="Star", rectangles=(star, between), role=role)


def test_with_a_phrase_of_its_label_a_rectangle_is_where_to_look(
    ask: Callable[..., Found], scene: Scene
) -> None:
    one = first(scene, BLUE_STAR)
    box = around(one)
    answer = ask("odd one: a blue star", label="Odd one", rectangles=(box,))
    assert iou(found(answer), one) > 0.7
    assert not (found(answer) & ~box.mask((256, 256))).any()


def test_a_phrase_of_another_label_does_not_count(ask: Callable[..., Found], scene: Scene) -> None:
    box = around(first(scene, BLUE_STAR))
    answer = ask("a red circle", label="Odd one", rectangles=(box,))
    assert iou(found(answer), like(scene, BLUE_STAR)) > 0.7


def test_a_role_decides_whether_or_not_there_is_a_phrase(
    ask: Callable[..., Found], scene: Scene
) -> None:
    one = first(scene, RED_CIRCLE)
    asked = {"label": "Red circle", "rectangles": (around(one),)}
    inside = ask(role=Role.REGION, **asked)
    assert iou(found(inside), one) > 0.8
    everywhere = ask("red circle: a red disc", role=Role.EXEMPLAR, **asked)
    assert iou(found(everywhere), like(scene, RED_CIRCLE)) > 0.8


def test_several_regions_are_looked_at_one_by_one(ask: Callable[..., Found], scene: Scene) -> None:
    boxes = tuple(around(thing.mask) for thing in scene.objects)
    answer = ask(role=Role.REGION, label="Red circle", rectangles=boxes)
    assert iou(found(answer), like(scene, RED_CIRCLE)) > 0.8


def test_a_region_is_seen_from_near_and_not_encoded_twice(
    ask: Callable[..., Found],
    predictor: Predictor,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[int, int]] = []
    encode = predictor.segmenter.encode_image

    def watched(images: Sequence[object]) -> list[ImageFeatures]:
        seen.extend(image.size for image in images)  # type: ignore[attr-defined]
        return encode(images)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor.segmenter, "encode_image", watched)
    rectangles = (Rectangle(0, 50, 25, 12.5),)
    for phrase in ("a red circle", "a red disc"):
        ask(f"red circle: {phrase}", label="Red circle", rectangles=rectangles)
    assert seen == [(128, 128)]


def test_nothing_inside_a_region_is_no_mask(ask: Callable[..., Found], scene: Scene) -> None:
    empty = ~np.any([thing.mask for thing in scene.objects], axis=0)
    row, column = np.argwhere(empty)[0]
    box = Rectangle(100 * column / 256, 100 * row / 256, 2, 2)
    assert ask(role=Role.REGION, label="Red circle", rectangles=(box,)).mask is None


# points


def test_a_point_keeps_the_one_under_it(ask: Callable[..., Found], scene: Scene) -> None:
    one = first(scene, RED_CIRCLE)
    assert iou(found(ask(label="Red circle", points=(on(one),))), one) > 0.8


def test_a_negative_point_drops_the_one_under_it(ask: Callable[..., Found], scene: Scene) -> None:
    one = first(scene, RED_CIRCLE)
    answer = ask(label="Red circle", points=(on(one, positive=False),))
    assert iou(found(answer), like(scene, RED_CIRCLE) & ~one) > 0.8


def test_where_a_labels_words_fail_a_point_shows_what_is_meant(
    ask: Callable[..., Found], scene: Scene
) -> None:
    one = first(scene, BLUE_STAR)
    answer = ask(label="Odd one", points=(on(one),))
    assert answer.query.label == "Odd one"
    assert iou(found(answer), one) > 0.6


def test_of_many_points_the_newest_are_looked_at_one_by_one(
    ask: Callable[..., Found],
    predictor: Predictor,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[object] = []
    condition = predictor.segmenter.condition

    def watched(*asked: object) -> object:
        looked.append(asked)
        return condition(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor.segmenter, "condition", watched)
    one = first(scene, BLUE_STAR)
    empty = np.argwhere(~np.any([thing.mask for thing in scene.objects], axis=0))[:40]
    plain = tuple(Point(100 * column / 256, 100 * row / 256, True) for row, column in empty)
    answer = ask(label="Odd one", points=(*plain, on(one)))
    assert len(looked) <= 2 * interactive.MOST_SHAPES
    assert iou(found(answer), one) > 0.3


def test_older_points_keep_their_parts_and_take_no_time_each(
    ask: Callable[..., Found], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    told_apart: list[object] = []

    def watched(*asked: object) -> Mask:
        told_apart.append(asked)
        return under(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(interactive, "under", watched)
    left, right = (thing.mask for thing in scene.objects if thing.look == BLUE_STAR)
    points = (*[on(left)] * 40, *[on(right)] * interactive.MOST_SHAPES)
    answer = ask(label="Star", points=points)
    assert iou(found(answer), left | right) > 0.7
    assert len(told_apart) <= 2 * interactive.MOST_SHAPES + 2


def test_a_small_thing_is_drawn_from_near(predictor: Predictor) -> None:
    scores = []
    for seed in range(5, 11):
        scene = generate(seed, (640, 480), include=[BLUE_STAR], count=(5, 5), radius=(0.05, 0.06))
        one, images = first(scene, BLUE_STAR), {"image": TaskImage(scene.image, f"small {seed}")}
        asked = Interaction(label="Star", to_name="image", points=(on(one),))
        scores.append(iou(found(interactive.answer(predictor, ASKED, images, asked)), one))
    assert np.mean(scores) > 0.75


def test_several_points_choose_several(ask: Callable[..., Found], scene: Scene) -> None:
    stars = [thing.mask for thing in scene.objects if thing.look == BLUE_STAR]
    answer = ask(label="Star", points=tuple(map(on, stars)))
    assert iou(found(answer), like(scene, BLUE_STAR)) > 0.7


def test_only_what_is_not_meant_leaves_nothing(ask: Callable[..., Found], scene: Scene) -> None:
    circles = [thing.mask for thing in scene.objects if thing.look == RED_CIRCLE]
    points = tuple(on(mask, positive=False) for mask in circles)
    assert ask(label="Red circle", points=points).mask is None


# labels


def test_a_label_is_the_one_of_the_image_that_was_pointed_at(
    ask: Callable[..., Found], scene: Scene
) -> None:
    point = on(first(scene, BLUE_STAR))
    queried: list[Query] = [
        ask(label="Star", to_name=name, points=(point,)).query for name in ("image", "second")
    ]
    assert [query.controls[0].name for query in queried] == ["brush", "aside"]


def test_a_label_that_no_control_can_take_is_told(ask: Callable[..., Found]) -> None:
    with pytest.raises(BadRequest, match='the label "Moon"'):
        ask(label="Moon", points=(Point(1, 1),))


def test_a_shape_without_a_label_goes_by_the_phrase(
    ask: Callable[..., Found], scene: Scene
) -> None:
    point = on(first(scene, RED_CIRCLE))
    assert ask("a red disc", points=(point,)).query.label == "Red circle"
    with pytest.raises(BadPrompt, match="choose a label"):
        ask(points=(point,))


def test_what_chooses_no_phrase_finds_nothing(ask: Callable[..., Found]) -> None:
    with pytest.raises(BadPrompt, match="Nothing is ticked"):
        ask("!", mistaken="Nothing is ticked")
