"""The storefront in a real browser, on a real demo: `freshet demo` and headless Chromium.

One browser and one demo for all; each test is a shopper of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from stream.core.manifest import read_manifest
from stream.demo import sample
from tests.bench.demo_page import first_click
from tests.support.brokers import must_run, why_missing
from tests.support.browser import (
    COUNT_ANIMATIONS,
    POOR_CONTRAST,
    WITHOUT_NAME,
    Complaints,
    chromium,
)
from tests.support.freshet import ROOT

# A machine that does much else is no fault of the page.
WITHIN_MS = 60_000
SHOTS = ROOT / "build" / "storefront"

pytestmark = pytest.mark.xdist_group("storefront")

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def url(browser: Browser) -> Iterator[str]:
    """The page of a demo for all."""
    with demo() as address:
        yield address


@contextlib.contextmanager
def demo() -> Iterator[str]:
    """The page of a demo that replays nothing; afterwards it ends by Ctrl-C, in order."""
    if reason := why_missing("embedded"):
        if must_run("embedded"):
            pytest.fail(f"embedded is required here: {reason}", pytrace=False)
        pytest.skip(f"no embedded broker: {reason}")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FRESHET_")}
    command = ["demo", "--events", "0", "--page-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        cwd="/",
    )
    try:
        yield page_address(process)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in told
    finally:
        process.kill()
        process.communicate()


def page_address(demo: subprocess.Popen[str]) -> str:
    assert demo.stdout is not None
    seen, deadline_s = "", time.monotonic() + 2 * WITHIN_MS / 1000
    while time.monotonic() < deadline_s and demo.poll() is None:
        if select.select([demo.stdout], [], [], 0.2)[0]:
            seen += demo.stdout.readline()
        if found := re.search(r"page     (http://127\.0\.0\.1:\d+)/", seen):
            return found[1]
    raise AssertionError(f"no page: {seen}")


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Open]:
    """Opens the page as somebody new; whatever it complains of fails the test."""
    with contextlib.ExitStack() as stack:
        complaints = []

        def go(width: int = 1360, height: int = 900, **options: Any) -> Page:
            size: Any = {"width": width, "height": height}
            context = stack.enter_context(browser.new_context(viewport=size, **options))
            context.set_default_timeout(WITHIN_MS)
            page = context.new_page()
            complaints.append(Complaints(page, url))
            page.add_init_script(COUNT_ANIMATIONS)
            page.goto(url)
            page.wait_for_selector("body[data-ready]")
            page.wait_for_selector("#list-home li[data-id]")
            return page

        yield go
        assert [found for one in complaints for found in one.found] == []


def ids(page: Page, name: str) -> list[str]:
    """The items of a list, in their order."""
    found = page.locator(f"#list-{name} > li[data-id]")
    return [str(one) for one in found.evaluate_all("all => all.map((li) => li.dataset.id)")]


def press(page: Page, does: str, name: str = "home", at: int = 0) -> str:
    """Press an item's button, and wait until the lists that come of it are drawn; its id."""
    li = page.locator(f"#list-{name} > li[data-id]").nth(at)
    item_id = str(li.get_attribute("data-id"))
    with reflected(page):
        li.locator(f"[data-do={does}]").click()
    return item_id


@contextlib.contextmanager
def reflected(page: Page) -> Iterator[None]:
    """Wait for the lists of what is done within."""
    page.evaluate("document.getElementById('live').textContent = ''")
    yield
    expect(page.locator("#live")).to_contain_text("Lists rearranged", timeout=WITHIN_MS)
    assert float(page.locator("#pulse-ms").inner_text()) > 0


def explore(page: Page, strength: str) -> None:
    page.locator("#explore label", has_text=strength).click()


def reasons(page: Page, name: str) -> str:
    return " ".join(page.locator(f"#list-{name} > li[data-id] .reason").all_inner_texts())


def test_a_click_rearranges_the_lists_and_opens_the_product(visit: Open) -> None:
    page = visit()
    before = ids(page, "home")
    assert len(before) == 12
    assert all(ids(page, name) for name in ("cart", "coupons", "ads", "content", "shops", "mail"))
    title = page.locator("#list-home .name").first.inner_text()
    item_id = press(page, "open")
    assert ids(page, "home") != before
    assert page.evaluate("window.animations") > 0
    dialog = page.locator("#product")
    expect(dialog).to_be_visible()
    expect(page.locator("#product-title")).to_have_text(title)
    expect(dialog.locator("#list-similar li[data-id]").first).to_be_visible()
    expect(dialog.locator("#list-together li[data-id]").first).to_be_visible()
    expect(page.locator("#product-why")).not_to_have_text("…")
    assert item_id not in ids(page, "similar")
    dialog.locator("[data-close]").click()
    assert f"You clicked {title}" in reasons(page, "home") + reasons(page, "mail")
    # The interest that came of it: one category stands out.
    expect(page.locator("#interest li.top")).to_have_count(1)


def test_what_is_done_names_the_list_that_it_was_done_on(visit: Open, url: str) -> None:
    page = visit()
    user_id, names = page.locator("#me").inner_text(), []
    for _ in range(2):
        names.append(page.locator("#list-home > li[data-id]").first.get_attribute("data-list"))
        page.wait_for_timeout(700)  # what is in view by then counts as seen
        with page.expect_request("**/v1/clicks") as posted:
            press(page, "cart")
        *seen, added = posted.value.post_data_json
        assert (added["type"], added["list_name"], added["placement"]) == (
            "add_to_cart",
            names[-1],
            "home",
        )
        assert {one["type"] for one in seen} == {"impression"}
        assert all(re.fullmatch("[A-Za-z0-9_-]{16}", one["list_name"]) for one in seen)
        assert names[-1] in {one["list_name"] for one in seen}
    with urllib.request.urlopen(f"{url}/v1/users/{user_id}/lists/home") as answer:
        assert json.load(answer)["name"] not in names
    assert len(set(names)) == 2, "of the answer first, then of what was published"
    press(page, "open")
    beside = page.locator("#list-similar > li[data-id] [data-do=cart]").first
    with page.expect_request("**/v1/clicks") as posted:
        beside.click()
    assert "list_name" not in posted.value.post_data_json[-1], "it stands beside a product"


def test_the_first_click_of_a_visit_is_timed(browser: Browser, url: str) -> None:
    before_s = time.monotonic()
    found = first_click(browser, url)
    assert before_s < found.page_at_s < found.list_at_s <= time.monotonic()
    assert 0 < found.list_changed_ms <= 1000 * (found.list_at_s - found.page_at_s)


def test_what_is_bought_or_disliked_leaves(visit: Open) -> None:
    page = visit()
    explore(page, "None")
    bought = press(page, "buy", at=1)
    assert bought not in ids(page, "home")
    disliked = press(page, "dislike", at=2)
    for name in ("home", "cart", "mail"):
        assert disliked not in ids(page, name)
    # The welcome is for who never bought.
    assert "coupon-welcome" not in ids(page, "coupons")


def test_the_cart_has_a_list_of_its_own(visit: Open) -> None:
    page = visit()
    title = page.locator("#list-home .name").nth(2).inner_text()
    added = press(page, "cart", at=2)
    expect(page.locator("#cart li")).to_have_count(1)
    assert added not in ids(page, "cart")
    assert f"In your cart: {title}" in reasons(page, "cart")
    page.reload()  # what is in it stands in the state
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#cart li .name")).to_have_text(title)
    with reflected(page):
        page.locator("#buy-all").click()
    expect(page.locator("#cart li[data-id]")).to_have_count(0)
    expect(page.locator("#buy-all")).to_be_disabled()
    assert added not in ids(page, "home")


def test_who_is_forgotten_gets_a_receipt_and_begins_anew(visit: Open, url: str) -> None:
    page = visit()
    press(page, "cart")
    user_id = page.locator("#me").inner_text()
    of_user = f"{url}/v1/users/{user_id}/lists"
    with urllib.request.urlopen(of_user) as answer:
        assert json.load(answer)["user_id"] == user_id
    page.locator("#forget").click()
    receipt = page.locator("#receipt")
    expect(receipt).to_be_visible()
    expect(page.locator("#receipt-title")).to_be_focused()
    expect(page.locator("#receipt-fields dd").first).to_have_text(re.compile("^[0-9a-f]{16,}$"))
    expect(page.locator("#receipt-fields")).to_contain_text("recommendations")
    expect(page.locator("#receipt-fields")).to_contain_text("trending, receipts")
    page.screenshot(path=SHOTS / "receipt.png")
    receipt.locator("[data-close]").click()
    expect(page.locator("#cart li[data-id]")).to_have_count(0)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(of_user)
    assert "In your cart" not in reasons(page, "home") + reasons(page, "cart")


def test_everything_can_be_done_by_keyboard(visit: Open) -> None:
    page = visit()
    focused = page.locator(":focus")
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the products")
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
        if focused.get_attribute("name") == "explore":
            break
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#explore input[value=home-steady]")).to_be_checked()
    page.keyboard.press("Tab")
    expect(focused).to_have_attribute("data-do", "open")
    outline = focused.evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"
    with reflected(page):
        page.keyboard.press("Enter")
    expect(page.locator("#product-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#product")).to_be_hidden()
    expect(focused).to_have_attribute("data-do", "open")
    page.keyboard.press("Tab")
    with reflected(page):
        page.keyboard.press("Space")
    expect(page.locator("#cart-count")).to_have_text("1")
    # The list moved under it; what was in focus is so still, or what took its place.
    expect(focused).to_have_attribute("data-do", "cart")
    page.keyboard.press("Tab")
    with reflected(page):
        page.keyboard.press("Enter")  # bought: its tile is gone
    expect(focused).to_have_attribute("data-do", "buy")


def test_on_a_phone_nothing_runs_off_the_side(visit: Open) -> None:
    page = visit(360, 780, has_touch=True, is_mobile=True, device_scale_factor=2)
    press(page, "cart")
    assert wide(page) == 360
    page.screenshot(path=SHOTS / "phone.png", full_page=True)
    heights = "all => all.map((one) => one.getBoundingClientRect().height)"
    found = page.locator("main button:visible, aside select, main label").evaluate_all(heights)
    assert len(found) > 45
    assert min(found) >= 40  # a fingertip's
    press(page, "open")
    expect(page.locator("#list-together li[data-id]").first).to_be_visible()
    box = page.locator("#product").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360
    page.screenshot(path=SHOTS / "phone-product.png")
    assert wide(page) == 360


def wide(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth"))


def test_exploring_has_a_strength_and_a_mark(visit: Open) -> None:
    page = visit(reduced_motion="reduce")
    explored = page.locator("#list-home > li.explored")
    explore(page, "None")
    expect(explored).to_have_count(0)
    explore(page, "Much")
    expect(explored.first).to_be_visible()
    press(page, "cart")
    assert "Trying it out" in reasons(page, "home")
    assert page.evaluate("window.animations") == 0  # nothing moves for who does not want it


def test_another_model_serves_at_the_press_of_a_key(visit: Open) -> None:
    page = visit()
    explore(page, "None")
    press(page, "cart")
    user_id = page.locator("#me").inner_text()
    before, bundle = ids(page, "home"), page.locator("#model-id").inner_text()
    assert bundle == read_manifest(sample.BUNDLES["mf"]).bundle_id[:12]
    words = page.locator("#model-words")
    expect(words).to_have_attribute("aria-live", "polite")
    expect(words).to_have_text("Ranked by mf (matrix factorization).")
    serving = page.locator("#model input:checked")
    expect(serving).to_have_value("mf")
    serving.focus()
    page.keyboard.press("ArrowRight")
    expect(words).to_contain_text("Starting a worker with decay (fading interests)")
    expect(page.locator("#model")).to_have_attribute("aria-busy", "true")
    assert page.evaluate(POOR_CONTRAST) == []
    # What is done meanwhile waits for the worker.
    added = str(page.locator("#list-home > li[data-id]").nth(3).get_attribute("data-id"))
    page.locator("#list-home [data-do=cart]").nth(3).click()
    expect(words).to_contain_text("Ranked by decay (fading interests)", timeout=WITHIN_MS)
    decay = read_manifest(sample.BUNDLES["decay"]).bundle_id[:12]
    expect(page.locator("#model-id")).to_have_text(decay, timeout=WITHIN_MS)
    expect(page.locator(":focus")).to_have_attribute("data-do", "cart")
    assert len(ids(page, "home")) == 12
    assert ids(page, "home") != before
    assert added not in ids(page, "home")
    # Lists react as they did, on what was done before as well.
    now = ids(page, "home")
    press(page, "buy")
    assert ids(page, "home") != now
    assert page.locator("#model-id").inner_text() == decay
    expect(page.locator("#cart-count")).to_have_text("2")
    page.screenshot(path=SHOTS / "decay.png")
    # Whose newest record is of another model sees lists of this one.
    page.locator("#model label", has_text="mf").click()
    expect(page.locator("#model-id")).to_have_text(bundle, timeout=WITHIN_MS)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    expect(page.locator("#me")).to_have_text(user_id)
    expect(page.locator("#model-id")).to_have_text(bundle)
    expect(page.locator("#cart-count")).to_have_text("2")


def test_ctrl_c_during_a_switch_ends_the_demo_in_order() -> None:
    """Not by the clock that ends a command which takes too long: then nothing would answer."""
    answers: list[Any] = []

    def switch(url: str) -> None:
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{url}/demo/model", b'{"model": "decay"}', headers)
        with urllib.request.urlopen(asked) as answer:
            answers.append(json.load(answer)["serving"]["ready"])

    with demo() as url:
        switching = threading.Thread(target=switch, args=(url,), daemon=True)
        switching.start()
        deadline_s, ready = time.monotonic() + WITHIN_MS / 1000, True
        while ready and time.monotonic() < deadline_s:
            with urllib.request.urlopen(f"{url}/demo/stats") as answer:
                ready = json.load(answer)["serving"]["ready"]
    switching.join(WITHIN_MS / 1000)
    assert answers == [False]


def test_where_there_is_one_model_it_is_told_and_no_switch_is_shown(
    browser: Browser, url: str
) -> None:
    def with_one(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "models": ["mf"]})

    with browser.new_context() as context:
        page = context.new_page()
        page.route("**/demo/catalogue", with_one)
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=WITHIN_MS)
        expect(page.locator("#model")).to_be_hidden()
        expect(page.locator("#explore")).to_be_visible()
        expect(page.locator("#model-words")).to_contain_text("Ranked by")


def test_a_second_shopper_has_lists_of_their_own(visit: Open) -> None:
    page = visit()
    explore(page, "None")
    theirs = ids(page, "other")
    press(page, "buy")
    mine = ids(page, "home")
    assert ids(page, "other") == theirs
    first = page.locator("#me").inner_text()
    page.locator("#swap").click()
    expect(page.locator("#me")).not_to_have_text(first)
    assert ids(page, "home")[: len(theirs)] == theirs
    assert ids(page, "other") == mine[: len(theirs)]
    customers = page.locator("#other option", has_text="Customer").all()
    assert len(customers) == 3
    page.locator("#other").select_option(str(customers[0].get_attribute("value")))
    expect(page.locator("#list-other > li[data-id]").first).to_be_visible()


def test_simulated_shoppers_show_in_the_panel(visit: Open) -> None:
    page = visit()
    press(page, "cart", at=1)
    page.locator("#traffic").click()
    expect(page.locator("#traffic")).to_have_text("Simulated shoppers: on")
    expect(page.locator("#rate")).to_have_text(re.compile(r"^([5-9]|\d\d)"), timeout=WITHIN_MS)
    expect(page.locator("#p99")).to_have_text(re.compile(r" ms$"))
    assert page.locator("#latency rect").count() > 10
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=SHOTS / "desktop.png", full_page=True)
    page.locator("#traffic").click()
    expect(page.locator("#traffic")).to_have_text("Simulated shoppers: off")
    expect(page.locator("#traffic")).to_have_attribute("aria-pressed", "false")


def test_texts_have_contrast_and_controls_have_names(visit: Open) -> None:
    page = visit(reduced_motion="reduce")
    press(page, "cart")
    assert page.evaluate(POOR_CONTRAST) == []
    assert page.evaluate(WITHOUT_NAME) == []
    press(page, "open")
    expect(page.locator("#list-together li[data-id]").first).to_be_visible()
    assert page.evaluate(POOR_CONTRAST) == []
    page.screenshot(path=SHOTS / "product.png")
