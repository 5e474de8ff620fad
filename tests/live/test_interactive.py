"""Smart tools through the real service, with the demo checkpoint on scenes whose truth is known."""

import base64
import io
import os
import signal
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from backend.labelstudio import brush
from demo.evaluate import iou
from demo.scenes import Look, Scene, generate
from tests.live.conftest import Up, wait_until

pytestmark = pytest.mark.live

Mask = NDArray[np.bool_]
Json = dict[str, Any]

RED_CIRCLE = Look("circle", "red", "plain")
BLUE_STAR = Look("star", "blue", "plain")
CONFIG = """
<View>
  <TextArea name="prompt" toName="image" rows="1" maxSubmissions="1" editable="true"/>
  {note}
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image">
    <Label value="Red circle"/><Label value="Part" predicted_values="a cat"/>
  </BrushLabels>
  <RectangleLabels name="box" toName="image"><Label value="Part"/></RectangleLabels>
  <KeyPointLabels name="point" toName="image"><Label value="Part"/></KeyPointLabels>
</View>
"""
NOTE = '<TextArea name="note" toName="image" smart="false"/>'
TASKS = count(1)  # what was typed in one counts for what is drawn on it later


@pytest.fixture(scope="module")
def scene() -> Scene:
    return generate(22, 256, include=[RED_CIRCLE, BLUE_STAR, RED_CIRCLE, BLUE_STAR], count=(4, 4))


def ask(up: Up, scene: Scene, *regions: Json, note: str = NOTE, drafts: Any = ()) -> Json:
    file = io.BytesIO()
    scene.image.save(file, "PNG")
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    task = {"id": next(TASKS), "data": {"image": uri}, "drafts": list(drafts)}
    context = {"context": {"result": list(regions)}}
    config = CONFIG.format(note=note)
    answer = up.predict([], tasks=[task], label_config=config, params=context)
    assert answer.status_code == 200
    (entry,) = answer.json()["results"]
    assert isinstance(entry, dict)
    return entry


def typed(text: str) -> Json:
    return {"id": "t", "type": "textarea", "from_name": "prompt", "value": {"text": [text]}}


def drawn(kind: str, name: str, value: Json, **more: Any) -> Json:
    value = {**value, kind: ["Part"]}
    return {"id": name, "type": kind, "from_name": name, "to_name": "image", "value": value, **more}


def rectangle(mask: Mask) -> Json:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right = 100 * columns[0] / 256, 100 * (columns[-1] + 1) / 256
    top, bottom = 100 * rows[0] / 256, 100 * (rows[-1] + 1) / 256
    frame = {"x": left, "y": top, "width": right - left, "height": bottom - top, "rotation": 0}
    return drawn("rectanglelabels", "box", frame)


def point(mask: Mask, positive: bool = True) -> Json:
    row, column = (100 * (places.mean() + 0.5) / 256 for places in np.nonzero(mask))
    place = {"x": column, "y": row, "width": 0.2}
    return drawn("keypointlabels", "point", place, is_positive=positive)


def stars(scene: Scene) -> list[Mask]:
    return [thing.mask for thing in scene.objects if thing.look == BLUE_STAR]


def mask_of(entry: Json, label: str = "Part") -> Mask:
    (region,) = [one for one in entry["result"] if one["type"] == "brushlabels"]
    assert region["value"]["brushlabels"] == [label]
    decoded: Mask = brush.decode(region["value"]["rle"], 256, 256) == 255
    return decoded


def words(entry: Json) -> dict[str, list[str]]:
    texts = [one for one in entry["result"] if one["type"] == "textarea"]
    return {one["from_name"]: one["value"]["text"] for one in texts}


def test_a_typed_phrase(demo: Up, scene: Scene) -> None:
    entry = ask(demo, scene, typed("the red disc"))
    circles = [thing.mask for thing in scene.objects if thing.look == RED_CIRCLE]
    assert iou(mask_of(entry, "Red circle"), circles[0] | circles[1]) > 0.7
    (told,) = words(entry)["note"]
    assert told.startswith("Red circle: found, score 0.")


def test_a_smart_rectangle_gives_the_others_like_it(demo: Up, scene: Scene) -> None:
    one, other = stars(scene)
    assert iou(mask_of(ask(demo, scene, rectangle(one))), one | other) > 0.7
    assert iou(mask_of(ask(demo, scene, rectangle(one), rectangle(other))), one | other) > 0.7


def test_a_smart_rectangle_for_a_phrase_gives_what_lies_inside(demo: Up, scene: Scene) -> None:
    one, _ = stars(scene)
    draft = {"id": 1, "result": [typed("part: a blue star")]}
    assert iou(mask_of(ask(demo, scene, rectangle(one), drafts=[draft])), one) > 0.7


def test_points_choose(demo: Up, scene: Scene) -> None:
    one, other = stars(scene)
    assert iou(mask_of(ask(demo, scene, point(one))), one) > 0.7
    draft = {"id": 1, "result": [typed("part: a blue star")]}
    without = ask(demo, scene, point(one, positive=False), drafts=[draft])
    assert iou(mask_of(without), other) > 0.7


def test_nothing_found_is_told_in_the_note_or_beside_the_phrase(demo: Up, scene: Scene) -> None:
    told = "part: a cat ⚠ Part: nothing found"
    assert words(ask(demo, scene, typed("part: a cat"))) == {"note": [told]}
    assert words(ask(demo, scene, typed("part: a cat"), note="")) == {"prompt": [told]}
    corrected = ask(demo, scene, typed(told.replace("a cat", "a blue star")), note="")
    assert words(corrected) == {"prompt": ["part: a blue star"]}
    assert mask_of(corrected).any()


def test_what_failed_is_told(demo: Up, scene: Scene) -> None:
    (told,) = words(ask(demo, scene, typed("red " * 500)))["note"]
    assert "token" in told
    assert demo.get("/jobs")["ended"][0]["error"] == "BadPrompt"
    elsewhere = rectangle(stars(scene)[0])
    elsewhere["value"]["rectanglelabels"] = ["Whole"]
    (told,) = words(ask(demo, scene, elsewhere))["note"]
    assert told.startswith('⚠ No control to fill has the label "Whole"')


def test_a_second_phrase_and_a_restart_encode_nothing_again(demo: Up, scene: Scene) -> None:
    ask(demo, scene, typed("a red circle"))
    kept = sorted((demo.data_dir / "features").iterdir())
    assert kept
    worker = demo.worker()
    ask(demo, scene, typed("a blue star"))
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: demo.family("backend.cli worker") not in ([], [worker]))
    ask(demo, scene, typed("a green cross"))
    assert sorted((demo.data_dir / "features").iterdir()) == kept
