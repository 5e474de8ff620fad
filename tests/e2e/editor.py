"""Label Studio's editor, as an annotator uses it, and what it has drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, Response, expect

from tests.e2e.label_studio import EMAIL, OUT, PASSWORD

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the image

# What is in the annotation ("areas") or waits to be accepted ("suggestions"). A mask is read from
# the picture that the canvas draws, which is as large as the task's image.
REGIONS = """(where) => {
  const annotation = window.dataManager?.lsf?.lsf?.annotationStore?.selected;
  if (!annotation) return null;
  return Array.from(annotation[where].values()).map((region) => {
    const picture = region.layerRef?.findOne("Image")?.image();
    let mask = null;
    if (picture?.naturalWidth) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
      canvas.getContext("2d").drawImage(picture, 0, 0);
      mask = canvas.toDataURL();
    }
    return {
      id: region.id, kind: region.type, label: region.labels?.[0] ?? null, score: region.score,
      origin: region.origin, mask,
    };
  });
}"""

TEXTS = """() => {
  const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
  const texts = {};
  for (const result of annotation.results) {
    if (result.type === "textarea") texts[result.from_name.name] = [...result.mainValue];
  }
  return texts;
}"""

TICKED = """(name) => {
  const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
  const choices = annotation.results.filter((one) => one.type === "choices");
  const ours = choices.filter((one) => one.from_name.name === name);
  return ours.flatMap((one) => [...one.mainValue]);
}"""

# After a task is opened Label Studio may put another annotation in the place of the one that it
# showed first, and with it an empty prompt: what was typed before that is lost.
SETTLED = """(still) => {
  const annotation = window.dataManager?.lsf?.lsf?.annotationStore?.selected;
  const names = annotation ? Array.from(annotation.names.values()) : [];
  const shown = names.some((tag) => tag.type === "image" && tag.imageIsLoaded);
  const now = performance.now();
  if (!shown || window.settling?.annotation !== annotation) {
    window.settling = { annotation, since: now };
    return false;
  }
  return now - window.settling.since >= still;
}"""
STILL = 1500  # ms

# How many predictions the browser got with the task.
RECEIVED = "() => window.dataManager?.lsf?.task?.predictions?.length ?? 0"

SELECT_SMART_TOOL = """(name) => {
  const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
  annotation.unselectAll();
  const image = Array.from(annotation.names.values()).find((tag) => tag.type === "image");
  const manager = image.getToolsManager();
  manager.selectTool(manager.allTools().find((t) => t.dynamic && t.toolName === name), true);
}"""

# The image, a quarter to the left, and where it is on the page then.
TURN = """() => {
  const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
  Array.from(annotation.names.values()).find((tag) => tag.type === "image").rotate(-90);
}"""
FRAME = """() => {
  const boxes = Array.from(document.images, (one) => one.getBoundingClientRect());
  const [largest] = boxes.sort((a, b) => b.width * b.height - a.width * a.height);
  return [largest.left, largest.top, largest.width, largest.height];
}"""

SELECT_REGION = """(label) => {
  const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
  annotation.unselectAll();
  const regions = Array.from(annotation.areas.values());
  annotation.selectArea(regions.find((region) => region.labels?.[0] === label));
}"""


@dataclass(frozen=True)
class Region:
    """Something drawn; `mask` is what the canvas shows of a brush, (H, W)."""

    id: str
    kind: str
    label: str | None
    score: float | None
    origin: str
    mask: Mask | None


class Editor:
    """One annotator's browser page; `name` is that of its screenshots."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self._url = url
        self._name = name
        self._shots = 0
        self._turned = False

    def sign_in(self) -> None:
        """Through the form, as people do."""
        self.page.goto(f"{self._url}/user/login/")
        self.page.fill("input[name=email]", EMAIL)
        self.page.fill("input[name=password]", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda url: "login" not in url, wait_until="commit")

    def open(self, project: int, task: int) -> None:
        """A task, from the project's list."""
        self.page.goto(f"{self._url}/projects/{project}/data?task={task}")
        self._image()

    def retrieve_predictions(self, project: int) -> None:
        """For all tasks, through the Data Manager; returns when Label Studio has answered."""
        page = self.page
        page.goto(f"{self._url}/projects/{project}/data")
        page.get_by_label("Select all rows").check(force=True)
        page.get_by_role("button", name="Tasks Actions").click()
        page.get_by_text("Retrieve Predictions").click()
        with page.expect_response(
            lambda r: "id=retrieve_tasks_predictions" in r.url, timeout=120_000
        ) as sent:
            page.locator("button", has_text="OK").click()
        assert sent.value.ok

    def label_all(self, project: int) -> int:
        """Start labeling; gives the id of the task that is served first."""
        self.page.goto(f"{self._url}/projects/{project}/data")
        with self.page.expect_response(_serves_task) as sent:
            self.page.locator("button", has_text="Label All Tasks").click()
        self._image()
        return int(sent.value.json()["id"])

    def submit_for_next(self) -> int:
        """Save the annotation while labeling; gives the id of the task that is served next."""
        with self.page.expect_response(_serves_task) as sent:
            self.submit()
        self._image()
        return int(sent.value.json()["id"])

    def shot(self, what: str) -> None:
        """A picture for people to look at."""
        self._shots += 1
        self.page.screenshot(path=OUT / f"{self._name}-{self._shots}-{what}.png")

    # what is there

    def regions(self, count: int | None = None) -> list[Region]:
        """What the annotation holds, once there are `count` regions and all are drawn."""
        return self._drawn("areas", count)

    def suggestions(self, count: int | None = None) -> list[Region]:
        """What waits to be accepted or rejected, once there are `count` and all are drawn."""
        return self._drawn("suggestions", count)

    def texts(self) -> dict[str, list[str]]:
        """What each text area holds."""
        texts: dict[str, list[str]] = self.page.evaluate(TEXTS)
        return texts

    def ticked(self, name: str) -> list[str]:
        """What is ticked of choices."""
        ticked: list[str] = self.page.evaluate(TICKED, name)
        return ticked

    # what an annotator does

    def turn(self) -> None:
        """Turn the image a quarter to the left: it is as wide then as it was high."""
        self.page.evaluate(TURN)
        self.page.wait_for_timeout(STILL)
        self._turned = True

    def auto_annotation(self) -> None:
        """Switch on that prompts are answered; the browser remembers it."""
        toggle = self.page.get_by_text("Auto-Annotation", exact=True)
        expect(toggle).to_be_visible()
        if not self.page.evaluate("() => window.dataManager.lsf.lsf.autoAnnotation"):
            toggle.click()

    def type_prompt(self, text: str) -> dict[str, Any]:
        """Type into the first text area and press Enter; gives the backend's answer."""
        area = self.page.locator("[data-testid=textarea-input]").first
        area.fill(text)
        return self._answer(lambda: area.press("Enter"))

    def edit_prompt(self, text: str) -> dict[str, Any]:
        """Change what was typed into the first text area; gives the backend's answer."""
        control = self.page.locator("[data-testid=textarea-control]").first
        control.get_by_label("Edit Region").first.click(force=True)
        area = control.locator("input, textarea").last
        area.fill(text)
        return self._answer(lambda: area.press("Enter"))

    def tick(self, choice: str) -> None:
        """Tick a choice, or take its tick away."""
        self.page.locator(".lsf-choices").get_by_text(choice).first.click()

    def draw_box(self, label: str, box: Box, labels: int = 1) -> dict[str, Any]:
        """A smart rectangle; gives the backend's answer.

        Args:
            label: Which label it is for.
            box: Where.
            labels: Which of the rows of labels is the rectangles', from 0.
        """
        self._choose(label, labels, "RectangleTool")
        return self._answer(lambda: self._drag(box))

    def click_point(
        self, label: str, x: float, y: float, *, negative: bool = False, labels: int = 2
    ) -> dict[str, Any]:
        """A smart keypoint; a negative one says what is not meant. Gives the backend's answer."""
        self._choose(label, labels, "KeyPointTool")

        def click() -> None:
            with self._held("Alt" if negative else None):
                self.page.mouse.click(*self._at(x, y))

        return self._answer(click)

    def stroke(self, label: str, box: Box) -> None:
        """A stroke of the brush, from the upper left corner to the lower right one."""
        self.page.locator(".lsf-labels").first.get_by_text(label, exact=True).click()
        self.page.wait_for_timeout(500)
        self._drag(box)

    def accept(self) -> None:
        """Take all suggestions into the annotation."""
        self.page.locator("[data-testid=bottombar-accept-suggestions-button]").click()
        self.page.wait_for_function(
            "() => !window.dataManager.lsf.lsf.annotationStore.selected.suggestions.size"
        )

    def remove(self, label: str) -> None:
        """Delete the first region of a label."""
        count = len(self.regions())
        self.page.evaluate(SELECT_REGION, label)
        self.page.keyboard.press("Backspace")
        self.regions(count - 1)

    def submit(self) -> dict[str, Any]:
        """Save the annotation; gives it as it was saved."""
        with self.page.expect_response(_saves_annotation) as saved:
            self.page.get_by_role("button", name="Submit").or_(
                self.page.get_by_role("button", name="Update")
            ).first.click()
        assert saved.value.ok
        annotation: dict[str, Any] = saved.value.json()
        return annotation

    # how

    def _image(self) -> None:
        """Wait until the task's image is shown, in an annotation that stays."""
        self.page.wait_for_function(SETTLED, arg=STILL, timeout=60_000)
        self.page.locator(".konvajs-content").first.wait_for()

    def _drawn(self, where: str, count: int | None) -> list[Region]:
        regions, complete = self._await_drawn(where, count)
        if where == "areas" and count and not regions and self.page.evaluate(RECEIVED):
            # seldom Label Studio shows an empty annotation beside the prediction that it got, and
            # a person opens the task again
            self.page.reload()
            self._image()
            regions, complete = self._await_drawn(where, count)
        if not complete:
            raise AssertionError(f"{where}: {len(regions)} instead of {count}: {regions}"[:2000])
        return [Region(**{**region, "mask": _mask(region["mask"])}) for region in regions]

    def _await_drawn(self, where: str, count: int | None) -> tuple[list[dict[str, Any]], bool]:
        """What there is after ten seconds at most, and whether that is all, and drawn."""
        regions: list[dict[str, Any]] = []
        for _ in range(100):
            regions = self.page.evaluate(REGIONS, where) or []
            unseen = [r for r in regions if r["kind"] == "brushregion" and r["mask"] is None]
            if not unseen and count in {None, len(regions)}:
                return regions, True
            self.page.wait_for_timeout(100)
        return regions, False

    def _answer(self, deed: Callable[[], Any]) -> dict[str, Any]:
        """What the backend answers to a deed, as the browser gets it."""
        with self.page.expect_response(
            lambda r: "interactive-annotating" in r.url, timeout=120_000
        ) as sent:
            deed()
        answer: dict[str, Any] = sent.value.json()
        return answer

    def _drag(self, box: Box) -> None:
        """From the upper left to the lower right corner."""
        left, top, right, bottom = box
        mouse = self.page.mouse
        mouse.move(*self._at(left, top))
        mouse.down()
        mouse.move(*self._at((left + right) / 2, (top + bottom) / 2), steps=5)
        mouse.move(*self._at(right, bottom), steps=5)
        mouse.up()

    def _choose(self, label: str, row: int, tool: str) -> None:
        self.page.evaluate(SELECT_SMART_TOOL, tool)
        self.page.locator(".lsf-labels").nth(row).get_by_text(label, exact=True).click()

    def _at(self, x: float, y: float) -> tuple[float, float]:
        """Where on the page a pixel of the image is."""
        width, height = self.page.evaluate(
            """() => {
              const annotation = window.dataManager.lsf.lsf.annotationStore.selected;
              const names = Array.from(annotation.names.values());
              const image = names.find((tag) => tag.type === "image");
              return [image.naturalWidth, image.naturalHeight];
            }"""
        )
        if self._turned:
            left, top, across, along = self.page.evaluate(FRAME)
            return left + y / height * across, top + (1 - x / width) * along
        box = self.page.locator(".konvajs-content").first.bounding_box()
        assert box
        return box["x"] + x / width * box["width"], box["y"] + y / height * box["height"]

    @contextmanager
    def _held(self, key: str | None) -> Iterator[None]:
        if key:
            self.page.keyboard.down(key)
        yield
        if key:
            self.page.keyboard.up(key)


def iou(one: Mask, other: Mask) -> float:
    """How well two masks agree, from 0 to 1."""
    return float((one & other).sum() / (one | other).sum())


def _saves_annotation(response: Response) -> bool:
    return "/annotations" in response.url and response.request.method in {"POST", "PATCH"}


def _serves_task(response: Response) -> bool:
    return "id=next_task" in response.url


def _mask(uri: str | None) -> Mask | None:
    """The opaque pixels of a PNG."""
    if uri is None:
        return None
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))[:, :, 3] >= 128
