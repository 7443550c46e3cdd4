"""Dead letters sent outside of a turn: bad records of topics that hold no events.

In: records as they came, and why they cannot be used. Out: the dead-letter topic. (A bad event goes
out with its batch's turn.) Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer


class Letter(NamedTuple):
    """A record that cannot be used, and the headers that say why."""

    key: bytes | None
    value: bytes | None
    partition: int
    headers: list[tuple[str, bytes]]


class LetterSender:
    """Sends letters to one topic; connects at the first one.

    Parameters
    ----------
    bootstrap : host:port, comma separated
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap.split(",")
        self._topic = topic
        self._producer: Any = None  # aiokafka wants to be made inside an event loop

    async def send(self, letters: Sequence[Letter]) -> None:
        """Send letters to their partitions; returns when all are acknowledged."""
        if self._producer is None:
            producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all")
            await producer.start()
            self._producer = producer
        sent = [
            await self._producer.send(
                self._topic,
                letter.value,
                letter.key,
                partition=letter.partition,
                headers=letter.headers,
            )
            for letter in letters
        ]
        await asyncio.gather(*sent)

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
