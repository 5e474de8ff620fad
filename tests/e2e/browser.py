"""Debian's Chromium, and a record of what a page did in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

FLAGS = (
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium without a window: `apt-get install chromium`."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=[*FLAGS])
        yield browser
        browser.close()


@dataclass
class Record:
    """What a page asked for and complained of."""

    errors: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)

    def watch(self, page: Page) -> None:
        """Write down from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.origins.add(_origin(request.url)))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


FITS = "() => document.documentElement.scrollWidth <= innerWidth"
# What reaches farthest to the right, to tell who makes a page too wide.
WIDEST = """() => [...document.querySelectorAll("body *")]
  .map(e => [Math.round(e.getBoundingClientRect().right), e.tagName, e.className])
  .sort((a, b) => b[0] - a[0]).slice(0, 5)"""

# Text whose contrast with what is behind it is below WCAG 2.2's level AA, as "ratio: text".
FAINT = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const [a, b] = [luminance(channels(style.color)), luminance(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${ratio.toFixed(2)}: ${text}`);
  }
  return faint;
}"""

# What people who do not see the page would miss, in words.
UNNAMED = """() => {
  const told = [];
  const tell = (element, what) => told.push(`${what}: ${element.outerHTML.slice(0, 120)}`);
  for (const one of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
    const named = [...one.labels].some((label) => label.textContent.trim()
      || label.querySelector("img[alt]:not([alt=''])"));
    if (!named && !one.getAttribute("aria-label")) tell(one, "no label");
    const hint = one.getAttribute("aria-describedby");
    if (hint && !document.getElementById(hint)) tell(one, "no such hint");
  }
  for (const one of document.querySelectorAll("button, a")) {
    if (!one.textContent.trim()) tell(one, "no name");
  }
  for (const one of document.querySelectorAll("img:not([alt]), img[alt='']")) {
    tell(one, "no alternative text");
  }
  for (const one of document.querySelectorAll("fieldset")) {
    if (!one.querySelector("legend")) tell(one, "no legend");
  }
  for (const one of document.querySelectorAll("[tabindex]")) {
    if (one.tabIndex > 0) tell(one, "out of order");
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  if (new Set(ids).size !== ids.length) told.push("an id occurs twice");
  let level = 0;
  for (const one of document.querySelectorAll("h1, h2, h3, h4")) {
    const next = Number(one.tagName[1]);
    if (next > level + 1) tell(one, "a level is left out");
    level = next;
  }
  if (!document.documentElement.lang) told.push("no language");
  if (!document.title) told.push("no title");
  if (document.querySelectorAll("main").length !== 1) told.push("not one main");
  return told;
}"""
