"""A training's report, in a real browser."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.sync_api import Browser, ViewportSize, expect

from tests.backend.learning.test_page import report
from tests.e2e.browser import FITS

pytestmark = pytest.mark.e2e

NARROW = ViewportSize(width=360, height=740)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_can_be_read_on_a_phone(
    browser: Browser, scheme: Literal["light", "dark"]
) -> None:
    context = browser.new_context(viewport=NARROW, is_mobile=True, color_scheme=scheme)
    page = context.new_page()
    page.set_content(report("x" * 200))
    assert page.evaluate("innerWidth") == NARROW["width"]
    assert page.evaluate(FITS)
    ink = "rgb(0, 0, 0)" if scheme == "light" else "rgb(255, 255, 255)"
    expect(page.locator("h1")).to_have_css("color", ink)
    context.close()
