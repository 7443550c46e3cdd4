"""The gateway without brokers: a producer that keeps what it is given, records, a client.

Shared by its tests, its fuzzing and its benchmark.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from stream.config import Settings
from stream.contracts import (
    Answer,
    Cause,
    ListedItem,
    RankedList,
    Reason,
    Receipt,
    Recommendation,
    encode_record,
    partition_of,
)
from stream.errors import BrokerError
from stream.gateway.app import gateway_app
from stream.gateway.replies import Place
from stream.gateway.view import View
from stream.settings.gateway import Gateway

PARTITIONS = 6
NOW_MS = 1_700_000_000_000


class Consumed(NamedTuple):
    """A consumed record, as far as the gateway looks at one."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


class FakeProducer:
    """Keeps what it is given, and answers at once.

    Attributes
    ----------
    sent : topic, key and value of every record
    away : whether the brokers are
    answered, received : whether workers answer, and forget
    waits_s : for how long an answer was waited for, of each request
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes]] = []
        self.away = False
        self.answered = self.received = True
        self.waits_s: list[float] = []

    async def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Place]:
        if self.away:
            raise BrokerError("no broker answers")
        first = len(self.sent)
        self.sent += [(topic, key, value) for key, value in zip(keys, values, strict=True)]
        return [Place(0, offset) for offset in range(first, len(self.sent))]

    async def ask(
        self, key: bytes, value: bytes, request_id: str, timeout_s: float
    ) -> bytes | None:
        self.waits_s.append(timeout_s)
        await self.send("requests", [key], [value])
        asked = json.loads(value)
        told = (key.decode(), asked["type"], "answered", "home", False, "m", "default", NOW_MS)
        return encode_record(Answer(request_id, *told)) if self.answered else None

    async def forget(self, key: bytes, value: bytes, timeout_s: float) -> bytes | None:
        (place,) = await self.send("erasures", [key], [value])
        cause = Cause("erasures", *place, json.loads(value)["event_time_ms"])
        receipt = Receipt("ab" * 16, cause, ("recommendations",), {"clicks": None}, NOW_MS)
        return encode_record(receipt) if self.received else None


def record_of(user: str, items: int = 3, offset: int = 0, placement: str = "home") -> Consumed:
    """A published record of a user."""
    key = user.encode()
    partition = partition_of(key, PARTITIONS)
    listed = [
        ListedItem(f"i{n}", 1 - n / 1000, n + 1, Reason("click", "i9"), price=2.5)
        for n in range(items)
    ]
    cause = Cause("clicks", partition, offset, NOW_MS)
    value = Recommendation(
        user, {placement: RankedList(listed)}, "b1946ac9", "default", cause, NOW_MS + 12
    )
    return Consumed(key, encode_record(value), partition, offset)


def filled(*records: Consumed, own: frozenset[int] | None = None) -> View:
    """A view that has read these records."""
    view = View(PARTITIONS, own)
    view.put(records)
    view.loaded = True
    return view


def settings_with(**given: Any) -> Settings:
    """Settings of the gateway; a rate that no test meets by chance."""
    return Settings(gateway=Gateway(**{"rate": 0.0, **given}))


Client = TestClient[Any, Any]
Check = Callable[[Client], Awaitable[None]]


def serve(
    check: Check,
    view: View | None = None,
    producer: FakeProducer | None = None,
    settings: Settings | None = None,
    **options: Any,
) -> None:
    """Run `check` against the application on a loopback socket."""

    async def run() -> None:
        app = gateway_app(
            settings or settings_with(),
            filled(record_of("u1")) if view is None else view,
            producer or FakeProducer(),
            **{"registry": CollectorRegistry(), **options},
        )
        async with TestClient(TestServer(app)) as client:
            await check(client)

    asyncio.run(run())


async def refused(client: Client, method: str, path: str, **options: Any) -> tuple[int, str]:
    """Status and reason of a request that is not done; its form is the same whatever it is."""
    async with client.request(method, path, **options) as response:
        body = await response.json()
        assert set(body) <= {"error", "message", "partition", "rejections"}
        assert body["message"]
        return response.status, body["error"]
