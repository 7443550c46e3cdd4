"""A consumer's end while its fetches wait for a broker that is away."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher

from stream.kafka.stopping import stop_consumer

pytestmark = pytest.mark.anyio


class Waiting:
    """A consumer with two fetches that wait for their next try, closed by the real fetcher."""

    def __init__(self) -> None:
        self.closed = False
        self._fetcher = Fetcher.__new__(Fetcher)
        self._fetcher._closed = False
        self._fetcher._fetch_waiters = set()
        self._fetcher._fetch_task = asyncio.create_task(asyncio.sleep(60))
        self._fetcher._pending_tasks = {asyncio.create_task(asyncio.sleep(60)) for _ in range(2)}
        self._client = SimpleNamespace(close=self._close)

    async def _close(self) -> None:
        self.closed = True

    async def stop(self) -> None:
        await asyncio.sleep(0)
        await self._fetcher.close()
        await self._client.close()

    @property
    def fetches(self) -> list[asyncio.Task[None]]:
        return list(self._fetcher._pending_tasks)


async def test_nothing_of_it_is_left() -> None:
    consumer = Waiting()
    await asyncio.sleep(0)
    await stop_consumer(consumer)
    assert consumer.closed
    assert [fetch.cancelled() for fetch in consumer.fetches] == [True, True]


async def test_who_is_cancelled_meanwhile_stays_so() -> None:
    consumer = Waiting()
    stopping = asyncio.create_task(stop_consumer(consumer))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    for fetch in consumer.fetches:
        fetch.cancel()
