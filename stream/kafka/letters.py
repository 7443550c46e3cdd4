"""Dead letters sent outside of a turn: bad records of topics that hold no events.

In: records as they came, and why they cannot be used. Out: the dead-letter topic. (A bad event goes
out with its batch's turn.) Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

# Above what any topic that Freshet makes takes: the broker decides, not the client.
_MAX_REQUEST_BYTES = 64 << 20


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

    async def send(self, letters: Sequence[Letter]) -> int:
        """Send letters to their partitions; returns when all are answered.

        A letter that the broker does not take is logged with its place of origin, where it still
        stands, and given up: it must not end a worker that reads it again at each start.

        Returns
        -------
        how many the broker took
        """
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap, acks="all", max_request_size=_MAX_REQUEST_BYTES
            )
            await producer.start()
            self._producer = producer
        sent = await asyncio.gather(*map(self._send_one, letters))
        return sum(sent)

    async def _send_one(self, letter: Letter) -> bool:
        try:
            await self._producer.send_and_wait(
                self._topic,
                letter.value,
                letter.key,
                partition=letter.partition,
                headers=letter.headers,
            )
        except KafkaError as error:
            origin = {name: value.decode() for name, value in letter.headers}
            log.warning("%s refused a letter: %s, %s", self._topic, type(error).__name__, origin)
            return False
        return True

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
