"""Dead letters: how one is cut to what its topic takes, and how bad catalogue records are sent.

In: records as they came, and why they cannot be used. Out: the dead-letter topic. (A bad event goes
out with its batch's turn.) Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from stream.contracts import Headers
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.packing import GZIP, NONE, PlainBatch

log = logging.getLogger(__name__)

_BATCH_BYTES = 256 << 10
_COUNT = "freshet-headers"  # how many of the first headers are the record's own
_ORIGIN = ("freshet-topic", "freshet-partition", "freshet-offset", "freshet-reason")


class Letter(NamedTuple):
    """A record that cannot be used, and the headers that say why, behind its own."""

    key: bytes | None
    value: bytes | None
    partition: int
    headers: Headers


def _own_headers(letter: Letter) -> int:
    """How many of the first headers came with the record."""
    told = next((value for name, value in reversed(letter.headers) if name == _COUNT), None)
    return int(told or 0)


def _header_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value or b"") for name, value in headers)


def shorter(letter: Letter) -> Iterator[Letter]:
    """`letter` without its value or its headers, whichever is larger, without both, without key.

    For a topic that takes less than the source. The record still stands where it came from, and
    what is left of its headers says where; others say how long is what they lack.
    """
    sent = letter.headers[: _own_headers(letter)]
    lengths = {"value": len(letter.value or b""), "headers": _header_bytes(sent)}
    for part in (*sorted(lengths, key=lengths.__getitem__, reverse=True), "key"):
        if part == "headers":
            if not sent:
                continue
            kept = [
                (name, b"0" if name == _COUNT else value)
                for name, value in letter.headers[len(sent) :]
            ]
            letter = letter._replace(headers=kept)
        elif part == "value":
            if not letter.value:
                continue
            letter = letter._replace(value=b"")
        else:
            lengths["key"] = len(letter.key or b"")
            letter = letter._replace(key=None)
        length = b"%d" % lengths[part]
        letter = letter._replace(headers=[*letter.headers, (f"freshet-{part}-bytes", length)])
        yield letter


def forms(
    letter: Letter, timestamp_ms: int, packings: Sequence[int] = (NONE, GZIP)
) -> Iterator[tuple[PlainBatch, int]]:
    """Batches of one letter, each smaller than the one before, and their sizes in bytes.

    What came compressed may be too large only until it is compressed again.
    """
    for compression in packings:
        yield _packed(letter, compression, timestamp_ms)
    for cut in shorter(letter):
        yield _packed(cut, NONE, timestamp_ms)


def _packed(letter: Letter, compression: int, timestamp_ms: int) -> tuple[PlainBatch, int]:
    records = Records([letter.key], [letter.value], [letter.headers])
    size = 0
    if compression != NONE:  # the size is known once it is built, and then it is fixed
        twin = PlainBatch(1, compression)
        twin.fill(records, 0, timestamp_ms)
        size = len(twin._build())
        del twin  # which has 32 MiB, where a bomb was read: one at a time
    batch = PlainBatch(1, compression)
    batch.fill(records, 0, timestamp_ms)
    return batch, size or batch.size()


def letter_within(takes: int, letter: Letter, timestamp_ms: int) -> tuple[PlainBatch, int]:
    """The longest form of `letter` that its topic takes, else the shortest; and its size."""
    fits = len(letter.value or b"") <= takes  # else it is not packed in vain
    made = forms(letter, timestamp_ms, (NONE, GZIP) if fits else (GZIP,))
    batch, size = next(made)
    while size > takes and (following := next(made, None)) is not None:
        batch, size = following
    return batch, size


class LetterSender:
    """Sends letters to one topic; connects at the first one."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._producer: Any = None  # aiokafka wants to be made inside an event loop

    async def send(self, letters: Sequence[Letter]) -> bool:
        """Send letters to their partitions; returns when all are answered.

        One that is too large for its topic is cut. A letter that the broker does not take at all is
        logged with its place of origin, where it still stands, and given up: it must not end a
        worker that reads it again at each start.

        Returns
        -------
        False when the broker was away: some are not sent, and all may be sent again
        """
        if self._producer is None:
            producer = AIOKafkaProducer(**self._cluster.options(), acks="all")
            try:
                await producer.start()
            except KafkaError:
                await producer.stop()
                return False
            self._producer = producer
        of_partition: dict[int, list[Letter]] = {}
        for letter in letters:
            of_partition.setdefault(letter.partition, []).append(letter)
        answered = await asyncio.gather(*map(self._send_to_one, of_partition.values()))
        return all(answered)

    async def _send_to_one(self, letters: list[Letter]) -> bool:
        """Send letters of one partition, as few batches as they need; each waits for the last."""
        keys, values, _, headers = zip(*letters, strict=True)
        records, first = Records(keys, values, headers), 0
        while first < len(letters):
            batch = PlainBatch(_BATCH_BYTES)
            following = batch.fill(records, first, _now_ms())
            refused = await self._refused(batch, letters[first].partition)
            if refused is not None:  # one by one: which of them is it?
                for letter in letters[first:following]:
                    if not await self._send_alone(letter):
                        return False
            first = following
        return True

    async def _send_alone(self, letter: Letter) -> bool:
        refused: KafkaError | None = None
        for batch, _ in forms(letter, _now_ms()):
            refused = await self._refused(batch, letter.partition)
            if refused is None:
                return True
            if isinstance(refused, KafkaTimeoutError) or refused.retriable:
                return False
            if not isinstance(refused, MessageSizeTooLargeError):
                break
        ours = dict(letter.headers[_own_headers(letter) :])
        origin = [(ours.get(name) or b"").decode() for name in _ORIGIN]
        told = {"topic": self._topic, "error": type(refused).__name__}
        log.warning("%s refused a letter: %s, %s", *told.values(), origin, extra=told)
        return True

    async def _refused(self, batch: PlainBatch, partition: int) -> KafkaError | None:
        try:
            await (await self._producer.send_batch(batch, self._topic, partition=partition))
        except KafkaError as error:
            return error
        return None

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()


def _now_ms() -> int:
    return int(time.time() * 1000)
