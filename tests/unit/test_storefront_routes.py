"""What the storefront's server adds to the gateway: the page, its figures, its switch."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from stream.contracts import Item
from stream.demo.figures import Figures, WorkerFigures, read_figures
from stream.demo.models import Serving
from stream.demo.storefront import PAGE, add_storefront, catalogue
from stream.demo.traffic import SimulatedShoppers

ITEMS = [
    Item("p1", title="MUG", category="Tea & mugs", price=2.5, embedding=(0.5, 0.5)),
    Item("coupon-tea-mugs", kind="coupon", title="10% off", category="Tea & mugs"),
]
JSON = {"Content-Type": "application/json"}
WITHIN_S = 10.0


class Switch:
    """Simulated shoppers that nobody simulates."""

    def __init__(self) -> None:
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False


class Choice:
    """Models that nobody serves."""

    models = ("mf", "decay")

    def __init__(self) -> None:
        self.now = Serving("mf", "id of mf", ready=True)

    def switch(self, model: str) -> None:
        self.now = Serving(model, f"id of {model}", ready=True)


Client = TestClient[Any, Any]


def serve(
    check: Callable[[Client], Awaitable[None]],
    traffic: Switch | None = None,
    models: Choice | None = None,
) -> None:
    async def figures() -> Figures:
        return Figures(events=7.0, latency=((0.1, 2.0), (None, 3.0)))

    async def run() -> None:
        app = web.Application()
        told = catalogue(ITEMS, ["home"], ["13305"], Choice.models)
        add_storefront(app, told, figures, traffic or Switch(), models or Choice())
        async with TestClient(TestServer(app)) as client:
            await check(client)

    asyncio.run(run())


def test_the_page_lets_nothing_in_from_elsewhere() -> None:
    async def check(client: Client) -> None:
        for path in ("/", "/page/app.js", "/page/style.css", "/demo/catalogue"):
            answer = await client.get(path)
            assert answer.status == 200, path
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (await client.get("/page/../storefront.py")).status == 404

    serve(check)


def test_the_catalogue_is_told_without_vectors() -> None:
    async def check(client: Client) -> None:
        told = await (await client.get("/demo/catalogue")).json()
        assert told == {
            "items": [
                {"item_id": "p1", "title": "MUG", "category": "Tea & mugs", "price": 2.5},
                {
                    "item_id": "coupon-tea-mugs",
                    "kind": "coupon",
                    "title": "10% off",
                    "category": "Tea & mugs",
                },
            ],
            "categories": [{"name": "Tea & mugs", "coupon": "coupon-tea-mugs"}],
            "placements": ["home"],
            "shoppers": ["13305"],
            "models": ["mf", "decay"],
        }

    serve(check)


def test_figures_and_the_switch() -> None:
    traffic = Switch()

    async def check(client: Client) -> None:
        for on in (True, False):
            answer = await client.post("/demo/traffic", json={"on": on})
            assert (await answer.json()) == {"traffic": on}
            assert traffic.running is on
            stats = await (await client.get("/demo/stats")).json()
            assert stats["traffic"] is on
            assert stats["events"] == 7
            assert stats["latency"] == [[0.1, 2], [None, 3]]
            assert (stats["hits"], stats["outcomes"]) == (None, None)

    serve(check, traffic)


def test_the_page_switches_the_model() -> None:
    async def check(client: Client) -> None:
        assert (await (await client.get("/demo/stats")).json())["serving"]["model"] == "mf"
        answer = await client.post("/demo/model", json={"model": "decay"})
        serving = {"model": "decay", "bundle_id": "id of decay", "ready": True}
        assert await answer.json() == {"serving": serving}
        assert (await (await client.get("/demo/stats")).json())["serving"] == serving

    serve(check)


class Slow(Switch, Choice):
    """Both, which begin what they are asked for, and end it when they may."""

    def __init__(self) -> None:
        Switch.__init__(self)
        Choice.__init__(self)
        self.begun: list[str] = []
        self.may_end = threading.Event()

    def start(self) -> None:
        self._do("start")

    def stop(self) -> None:
        self._do("stop")

    def switch(self, model: str) -> None:
        self._do(model)

    def _do(self, what: str) -> None:
        self.begun.append(what)
        assert self.may_end.wait(WITHIN_S)


@pytest.mark.parametrize(
    ("path", "wishes", "begun"),
    [
        ("/demo/model", [{"model": "decay"}, {"model": "mf"}], ["decay", "mf"]),
        ("/demo/traffic", [{"on": True}, {"on": False}], ["start", "stop"]),
    ],
)
def test_who_clicks_impatiently_gets_the_page_and_the_last_wish(
    path: str, wishes: list[dict[str, Any]], begun: list[str]
) -> None:
    slow = Slow()

    async def check(client: Client) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(6))
        last = asyncio.create_task(client.post(path, json=wishes[0]))
        try:
            async with asyncio.timeout(WITHIN_S / 2):
                while not slow.begun:
                    await asyncio.sleep(0.01)
                for wish in (wishes * 5)[1:]:
                    overtaken, last = last, asyncio.create_task(client.post(path, json=wish))
                    assert (await overtaken).status == 200
                assert (await client.get("/")).status == 200
            assert not last.done()
        finally:
            slow.may_end.set()
            await asyncio.wait([last])
        assert (await last).status == 200
        assert slow.begun == begun, "the first one, which had begun, and the last one"

    serve(check, slow, slow)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"model": "decay"}', {}, 403),
        (b'{"model": "decay"}', {"Host": "shop.example"}, 403),
        (b'{"model": "glr"}', JSON, 400),
        (b'{"model": 1}', JSON, 400),
        (b"{}", JSON, 400),
    ],
)
def test_no_other_model_and_no_other_page(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    models = Choice()

    async def check(client: Client) -> None:
        answer = await client.post("/demo/model", data=body, headers=headers)
        assert answer.status == status
        message = json.loads(await answer.text())["message"]
        assert ("mf, decay" in message) is (status == 400)

    serve(check, models=models)
    assert models.now.model == "mf"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"on": true}', {"Content-Type": "text/plain"}, 403),  # what a foreign form could send
        (b'{"on": true}', JSON | {"Host": "shop.example"}, 403),
        (b'{"on": "yes"}', JSON, 400),
        (b"\xff", JSON, 400),
    ],
)
def test_the_switch_is_for_the_page_alone(
    body: bytes, headers: dict[str, str], status: int
) -> None:
    traffic = Switch()

    async def check(client: Client) -> None:
        answer = await client.post("/demo/traffic", data=body, headers=headers)
        assert answer.status == status
        assert "message" in json.loads(await answer.text())

    serve(check, traffic)
    assert not traffic.running


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8420", "[::1]", "[::1]:8420"])
def test_the_switch_knows_this_machines_names(host: str) -> None:
    traffic = Switch()

    async def check(client: Client) -> None:
        answer = await client.post("/demo/traffic", json={"on": True}, headers={"Host": host})
        assert answer.status == 200

    serve(check, traffic)
    assert traffic.running


def test_figures_are_read_from_metrics_as_they_are_served() -> None:
    registry = CollectorRegistry()
    events = Counter("freshet_events_total", "e", ["topic"], registry=registry)
    events.labels("clicks").inc(3)
    events.labels("purchases").inc(2)
    name = "freshet_event_to_list_seconds"
    latency = Histogram(name, "l", buckets=(0.01, 0.1), registry=registry)
    for took_s in (0.005, 0.05, 0.5):
        latency.observe(took_s)
    assert read_figures(generate_latest(registry).decode()) == Figures(
        events=5.0, latency=((0.01, 1.0), (0.1, 2.0), (None, 3.0))
    )
    Counter("freshet_quality_hits_total", "h", ["placement"], registry=registry).labels("home").inc(
        1
    )
    outcomes = Counter("freshet_quality_outcomes_total", "o", ["placement"], registry=registry)
    outcomes.labels("home").inc(4)
    outcomes.labels("mail").inc(4)
    found = read_figures(generate_latest(registry).decode())
    assert (found.hits, found.outcomes) == (1.0, 4.0)  # of home


def test_figures_of_a_worker_that_is_away_are_the_last_ones() -> None:
    async def ask() -> Figures:
        figures = WorkerFigures("http://127.0.0.1:1")
        try:
            return await figures()
        finally:
            await figures.close()

    assert asyncio.run(ask()) == Figures()


def test_no_shoppers_come_once_the_demo_ends() -> None:
    traffic = SimulatedShoppers(["--no-such-flag"])
    traffic.stop()
    traffic.close()
    traffic.start()
    assert not traffic.running


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_the_pages_files_name_nothing_elsewhere(file: Any) -> None:
    text = file.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg"}
    for name in re.findall(r"""(?:from |href=|src=)"(\.?/[^"#]+)""", text):
        assert (PAGE / name.rsplit("/", maxsplit=1)[-1]).is_file(), name


def test_what_the_script_looks_for_stands_in_the_page() -> None:
    page = (PAGE / "index.html").read_text(encoding="utf-8")
    named = set(re.findall(r'id="([^"]+)"', page))
    scripts = "".join(file.read_text(encoding="utf-8") for file in PAGE.glob("*.js"))
    wanted = set(re.findall(r'\bat\("([^"]+)"\)', scripts)) | set(
        re.findall(r'"(list-\w+)"', scripts)
    )
    assert len(wanted) > 40
    assert wanted <= named
    # No way to make elements of text: whatever a title holds, it is shown as it is.
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", scripts
    )
