"""The metrics and health endpoints, against a live loopback socket and no broker."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter

from stream.config import Settings
from stream.errors import SettingsError
from stream.http import HttpServer, require_free
from stream.listening import Readiness, asked_host, is_loopback

Check = Callable[[HttpServer, aiohttp.ClientSession], Awaitable[None]]


def serve(
    check: Check,
    readiness: Readiness = dict,
    registry: CollectorRegistry | None = None,
) -> None:
    async def run() -> None:
        server = HttpServer("127.0.0.1", 0, readiness, registry or CollectorRegistry())
        await server.start()
        try:
            async with aiohttp.ClientSession() as session:
                await check(server, session)
        finally:
            await server.stop()

    asyncio.run(run())


def test_metrics_in_both_text_formats() -> None:
    registry = CollectorRegistry()
    Counter("freshet_things_total", "Things.", registry=registry).inc(3)

    async def check(server: HttpServer, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{server.url}/metrics") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert "freshet_things_total 3.0" in await answer.text()
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with session.get(f"{server.url}/metrics", headers=accept) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await answer.text()).endswith("# EOF\n")

    serve(check, registry=registry)


def test_ready_only_when_every_condition_holds() -> None:
    conditions = {"model": True, "recovered": False}

    async def check(server: HttpServer, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{server.url}/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {"ready": False, "model": True, "recovered": False}
        async with session.get(f"{server.url}/healthz") as answer:
            assert answer.status == 200
        conditions["recovered"] = True
        async with session.get(f"{server.url}/readyz") as answer:
            assert answer.status == 200
            assert (await answer.json())["ready"] is True

    serve(check, lambda: conditions)


def test_a_reason_is_told_as_long_as_there_is_one() -> None:
    conditions: dict[str, bool | str] = {"model": True, "recovered": "not yet", "broker": "gone"}

    async def check(server: HttpServer, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{server.url}/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {
                "ready": False,
                "model": True,
                "recovered": False,
                "broker": False,
                "reason": "not yet; gone",
            }
        conditions.update(recovered=True, broker=True)
        async with session.get(f"{server.url}/readyz") as answer:
            assert answer.status == 200
            assert "reason" not in await answer.json()

    serve(check, lambda: conditions)


def test_unknown_path_and_method() -> None:
    async def check(server: HttpServer, session: aiohttp.ClientSession) -> None:
        async with session.get(f"{server.url}/users") as answer:
            assert answer.status == 404
        async with session.post(f"{server.url}/metrics") as answer:
            assert answer.status == 405
        async with session.head(f"{server.url}/healthz") as answer:
            assert answer.status == 200

    serve(check)


def test_taken_port_is_a_settings_error_that_says_the_cure() -> None:
    async def run(port: int) -> None:
        require_free("127.0.0.1", 0)
        await HttpServer("127.0.0.1", port, dict).start()

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} .*taken.*FRESHET_METRICS_PORT"):
            asyncio.run(run(port))
        with pytest.raises(SettingsError, match=rf"port {port} .*taken.*FRESHET_METRICS_PORT"):
            require_free("127.0.0.1", port)


def test_foreign_host_is_a_settings_error() -> None:
    async def run() -> None:
        await HttpServer("192.0.2.1", 0, dict).start()

    with pytest.raises(SettingsError, match="FRESHET_METRICS_HOST"):
        asyncio.run(run())


def test_port_is_free_again_after_stop_and_stop_may_come_twice() -> None:
    async def run() -> None:
        first = HttpServer("127.0.0.1", 0, dict)
        await first.start()
        await first.stop()
        await first.stop()
        second = HttpServer("127.0.0.1", first.port, dict)
        await second.start()
        await second.stop()

    asyncio.run(run())


def test_only_this_machine_is_served_unless_told_otherwise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert is_loopback(Settings().metrics_host)
    assert all(is_loopback(host) for host in ("localhost", "::1", "127.8.0.1"))

    async def start(host: str) -> str:
        server = HttpServer(host, 0, dict, CollectorRegistry())
        await server.start()
        await server.stop()
        return caplog.text

    assert not asyncio.run(start("127.0.0.1"))
    assert "is open to other machines" in asyncio.run(start("0.0.0.0"))
    assert "FRESHET_METRICS_HOST" in caplog.text


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("localhost", "localhost"),
        ("shop.example:8420", "shop.example"),
        ("127.0.0.1:8420", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:8420", "::1"),
        ("[::1].shop.example", ""),
        ("::1", ""),
        ("[::1]:8420:1", ""),
        ("localhost:shop.example", ""),
        ("", ""),
    ],
)
def test_the_host_that_was_asked_for(host: str, asked: str) -> None:
    assert asked_host(host) == asked
