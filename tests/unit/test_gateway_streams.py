"""The gateway's streams: what comes, to whom, and how each ends."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from stream import metrics
from stream.gateway import streams
from tests.support.gateway import (
    Client,
    Consumed,
    filled,
    record_of,
    refused,
    serve,
    settings_with,
)


async def events(response: Any, count: int) -> list[dict[str, str]]:
    """The next events of a stream, by the names of their lines."""
    found: list[dict[str, str]] = []
    while len(found) < count:
        event = {}
        while line := (await response.content.readline()).decode().rstrip("\n"):
            name, _, value = line.partition(":")
            event[name or "comment"] = value.strip()
        if event and "retry" not in event:
            found.append(event)
    return found


def test_a_stream_has_the_newest_at_once_and_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    view = filled(record_of("u1", offset=3))
    monkeypatch.setattr(streams, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.02)

    async def check(client: Client) -> None:
        async with client.get("/v1/users/u1/stream") as response:
            assert response.content_type == "text/event-stream"
            first, beat = await events(response, 2)
            assert (first["event"], json.loads(first["data"])["user_id"]) == ("lists", "u1")
            assert first["id"] == f"{record_of('u1').partition}:3"
            assert set(beat) == {"comment"}
            view.put([record_of("u2", offset=4), record_of("u1", offset=5)])
            view.put([record_of("u1", offset=6)])
            (newest,) = [e for e in await events(response, 1) if "id" in e]
            assert newest["id"].endswith(":6"), "one that is already old was sent"
            view.put([Consumed(b"u1", None, record_of("u1").partition, 7)])
            (gone,) = [e for e in await events(response, 1) if "event" in e]
            assert (gone["event"], gone["data"]) == ("forgotten", "{}")

    serve(check, view)


def test_a_reader_who_left_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.02)

    async def check(client: Client) -> None:
        for _ in range(3):
            async with client.get("/v1/users/u1/stream") as response:
                assert response.status == 200
                await response.content.readline()
            await asyncio.sleep(0.2)

    serve(check, filled(record_of("u1")), settings=settings_with(max_streams=1))


def test_a_stream_may_be_of_one_placement() -> None:
    view = filled(record_of("u1", placement="cart"), Consumed(b"odd", b"no record", 0, 0))

    async def check(client: Client) -> None:
        async with client.get("/v1/users/u1/stream?placement=home") as response:
            await response.content.readline()
            view.put([record_of("u1", offset=1, placement="home")])
            (event,) = await events(response, 1)
            told = json.loads(event["data"])
            assert (told["placement"], event["id"].split(":")[1]) == ("home", "1")
        async with client.get("/v1/users/odd/stream?placement=home") as response:
            assert response.status == 200

    serve(check, view)


def test_no_more_streams_than_allowed_and_none_left_behind() -> None:
    view = filled(record_of("u1"))

    async def check(client: Client) -> None:
        async with client.get("/v1/users/u1/stream") as response:
            await events(response, 1)
            assert metrics.GATEWAY_STREAMS._value.get() == 1
            path = "/v1/users/u1/stream"
            assert await refused(client, "GET", path) == (503, "too_many_streams")
            # The application's end ends it.
            await client.app.shutdown()
            assert await response.content.read() == b""
        assert metrics.GATEWAY_STREAMS._value.get() == 0
        assert view._watchers == {}

    serve(check, view, settings=settings_with(max_streams=1))


def test_no_stream_begins_once_all_are_ended() -> None:
    async def check(client: Client) -> None:
        await client.app.shutdown()
        late = refused(client, "GET", "/v1/users/u1/stream")
        assert await asyncio.wait_for(late, 5) == (503, "too_many_streams")

    serve(check)


def test_a_reader_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "WRITE_WITHIN_S", 0.05)
    view = filled(record_of("u1"))
    whole = record_of("u1", offset=1)
    much = whole._replace(value=(whole.value or b"") + b" " * 20_000_000)  # no socket holds that

    async def check(client: Client) -> None:
        assert client.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
        writer.write(b"GET /v1/users/u1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"data: ")
        assert metrics.GATEWAY_STREAMS._value.get() == 1
        view.put([much])
        async with asyncio.timeout(5):
            while metrics.GATEWAY_STREAMS._value.get():
                await asyncio.sleep(0.02)
        writer.close()

    serve(check, view)
    assert view._watchers == {}


def test_a_slow_reader_keeps_one_record_waiting() -> None:
    async def check() -> None:
        view = filled()
        watcher = view.watch(b"u1")
        for offset in range(1000):
            view.put([record_of("u1", offset=offset)])
        held = await watcher.next()
        assert held is not None
        assert held.offset == 999
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.next(), 0.01)

    asyncio.run(check())
