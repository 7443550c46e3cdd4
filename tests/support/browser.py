"""A headless Chromium for tests of pages. Knows no page.

Debian's, which playwright only drives: nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",  # in a container there is often none to be had
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
]

# To be run in a page before its own scripts: counts in `window.animations`.
COUNT_ANIMATIONS = """
window.animations = 0;
const animate = Element.prototype.animate;
Element.prototype.animate = function (...given) {
  window.animations += 1;
  return animate.apply(this, given);
};
"""
# Texts that are shown with less than 4.5:1 (WCAG 2.2, 1.4.3) to the ground behind them.
POOR_CONTRAST = """
() => {
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const colour = (text) => text.match(/[0-9.]+/g).map(Number);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0.9) return found;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    const left_out = one.closest(":disabled, script, style, .ghost, .skip");
    if (!texts.currentNode.data.trim() || !one.checkVisibility() || left_out) continue;
    const [over, under] = [light(colour(getComputedStyle(one).color)), light(ground(one))];
    const ratio = (Math.max(over, under) + 0.05) / (Math.min(over, under) + 0.05);
    if (ratio < 4.5) poor.add(`${one.className || one.tagName}: ${ratio.toFixed(2)}`);
  }
  return [...poor];
}
"""
# Controls that somebody who cannot see the page would not know the purpose of.
WITHOUT_NAME = """
() => [...document.querySelectorAll("button, select, input, a, [role=img]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !one.getAttribute("aria-label") && !one.textContent.trim())
  .filter((one) => !one.labels?.length)
  .map((one) => one.outerHTML)
"""


def must_run() -> bool:
    """Whether a missing browser is a failure: REQUIRE_BROWSER=1."""
    return os.environ.get("REQUIRE_BROWSER", "") not in ("", "0")


def found() -> str | None:
    """The path of a Chromium, where there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips without Chromium; REQUIRE_BROWSER=1 makes that a failure."""
    program = found()
    if program is None:
        if must_run():
            pytest.fail("a browser is required here: no Chromium on the PATH", pytrace=False)
        pytest.skip("no browser: no Chromium on the PATH")
    with launched(program) as browser:
        yield browser


@contextmanager
def launched(program: str) -> Iterator[Browser]:
    """That Chromium, without a window; closed at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Complaints:
    """What a page asked of other hosts, failed at, or wrote to its console as an error."""

    def __init__(self, page: Page, origin: str) -> None:
        self.found: list[str] = []
        self._origin = origin
        page.on("request", lambda request: self._look(request.url))
        page.on("pageerror", lambda error: self.found.append(f"page: {error}"))
        page.on(
            "console",
            lambda message: (
                message.type in ("error", "warning")
                and self.found.append(f"console: {message.text}")
            ),
        )

    def _look(self, url: str) -> None:
        if not url.startswith((f"{self._origin}/", "data:")):
            self.found.append(f"asked {url}")
