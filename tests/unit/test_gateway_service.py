"""The gateway's life without brokers: where it listens, what ends it, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import aiohttp
import pytest
from aiokafka.errors import KafkaConnectionError

from stream.config import Settings
from stream.errors import BrokerError, SettingsError, TopicError
from stream.gateway.service import Service
from stream.settings.gateway import Gateway
from tests.support.gateway import record_of


def service(**given: Any) -> Service:
    """A service whose brokers are never asked."""
    made = Service(Settings(gateway=Gateway(**{"port": 0, **given})))

    async def look() -> str | None:
        return "no broker answers at x"

    made._pulse.look = look  # type: ignore[method-assign]
    return made


async def failing(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (TopicError("topic x is damaged"), TopicError, "topic x is damaged"),
        (KafkaConnectionError("nobody"), BrokerError, "`freshet doctor`"),
    ],
)
def test_what_ends_it_is_told_in_words(error: Exception, told: type[Exception], words: str) -> None:
    made = service()
    made._read = lambda: failing(error)  # type: ignore[method-assign]
    with pytest.raises(told, match=words):
        asyncio.run(made.run())


def test_a_slip_of_the_code_is_not_taken_for_a_brokers() -> None:
    made = service()
    made._read = lambda: failing(ValueError("slip"))  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup):
        asyncio.run(made.run())


def test_a_topic_of_another_shape_ends_it() -> None:
    made = service()
    made._read = lambda: asyncio.sleep(10)  # type: ignore[method-assign]
    made._pulse.gone = "topic clicks has 3 partitions, not 6"
    with pytest.raises(TopicError, match=r"has 3 partitions, not 6: `freshet topics check`"):
        asyncio.run(made.run())


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match="FRESHET_GATEWAY_PORT"):
            asyncio.run(service(port=port).start())
    with pytest.raises(SettingsError, match="FRESHET_GATEWAY_HOST"):
        asyncio.run(service(host="192.0.2.1", open=True).start())


def test_it_serves_what_it_has_and_ends_with_streams_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def check() -> None:
        made = service()
        await made.start()
        work = asyncio.create_task(made.run())
        made.view.put([record_of("u1")])
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{made.url}/v1/users/u1/lists") as response:
                assert response.status == 200
            async with session.get(f"{made.url}/readyz") as response:
                assert (await response.json())["broker"] is False
            async with session.get(f"{made.url}/v1/users/u1/stream") as response:
                await response.content.readline()
                work.cancel()
                await asyncio.wait([work])
                await asyncio.wait_for(made.stop(), 3)
                await response.read()
        # What cannot be read as HTTP is not quoted in the log.
        await made.stop()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(check())
    assert "u1" not in caplog.text


def test_what_is_no_http_is_not_quoted(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> bytes:
        made = service()
        await made.start()
        host, port = made.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /v1/users/secret-shopper/lists BROKEN\r\nA b: c\r\n\r\n")
        told = await reader.read(12)
        writer.close()
        await made.stop()
        return told

    with caplog.at_level(logging.DEBUG):
        assert asyncio.run(check()) == b"HTTP/1.0 400"
    assert "shopper" not in caplog.text
