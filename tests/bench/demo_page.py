"""The first click in the demo's page, by a real Chromium without a window. In: the page's address.

Needs playwright and a Chromium, which the rest of `python -m tests.bench.demo` does without.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from playwright.sync_api import Browser, Error

GIVE_UP_MS = 60_000
_HOME = "#list-home > li[data-id]"

# Resolves to the milliseconds from the click to another order of the list, by the page's clock.
_WATCH = """
window.changed = new Promise((resolve) => {
  const list = document.getElementById("list-home");
  const items = () => [...list.querySelectorAll(":scope > li[data-id]")];
  const order = () => items().map((li) => li.dataset.id).join();
  const before = order();
  let clicked;
  const note = () => { clicked = performance.now(); };
  document.addEventListener("click", note, { capture: true, once: true });
  new MutationObserver(() => {
    if (clicked !== undefined && order() !== before) resolve(performance.now() - clicked);
  }).observe(list, { childList: true });
});
null
"""


class FirstClick(NamedTuple):
    """When a visitor had the page and its first new list, by `time.monotonic`; how long that took.

    Attributes
    ----------
    list_changed_ms : from the click to the list in another order, by the page's clock
    """

    page_at_s: float
    list_at_s: float
    list_changed_ms: float


def first_click(browser: Browser, url: str) -> FirstClick:
    """Open the page as somebody new, and click the first item of its home list once it is there.

    Raises
    ------
    playwright.sync_api.Error : the page or a new list did not come within a minute
    """
    page = browser.new_page(viewport={"width": 1360, "height": 900})
    page.set_default_timeout(GIVE_UP_MS)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    page.wait_for_selector(_HOME)
    page_at_s = time.monotonic()
    page.evaluate(_WATCH)
    page.locator(_HOME).first.locator("[data-do=open]").click()
    took_ms = page.evaluate(
        "wait => Promise.race([window.changed, new Promise((end) => setTimeout(end, wait, null))])",
        GIVE_UP_MS,
    )
    list_at_s = time.monotonic()
    if took_ms is None:
        raise Error("the list did not change after the first click")
    page.close()
    return FirstClick(page_at_s, list_at_s, float(took_ms))
