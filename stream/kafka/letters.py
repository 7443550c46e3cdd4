"""Dead letters: how one is cut to what its topic takes, and how bad catalogue records are sent.

In: records as they came, and why they cannot be used. Out: the dead-letter topic. (A bad event goes
out with its batch's turn.) Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from stream.kafka.batches import Headers
from stream.kafka.cluster import Cluster

log = logging.getLogger(__name__)

# Above what any topic that Freshet makes takes: the broker decides, not the client.
_MAX_REQUEST_BYTES = 64 << 20


class Letter(NamedTuple):
    """A record that cannot be used, and the headers that say why."""

    key: bytes | None
    value: bytes | None
    partition: int
    headers: Headers


def shorter(letter: Letter) -> Iterator[Letter]:
    """`letter` as it is, then without its value, then without its key as well.

    A producer may send what the dead-letter topic does not take. The record still stands where it
    came from, and its headers say where; two more say how long is what they lack.
    """
    yield letter
    length = b"%d" % len(letter.value or b"")
    letter = letter._replace(value=b"", headers=[*letter.headers, ("freshet-value-bytes", length)])
    yield letter
    length = b"%d" % len(letter.key or b"")
    yield letter._replace(key=None, headers=[*letter.headers, ("freshet-key-bytes", length)])


class LetterSender:
    """Sends letters to one topic; connects at the first one."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._producer: Any = None  # aiokafka wants to be made inside an event loop

    async def send(self, letters: Sequence[Letter]) -> int:
        """Send letters to their partitions; returns when all are answered.

        One that is too large for its topic goes without its value. A letter that the broker does
        not take at all is logged with its place of origin, where it still stands, and given up: it
        must not end a worker that reads it again at each start.

        Returns
        -------
        how many the broker took
        """
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._cluster.options(), acks="all", max_request_size=_MAX_REQUEST_BYTES
            )
            await producer.start()
            self._producer = producer
        sent = await asyncio.gather(*map(self._send_one, letters))
        return sum(sent)

    async def _send_one(self, letter: Letter) -> bool:
        refused: KafkaError | None = None
        for tried in shorter(letter):
            try:
                await self._producer.send_and_wait(
                    self._topic,
                    tried.value,
                    tried.key,
                    partition=tried.partition,
                    headers=tried.headers,
                )
                return True
            except MessageSizeTooLargeError as error:
                refused = error
            except KafkaError as error:
                refused = error
                break
        origin = {name: value.decode() for name, value in letter.headers}
        log.warning("%s refused a letter: %s, %s", self._topic, type(refused).__name__, origin)
        return False

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
