"""Every form of region on a real Label Studio: drawn as sent, saved as sent, labeled."""

from __future__ import annotations

import base64
import io
import uuid
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from backend.labelstudio import brush
from demo import IMAGES
from tests.e2e.client import Client
from tests.e2e.conftest import AUTH, Promptbrush
from tests.e2e.editor import Editor, Mask, iou
from tests.e2e.label_studio import Server

pytestmark = pytest.mark.e2e

LABEL = '<Label value="Red circle" predicted_values="a red circle, red circle"/>'
FORMS = ("Brush", "Bitmask", "Polygon", "Rectangle")
LABELED = "".join(
    f'<{form}Labels name="{form}" toName="image" model_output="true">{LABEL}</{form}Labels>'
    for form in FORMS
)
SEPARATE = (
    "".join(f'<{form} name="{form}" toName="image" model_output="true"/>' for form in FORMS)
    + f'<Labels name="labels" toName="image">{LABEL}</Labels>'
)

# A canvas as large as the image, filled as the editor fills a polygon.
FILL = """([rings, width, height]) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  for (const ring of rings) {
    context.beginPath();
    for (const [x, y] of ring) context.lineTo(x * width / 100, y * height / 100);
    context.closePath();
    context.fill();
  }
  return canvas.toDataURL();
}"""


@pytest.mark.parametrize("controls", [LABELED, SEPARATE], ids=["labeled", "separate"])
def test_every_form_is_drawn_and_saved_as_it_was_sent(
    studio: Server,
    client: Client,
    backend: str,
    promptbrush: Promptbrush,
    editor: Editor,
    controls: str,
) -> None:
    xml = f'<View><Image name="image" value="$image"/>{controls}</View>'
    project = client.create_project(f"forms {uuid.uuid4().hex[:6]}", xml)["id"]
    image = str(IMAGES / "01-table.jpg")
    run = promptbrush("connect", "--project", str(project), "--images", image)
    assert run.returncode == 0, run.stdout + run.stderr
    [task] = client.tasks(project)
    expected = asked(backend, task, xml)
    editor.open(project, task["id"])
    drawn = editor.regions(len({region["id"] for region in expected}))
    editor.shot("opened")
    assert {region.kind for region in drawn} == {f"{form.lower()}region" for form in FORMS}
    assert {region.label for region in drawn} == {"Red circle"}
    editor.submit()
    [annotation] = client.annotations(task["id"])
    assert [shape(region) for region in annotation["result"]] == [shape(r) for r in expected]
    assert len(annotation["result"]) == len(expected)

    values = [(region["type"], region["value"]) for region in annotation["result"]]
    size = expected[0]["original_height"], expected[0]["original_width"]
    [mask] = [
        brush.decode(value["rle"], *size) >= 128
        for kind, value in values
        if kind in {"brush", "brushlabels"}
    ]
    [bitmask] = [
        opaque(value["imageDataURL"]) for kind, value in values if kind.startswith("bitmask")
    ]
    np.testing.assert_array_equal(bitmask, mask)
    rings = [value["points"] for kind, value in values if kind.startswith("polygon")]
    filled = opaque(editor.page.evaluate(FILL, [rings, size[1], size[0]]))
    assert iou(filled, mask) >= 0.97


def asked(backend: str, task: dict[str, Any], xml: str) -> list[dict[str, Any]]:
    """What the backend answers for a task."""
    answer = requests.post(
        f"{backend}/predict",
        auth=AUTH,
        json={"tasks": [task], "label_config": xml},
        timeout=100,
    )
    [prediction] = answer.json()["results"]
    regions: list[dict[str, Any]] = prediction["result"]
    return regions


def shape(region: dict[str, Any]) -> tuple[Any, ...]:
    """What has to survive: whose it is, and what it looks like."""
    return region["from_name"], region["type"], region["value"]


def opaque(uri: str) -> Mask:
    """The pixels of a PNG that are not transparent."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGBA"))[:, :, 3] >= 128
