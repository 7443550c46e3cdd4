"""What the gateway sends, and what comes back for it. In: keys and values. Out: acknowledgements.

`Producer` is what the routes need; `TopicProducer` does it on brokers. Every wait has an end. Knows
nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from stream.config import Settings
from stream.errors import BrokerError
from stream.gateway.replies import Place, Replies, Reply
from stream.kafka.cluster import Cluster

_YIELD_EVERY = 64  # records: a thousand at once would keep readers waiting


class Producer(Protocol):
    """What the routes send by.

    Every method raises BrokerError when the brokers did not acknowledge in time; what was sent may
    stand on the topic all the same.
    """

    async def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Place]:
        """Send records, each to its key's partition; returns once all are acknowledged."""
        ...

    async def ask(
        self, key: bytes, value: bytes, request_id: str, timeout_s: float
    ) -> bytes | None:
        """Send a request and wait for its answer; None: there was none in time."""
        ...

    async def forget(self, key: bytes, value: bytes, timeout_s: float) -> bytes | None:
        """Send an erasure and wait for its receipt; None: there was none in time."""
        ...


class TopicProducer:
    """Sends with acks of all replicas; `murmur2` of the key chooses the partition.

    Parameters
    ----------
    away : why the brokers cannot be reached now, as last looked at; then nothing is tried
    """

    def __init__(
        self, settings: Settings, replies: Replies, away: Callable[[], str | None] = lambda: None
    ) -> None:
        self._settings = settings
        self._replies = replies
        self._away = away
        self._timeout_s = settings.gateway.send_timeout_s
        self._client: Any = None  # aiokafka wants to be made inside an event loop

    async def start(self) -> None:
        """Connect. Raises KafkaError when no broker answers."""
        self._client = AIOKafkaProducer(
            **Cluster.of(self._settings).options(),
            acks="all",
            linger_ms=0,
            max_batch_size=262_144,
            request_timeout_ms=int(1000 * self._timeout_s),
        )
        await self._client.start()

    async def stop(self) -> None:
        """Send what is left, for as long as a request may wait."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.stop(), min(2.0, self._timeout_s))
            except (TimeoutError, KafkaError):
                return

    async def send(self, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> list[Place]:
        """See `Producer.send`."""
        if (away := self._away()) is not None:
            raise BrokerError(away)
        if self._client is None:
            raise BrokerError("the brokers are not connected yet")
        sent: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                for number, (key, value) in enumerate(zip(keys, values, strict=True), 1):
                    sent.append(await self._client.send(topic, value, key))
                    if not number % _YIELD_EVERY:
                        await asyncio.sleep(0)
                if not sent:
                    return []
                # Not `gather`, which would cancel futures that belong to the client.
                done, _ = await asyncio.wait(sent, return_when=asyncio.FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except (KafkaError, TimeoutError) as error:
            for future in sent:
                future.add_done_callback(_look_at)
            raise BrokerError(
                f"the brokers did not acknowledge a record of {topic} ({type(error).__name__})"
            ) from error
        return [Place(future.result().partition, future.result().offset) for future in sent]

    async def ask(
        self, key: bytes, value: bytes, request_id: str, timeout_s: float
    ) -> bytes | None:
        """See `Producer.ask`."""
        end_s = time.monotonic() + timeout_s
        with self._replies.answer_to(key, request_id) as reply:
            await self.send(self._settings.topics.requests, [key], [value])
            return await _until(reply, end_s)

    async def forget(self, key: bytes, value: bytes, timeout_s: float) -> bytes | None:
        """See `Producer.forget`."""
        end_s = time.monotonic() + timeout_s
        with self._replies.erasing():
            (place,) = await self.send(self._settings.topics.erasures, [key], [value])
            with self._replies.receipt_of(place) as reply:
                return await _until(reply, end_s)


async def _until(reply: Reply, end_s: float) -> bytes | None:
    await asyncio.wait([reply], timeout=max(0.0, end_s - time.monotonic()))
    return reply.result() if reply.done() else None


def _look_at(future: asyncio.Future[Any]) -> None:
    """An error that came after its request was answered is not worth a complaint."""
    if not future.cancelled():
        future.exception()
