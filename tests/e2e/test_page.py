"""The page for people, in a real browser, on the real service."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, HttpCredentials, Page, ViewportSize, expect

from backend.learning.versions import Versions
from backend.overlay import COLOURS
from backend.showcase import serving
from demo import CHECKPOINT, IMAGES, LABEL_CONFIG
from models import checkpoint
from tests.backend.learning.history import make
from tests.e2e.browser import FAINT, FITS, UNNAMED, WIDEST, Record
from tests.e2e.conftest import wait_until

pytestmark = pytest.mark.e2e

OUT = Path(__file__).parents[2] / "out/e2e"
USER, PASSWORD = "annotator", "s3cret"
WIDE = ViewportSize(width=1200, height=900)
NARROW = ViewportSize(width=360, height=740)
SCENE = IMAGES / "01-table.jpg"

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which project 3 has versions, and work that was accepted."""
    folder = tmp_path_factory.mktemp("models")
    make(folder, base=checkpoint.digest(CHECKPOINT))
    return folder


@pytest.fixture(scope="module")
def url(models: Path) -> Iterator[str]:
    """The service with the demo checkpoint, behind a password."""
    settings = {"BASIC_AUTH_USER": USER, "BASIC_AUTH_PASS": PASSWORD, "IMAGE_MAX_MB": "2"}
    with serving({**settings, "MODEL_DIR": str(models)}) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Open]:
    """Open the page; afterwards there is no complaint, and no request to another origin."""
    record = Record()
    contexts = []

    def visit(**options: Any) -> Page:
        wanted = {
            "http_credentials": {"username": USER, "password": PASSWORD},
            "viewport": WIDE,
            **options,
        }
        contexts.append(browser.new_context(**wanted))
        page = contexts[-1].new_page()
        record.watch(page)
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert record.errors == []
    assert record.origins <= {url, "data:"}


def ask(page: Page, *phrases: str, image: Path | None = None) -> None:
    if image:
        page.get_by_label("Your image").set_input_files(image)
    page.get_by_label("What to find").fill("\n".join(phrases))
    page.get_by_role("button", name="Show the masks").click()
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    page.wait_for_load_state()  # with its styles


def scores(page: Page) -> dict[str, str]:
    rows = page.locator(".result tbody tr").all()
    return {row.locator("th").inner_text(): row.locator("td").first.inner_text() for row in rows}


def picture(page: Page) -> NDArray[np.uint8]:
    """The picture that is shown, (H, W, 3)."""
    source = page.locator(".picture").get_attribute("src")
    assert source
    content = base64.b64decode(source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)))


def await_refresh(page: Page, part: str) -> None:
    """Until a part of the page is another than now."""
    before = page.locator(part).element_handle()
    wait_until(lambda: not before.evaluate("(one) => one.isConnected"), 15, lambda: part)


def share_of(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> float:
    """The share of pixels that have a colour, nearly."""
    return float((np.abs(pixels.astype(int) - colour).max(axis=2) < 24).mean())


def test_the_playground_is_usable_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    visited = []

    def tab_to(selector: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "() => [document.activeElement.outerHTML.slice(0, 60),"
                " getComputedStyle(document.activeElement).outlineStyle]"
            )
            visited.append(focused)
            if page.locator(selector).evaluate("(one) => one === document.activeElement"):
                return
        raise AssertionError(f"the Tab key does not reach {selector}: {visited}")

    tab_to(".skip")
    tab_to("#image")
    tab_to("input[name=choice]:checked")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    tab_to("#prompts")
    page.keyboard.press("Control+A")
    page.keyboard.type("a red circle\nthe blue thing")
    tab_to("#threshold")
    page.keyboard.press("Control+A")
    page.keyboard.type("0.35")
    tab_to("button")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Result")).to_be_visible()
    assert set(scores(page)) == {"a red circle", "the blue thing"}
    assert all(style != "none" for _, style in visited), visited


def test_control_and_enter_ask_from_within_the_phrases(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("What to find").press("Control+Enter")
    expect(page.get_by_role("heading", name="Result")).to_be_visible()


@pytest.mark.parametrize("key", ["Escape", "x"])
def test_who_stops_the_browser_or_types_anew_can_ask_again(open_page: Open, key: str) -> None:
    page = open_page()
    page.route("**/playground", lambda _: None)  # which never answers
    button = page.get_by_role("button", name="Show the masks")
    button.evaluate("(one) => { one.click(); setTimeout(() => stop(), 500); }")
    expect(button).to_have_attribute("aria-disabled", "true")
    page.get_by_label("What to find").press(key)
    expect(button).not_to_have_attribute("aria-disabled", "true")
    page.unroute("**/playground")
    ask(page, "a red circle")


def test_masks_lie_over_the_image_with_their_scores_and_the_time(open_page: Open) -> None:
    page = open_page()
    before = np.asarray(Image.open(SCENE).convert("RGB"))
    ask(page, "a red circle", "a striped square", "a purple cross", image=SCENE)
    found = scores(page)
    assert float(found["a red circle"]) > 0.5
    assert float(found["a striped square"]) > 0.5
    assert found["a purple cross"] == "not found at this threshold"
    after = picture(page)
    assert after.shape == before.shape
    for colour in COLOURS[:2]:
        assert share_of(after, colour) > share_of(before, colour) + 0.001
    assert share_of(after, COLOURS[2]) <= share_of(before, COLOURS[2]) + 0.001
    times = page.locator(".times").inner_text()
    assert re.findall(r"^(?:Queue|Read|Encode|Decode|Total)$", times, re.MULTILINE) == [
        "Queue",
        "Read",
        "Encode",
        "Decode",
        "Total",
    ]


def test_a_phrase_without_a_gap_leaves_scores_in_sight(open_page: Open) -> None:
    page = open_page(viewport=NARROW)
    ask(page, "a red circle", "x" * 300, image=SCENE)
    table = page.locator(".result .scroll")
    assert table.evaluate("(one) => one.scrollWidth <= one.clientWidth")


def test_a_further_phrase_on_the_same_image_does_not_encode_it_again(
    open_page: Open, tmp_path: Path
) -> None:
    new = tmp_path / "new.png"
    Image.effect_noise((301, 203), 50).convert("RGB").save(new)
    page = open_page()
    ask(page, "a red circle", image=new)
    assert "known" not in page.locator(".times").inner_text()
    ask(page, "the blue thing")
    assert "known" in page.locator(".times").inner_text()
    assert picture(page).shape == (203, 301, 3)


def test_the_browser_goes_back_to_an_answer(browser: Browser, url: str) -> None:
    context = browser.new_context()  # with the option for credentials, nothing is cached
    page = context.new_page()
    page.goto(url.replace("//", f"//{USER}:{PASSWORD}@"))
    for phrase in ("a red circle", "the blue thing"):
        ask(page, phrase)
        expect(page.locator(".result tbody th")).to_have_text(phrase)
    page.go_back()
    expect(page.locator(".result tbody th")).to_have_text("a red circle")
    context.close()


@pytest.mark.parametrize("place", ["#drop", ".empty"])
def test_an_image_can_be_dropped(open_page: Open, place: str) -> None:
    page = open_page()
    content = base64.b64encode((IMAGES / "03-portrait.jpg").read_bytes()).decode()
    page.evaluate(
        """async ([content, place]) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
          document.querySelector(place).dispatchEvent(
            new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
        }""",
        [content, place],
    )
    ask(page, "a red circle")
    with Image.open(IMAGES / "03-portrait.jpg") as image:
        assert picture(page).shape[:2] == (image.height, image.width)


def test_a_choice_takes_the_file_away(open_page: Open) -> None:
    page = open_page()
    page.get_by_label("Your image").set_input_files(SCENE)
    page.get_by_role("radio", name="Demo image portrait").check()
    assert page.get_by_label("Your image").input_value() == ""


def test_everything_works_without_scripts(open_page: Open) -> None:
    page = open_page(java_script_enabled=False)
    ask(page, "a red circle", image=IMAGES / "04-square.png")
    assert "a red circle" in scores(page)
    ask(page, "the blue thing")
    assert "the blue thing" in scores(page)
    page.get_by_role("link", name="Refresh").click()
    expect(page.get_by_text("The masks will be here.")).to_be_visible()


@pytest.mark.parametrize("megabytes", [3, 60])
def test_a_file_beyond_the_limit_is_told(
    open_page: Open, browser: Browser, url: str, tmp_path: Path, megabytes: int
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(megabytes * 2**20))
    credentials = HttpCredentials(username=USER, password=PASSWORD)
    context = browser.new_context(http_credentials=credentials, java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    page.get_by_label("Your image").set_input_files(large)
    page.get_by_role("button", name="Show the masks").click()
    expect(page.get_by_role("alert")).to_contain_text("more than 2 MB")
    context.close()


def test_a_file_beyond_the_limit_is_not_sent(open_page: Open, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(3 * 2**20))
    page = open_page()
    file = page.get_by_label("Your image")
    file.set_input_files(large)
    page.get_by_label("What to find").fill("a phrase")
    page.get_by_role("button", name="Show the masks").click()
    told = "large.png has more than 2 MB, the limit."
    assert file.evaluate("(one) => one.validationMessage") == told
    assert page.get_by_label("What to find").input_value() == "a phrase"
    page.get_by_role("radio", name="Demo image portrait").check()
    ask(page, "a phrase")


def test_what_happens_is_shown_without_asking(open_page: Open, url: str) -> None:
    page = open_page()
    body = {
        "tasks": [{"id": 4711, "data": {"image": "http://10.0.0.1/private.png"}}],
        "project": "42.1",
        "label_config": LABEL_CONFIG.read_text(),
    }
    requests.post(f"{url}/predict", json=body, auth=(USER, PASSWORD), timeout=60)
    row = page.get_by_role("row").filter(has_text="4711")
    expect(row).to_contain_text("ImageRefused", timeout=15_000)
    expect(row).to_contain_text("42")


def test_versions_are_shown_with_what_they_save_and_their_reports(
    open_page: Open, models: Path
) -> None:
    page = open_page()
    served = Versions(models).active(3)
    assert served
    table = page.get_by_role("group", name="Project 3")
    row = table.get_by_role("row").filter(has_text=served.id[:8]).first
    expect(row).to_contain_text("served")
    expect(row).to_contain_text("0.62 → 0.78")
    expect(row).to_contain_text("90 % of 10")
    assert table.get_by_text("rejected").count() == 1
    row.get_by_role("link").click()
    paragraph = page.get_by_text("Report", exact=True)
    expect(paragraph).to_be_visible()
    expect(paragraph).to_have_css("color", "rgb(255, 0, 0)")  # its own style holds


def test_versions_are_shown_anew_without_asking(open_page: Open, models: Path) -> None:
    page = open_page()
    served = page.locator("#versions tr.served").first
    Versions(models).rollback(3)
    first = Versions(models).active(3)
    assert first
    expect(served).to_contain_text(first.id[:8], timeout=15_000)


def test_tables_stay_where_they_were_moved_sideways(open_page: Open) -> None:
    page = open_page(viewport=NARROW)
    page.locator("#versions .scroll").evaluate("(one) => { one.scrollLeft = 150 }")
    await_refresh(page, "#versions")
    assert page.locator("#versions .scroll").evaluate("(one) => one.scrollLeft") == 150


def test_tables_fit_on_paper(open_page: Open) -> None:
    page = open_page(viewport={"width": 718, "height": 1050})  # A4 between a browser's margins
    page.emulate_media(media="print")
    cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).length"
    assert page.locator(".scroll").evaluate_all(cut) == 0


def test_a_password_in_the_address_keeps_nothing_from_being_shown_anew(
    browser: Browser, url: str
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(url.replace("//", f"//{USER}:{PASSWORD}@"))
    await_refresh(page, "#status")
    context.close()


def test_a_service_that_does_not_answer_is_told(browser: Browser, url: str) -> None:
    context = browser.new_context(http_credentials={"username": USER, "password": PASSWORD})
    page = context.new_page()
    page.goto(url)
    service = page.locator("#status dd").first
    expect(service).to_have_text("ready")
    page.route(url, lambda route: route.fulfill(status=502))  # as a proxy in front does
    expect(service).to_have_text("does not answer", timeout=15_000)
    expect(service).to_have_class("bad")
    context.close()


def test_nobody_sees_anything_without_the_password(browser: Browser, url: str) -> None:
    context = browser.new_context()
    assert context.request.get(url, headers={"Accept": "text/html"}).status == 401
    context.close()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("light", {"color_scheme": "light"}),
        ("dark", {"color_scheme": "dark"}),
        ("narrow", {"color_scheme": "light", "viewport": NARROW}),
    ],
)
def test_everybody_can_read_and_name_everything(
    open_page: Open, name: str, options: dict[str, Any]
) -> None:
    page = open_page(**options)
    for state in ("before", "after"):
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(FAINT) == []
        wait_until(lambda: bool(page.evaluate(FITS)), 10, lambda: page.evaluate(WIDEST))
        if state == "before":
            ask(page, "a red circle", "a striped square", "a purple cross", "the blue thing")
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=OUT / f"page-{name}.png", full_page=True)
