"""The gateway's routes and document, over a view and a producer without brokers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from stream import metrics
from stream.gateway import app, routes
from stream.gateway.app import gateway_app
from stream.gateway.lists import one_line, placement_of
from stream.gateway.openapi import document
from stream.gateway.view import View
from tests.support import openapi
from tests.support.gateway import (
    NOW_MS,
    PARTITIONS,
    Client,
    Consumed,
    FakeProducer,
    filled,
    record_of,
    refused,
    serve,
    settings_with,
)

CLICK = {"user_id": "u1", "item_id": "i1", "type": "click", "event_time_ms": NOW_MS}


# -- reading ---------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_published() -> None:
    record = record_of("u1")

    async def check(client: Client) -> None:
        async with client.get("/v1/users/u1/lists") as response:
            assert response.status == 200
            assert await response.read() == record.value
            assert response.content_type == "application/json"
            assert response.headers["Cache-Control"] == "no-store"
            assert "aiohttp" not in response.headers["Server"]
        assert await refused(client, "GET", "/v1/users/u2/lists") == (404, "no_list")

    serve(check, filled(record))


def test_one_placement_goes_with_all_that_its_record_says() -> None:
    whole = json.loads(record_of("u1").value or b"")
    whole["experiment"] = {"arm": "b"}  # a field that comes later
    lists = whole.pop("lists")
    value = json.dumps({**whole, "lists": lists}).encode()

    async def check(client: Client) -> None:
        async with client.get("/v1/users/u1/lists/home") as response:
            body = await response.json()
        assert body == {**whole, "placement": "home", "items": lists["home"]["items"]}
        assert list(body)[:2] == ["user_id", "placement"]
        assert await refused(client, "GET", "/v1/users/u1/lists/cart") == (404, "no_placement")
        assert await refused(client, "GET", "/v1/users/u2/lists/home") == (404, "no_list")

    serve(check, filled(Consumed(b"u1", value, 0, 7)))


@pytest.mark.parametrize("value", [b"{", b"[]", b'"x"', b"{}", b'{"lists": []}', b"\xff"])
def test_what_is_no_record_of_lists_is_told(value: bytes) -> None:
    async def check(client: Client) -> None:
        assert await refused(client, "GET", "/v1/users/u/lists/home") == (502, "unreadable_list")

    serve(check, filled(Consumed(b"u", value, 0, 0)))


@pytest.mark.parametrize(
    ("path", "user"), [("a%2Fb", "a/b"), ("%C3%A9%20%3F", "é ?"), ("a%25", "a%"), ("1", "1")]
)
def test_a_user_may_have_any_id(path: str, user: str) -> None:
    async def check(client: Client) -> None:
        async with client.get(f"/v1/users/{path}/lists") as response:
            assert (await response.json())["user_id"] == user

    serve(check, filled(record_of(user)))


@pytest.mark.parametrize("user", ["x" * 257, "é" * 129])
def test_an_id_that_nobody_can_have_is_refused(user: str) -> None:
    async def check(client: Client) -> None:
        assert await refused(client, "GET", f"/v1/users/{user}/lists") == (400, "bad_user_id")
        assert await refused(client, "DELETE", f"/v1/users/{user}") == (400, "bad_user_id")

    serve(check)


def test_what_is_not_there_is_told_as_all_errors_are() -> None:
    async def check(client: Client) -> None:
        assert await refused(client, "GET", "/nothing") == (404, "not_found")
        assert await refused(client, "PUT", "/v1/clicks") == (405, "method_not_allowed")
        async with client.put("/v1/clicks") as response:
            assert response.headers["Allow"] == "POST"

    serve(check)


def test_before_all_is_read_nobody_is_told_that_there_is_no_list() -> None:
    view = View(PARTITIONS)
    view.put([record_of("early")])

    async def check(client: Client) -> None:
        assert (await client.get("/v1/users/early/lists")).status == 200
        assert await refused(client, "GET", "/v1/users/late/lists") == (503, "not_ready")
        async with client.get("/readyz") as response:
            told = await response.json()
            assert (response.status, told["ready"]) == (503, False)
            assert told["reason"] == "the lists are being read"
        assert (await client.get("/healthz")).status == 200
        view.loaded = True
        assert (await client.get("/readyz")).status == 200

    serve(check, view)


def test_lists_stay_readable_while_brokers_are_away() -> None:
    producer = FakeProducer()
    producer.away = True

    async def check(client: Client) -> None:
        async with client.get("/readyz") as response:
            assert response.status == 503
            assert (await response.json())["reason"] == "no broker answers"
        assert (await client.get("/v1/users/u1/lists")).status == 200
        for path, body in (("clicks", CLICK), ("requests", {"user_id": "u1", "type": "list"})):
            assert await refused(client, "POST", f"/v1/{path}", json=body) == (503, "broker_away")
        assert await refused(client, "DELETE", "/v1/users/u1") == (503, "broker_away")

    serve(check, producer=producer, readiness=lambda: {"broker": "no broker answers"})


# -- partitions --------------------------------------------------------------------------------


def test_a_user_of_another_partition_is_sent_there() -> None:
    mine, other = record_of("u1"), record_of("u2")
    assert mine.partition != other.partition
    view = filled(mine, own=frozenset({mine.partition}))

    async def check(client: Client) -> None:
        assert (await client.get("/v1/users/u1/lists")).status == 200
        asked = {"user_id": "u2", "type": "list"}
        for method, path, options in (
            ("GET", "/v1/users/u2/lists", {}),
            ("GET", "/v1/users/u2/lists/home", {}),
            ("GET", "/v1/users/u2/stream", {}),
            ("DELETE", "/v1/users/u2", {}),
            ("POST", "/v1/requests", {"json": asked}),
        ):
            async with client.request(method, path, **options) as response:
                assert response.status == 421, path
                assert (await response.json())["partition"] == other.partition
        # Events of anybody are taken.
        assert (await client.post("/v1/clicks", json={**CLICK, "user_id": "u2"})).status == 202

    serve(check, view)


# -- posting -----------------------------------------------------------------------------------


def test_what_is_posted_is_sent_as_it_came_under_its_key() -> None:
    producer = FakeProducer()
    one = (
        b' {"event_time_ms": 1700000000000, "extra": [1.50],'
        b' "user_id": 7,"item_id":"i","type":"view"}'
    )
    purchase = {**CLICK, "type": "purchase", "unit_price": 2.5}
    item = {"item_id": 12, "title": "White heart"}

    async def check(client: Client) -> None:
        headers = {"Content-Type": "application/json"}
        async with client.post("/v1/clicks", data=one + b"\n", headers=headers) as response:
            assert (response.status, await response.json()) == (202, {"accepted": 1})
        async with client.post("/v1/purchases", json=[purchase, purchase]) as response:
            assert (response.status, await response.json()) == (202, {"accepted": 2})
        assert (await client.post("/v1/items", json=item)).status == 202
        async with client.post("/v1/clicks", json=[]) as response:
            assert (response.status, await response.json()) == (202, {"accepted": 0})

    serve(check, producer=producer)
    assert [(topic, key) for topic, key, _ in producer.sent] == [
        ("clicks", b"7"),
        ("purchases", b"u1"),
        ("purchases", b"u1"),
        ("items", b"12"),
    ]
    values = [value for _, _, value in producer.sent]
    assert values[0] == one.strip()
    assert [json.loads(value) for value in values[1:]] == [purchase, purchase, item]


@pytest.mark.parametrize(
    ("path", "body", "rejections"),
    [
        ("clicks", {**CLICK, "type": "purchase"}, [(0, "unknown_type", "type")]),
        (
            "clicks",
            [CLICK, {**CLICK, "user_id": ""}, 7, {**CLICK, "event_time_ms": 2**62}],
            [
                *((1, "empty_id", "user_id"), (2, "not_object", None)),
                (3, "event_time_ahead", "event_time_ms"),
            ],
        ),
        ("purchases", {"user_id": "u"}, [(0, "missing_field", "item_id")]),
        ("items", [{"item_id": "i", "price": -1}], [(0, "out_of_range", "price")]),
        ("items", None, [(0, "not_object", None)]),
        ("requests", {"user_id": "u", "type": "rank"}, [(0, "missing_field", "candidates")]),
        (
            "requests",
            {"user_id": "u", "type": "list", "placement": "nowhere"},
            [(0, "unknown_placement", "placement")],
        ),
        ("requests", [CLICK], [(0, "not_object", None)]),
    ],
)
def test_one_bad_record_refuses_all(
    path: str, body: Any, rejections: list[tuple[int, str, str | None]]
) -> None:
    producer = FakeProducer()

    async def check(client: Client) -> None:
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        async with client.post(f"/v1/{path}", data=data, headers=headers) as response:
            told = await response.json()
            assert (response.status, told["error"]) == (400, "invalid")
        found = [(r["index"], r["reason"], r.get("field")) for r in told["rejections"]]
        assert found == rejections

    serve(check, producer=producer)
    assert producer.sent == []


def test_a_body_that_is_none_is_refused() -> None:
    async def check(client: Client) -> None:
        post = "/v1/clicks"
        headers = {"Content-Type": "application/json"}
        broken = {"data": b"[{", "headers": headers}
        assert await refused(client, "POST", post, **broken) == (400, "not_json")
        assert await refused(client, "POST", post, data=b"{}") == (415, "not_json")
        many = {"json": [CLICK] * 1001}
        assert await refused(client, "POST", post, **many) == (400, "too_many_records")
        long = {"data": b" " * 200_001, "headers": headers}
        assert await refused(client, "POST", post, **long) == (413, "body_too_large")
        assert (await client.post(post, json=[CLICK] * 1000)).status == 202

    serve(check, settings=settings_with(max_body_bytes=200_000))


def test_a_body_that_does_not_come_or_is_packed_wrongly_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "BODY_WITHIN_S", 0.05)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"["
        await asyncio.sleep(0.5)
        yield b"]"

    async def check(client: Client) -> None:
        headers = {"Content-Type": "application/json"}
        async with client.post("/v1/clicks", data=slowly(), headers=headers) as response:
            assert response.status == 408
            assert (await response.json())["error"] == "body_too_slow"
        packed = headers | {"Content-Encoding": "deflate"}
        async with client.post("/v1/clicks", data=b"xxxx", headers=packed) as response:
            assert response.status == 400
            assert (await response.json())["error"] == "bad_body"

    serve(check)


# -- asking and forgetting -----------------------------------------------------------------------


def test_a_request_is_answered_and_gets_an_id() -> None:
    producer = FakeProducer()

    async def check(client: Client) -> None:
        async with client.post("/v1/requests", json={"user_id": 5, "type": "list"}) as response:
            assert response.status == 200
            told = await response.json()
        assert (told["user_id"], len(told["request_id"])) == ("5", 32)
        given = {"user_id": "u", "type": "list", "request_id": "mine"}
        async with client.post("/v1/requests", json=given) as response:
            assert (await response.json())["request_id"] == "mine"
        producer.answered = False
        assert await refused(client, "POST", "/v1/requests", json=given) == (504, "no_answer")

    serve(check, producer=producer)
    first, second, _ = [json.loads(value) for _, _, value in producer.sent]
    assert first == {"user_id": 5, "type": "list", "request_id": first["request_id"]}
    assert second["request_id"] == "mine"


def test_an_answer_is_waited_for_until_the_deadline_within_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routes, "_now_ms", lambda: NOW_MS)
    producer = FakeProducer()

    async def check(client: Client) -> None:
        for left in ({}, *({"deadline_ms": NOW_MS + ms} for ms in (2_500, 29_000, 31_000, -5))):
            given = {"user_id": "u", "type": "list", **left}
            async with client.post("/v1/requests", json=given) as response:
                assert response.status == 200

    serve(check, producer=producer)
    assert producer.waits_s == [1.0, 2.5, 29.0, 30.0, 0.0]


def test_a_user_is_forgotten_and_the_receipt_returned() -> None:
    producer = FakeProducer()

    async def check(client: Client) -> None:
        async with client.delete("/v1/users/u1") as response:
            assert response.status == 200
            assert (await response.json())["erasure"]["topic"] == "erasures"
        producer.received = False
        async with client.delete("/v1/users/u1") as response:
            assert (response.status, await response.json()) == (202, {"status": "pending"})

    serve(check, producer=producer)
    topic, key, value = producer.sent[0]
    assert (topic, key, json.loads(value)["user_id"]) == ("erasures", b"u1", "u1")


# -- the view --------------------------------------------------------------------------------------


def test_the_view_forgets_at_a_tombstone_of_the_same_partition() -> None:
    record = record_of("u1")
    view = filled(record)
    view.put([Consumed(b"u1", None, record.partition + 1, 0), Consumed(None, b"{}", 0, 1)])
    assert view.get(b"u1") is not None
    view.put([Consumed(b"u1", None, record.partition, 9)])
    assert (view.get(b"u1"), len(view)) == (None, 0)


def test_lines_break_between_parts_alone() -> None:
    assert json.loads(one_line(b'{\r\n "a": "x\\n"\n}')) == {"a": "x\n"}
    assert placement_of(b'{"user_id": "u", "lists": {}}', "home") is None


# -- the document, counts, other routes ------------------------------------------------------------


def test_the_document_is_what_the_code_makes_and_is_served() -> None:
    written = openapi.PATH.read_text(encoding="utf-8")
    assert openapi.text() == written, "run `python -m tests.support.openapi`"

    async def check(client: Client) -> None:
        assert await (await client.get("/openapi.json")).json() == json.loads(
            msgspec.json.encode(document())
        )

    serve(check)


def test_the_document_names_every_route() -> None:
    app = gateway_app(settings_with(), filled(), FakeProducer())
    served = {
        (route.resource.canonical, route.method.lower())
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    told = {(path, method) for path, of in document()["paths"].items() for method in of}
    told = {(path, method) for path, method in told if method != "parameters"}
    assert {entry for entry in served if entry[0].startswith("/v1/")} == told


def test_requests_are_counted_by_route_and_no_user_is_in_it() -> None:
    def count(status: int) -> float:
        labels = {"route": "/v1/users/{user_id}/lists", "status": str(status)}
        return metrics.GATEWAY.get_sample_value("freshet_gateway_requests_total", labels) or 0

    before = count(200), count(404)

    async def check(client: Client) -> None:
        await client.get("/v1/users/u1/lists")
        await client.get("/v1/users/secret-shopper/lists")
        async with client.get("/metrics") as response:
            text = await response.text()
        assert "freshet_gateway_request_seconds_bucket" in text
        assert "freshet_gateway_users 1.0" in text
        assert "shopper" not in text
        assert "freshet_lists_total" not in text, "a worker's"

    serve(check, registry=metrics.GATEWAY)
    assert (count(200), count(404)) == (before[0] + 1, before[1] + 1)


def test_a_failure_is_told_without_what_it_was_about(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeProducer):
        async def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> Any:
            raise ValueError(keys)

    async def check(client: Client) -> None:
        assert await refused(client, "POST", "/v1/clicks", json=event) == (500, "internal")

    event = {**CLICK, "user_id": "secret-shopper"}
    with caplog.at_level(logging.DEBUG):
        serve(check, producer=Broken())
    assert "ValueError" in caplog.text
    assert "shopper" not in caplog.text


def test_of_an_ipv6_address_the_network_counts() -> None:
    assert app._network("2001:db8::1:2:3:4") == app._network("2001:db8::9") == "2001:db8::/64"
    assert (app._network("10.0.0.7"), app._network("")) == ("10.0.0.7", "")


def test_routes_of_others_are_left_alone() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(text="a page")

    async def run() -> None:
        settings = settings_with(rate=0.001, burst=1)
        app = gateway_app(settings, filled(), FakeProducer(), registry=CollectorRegistry())
        app.router.add_get("/", page)
        async with TestClient(TestServer(app)) as client:
            for _ in range(3):
                assert await (await client.get("/")).text() == "a page"

    asyncio.run(run())
