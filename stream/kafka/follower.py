"""Read a topic whole, then follow it: for small topics that every worker keeps in memory.

In: a topic. Out: its records, in order within a partition, to a callback. No group, no commits:
each start reads from the beginning. Knows nothing of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord

from stream.errors import TopicError
from stream.kafka.cluster import Cluster
from stream.kafka.reader import FETCH_WAIT_MS
from stream.kafka.stopping import stop_consumer
from stream.kafka.unpack import bound_unpacking

T = TypeVar("T")

log = logging.getLogger(__name__)

_POLL_MS = 500
_AT_ONCE = 2_000  # records: what is packed small may be very many
_METADATA_TRIES = 20


class TopicFollower:
    """Hands every record of a topic to `on_records`, from the first to the newest and on.

    Parameters
    ----------
    on_records : called on the event loop with the records of one partition, in offset order
    stall_s : without an answer or a record for so long, reading it whole has failed
    partitions : those that are read; None: all
    fetch_wait_ms : how long a broker may wait for records; see `Reader.hasten`
    """

    def __init__(
        self,
        cluster: Cluster,
        topic: str,
        on_records: Callable[[list[ConsumerRecord]], None],
        stall_s: float,
        partitions: frozenset[int] | None = None,
        fetch_wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        self.topic = topic
        self._wanted = partitions
        self._fetch_wait_ms = fetch_wait_ms
        self._cluster = cluster
        self._on_records = on_records
        self._stall_s = stall_s
        self._consumer: Any = None  # aiokafka wants to be made inside an event loop

    async def read_all(self) -> int:
        """Read to the present end; answers how many records that were.

        Raises
        ------
        TopicError : the topic does not exist, or stopped answering before its end
        """
        ends = await self._within(self._begin())
        read = 0
        quiet_s = 0.0
        while not await self._within(self._at(ends)):
            got = await self._poll()
            read += got
            quiet_s = 0.0 if got else quiet_s + _POLL_MS / 1000
            if quiet_s > self._stall_s:
                raise self._stalled()
        return read

    async def skip_all(self) -> None:
        """Go to the present end, for what is news alone.

        Raises
        ------
        TopicError : the topic does not exist, or does not answer
        """
        assigned = await self._within(self._assign())
        await self._within(self._consumer.seek_to_end(*assigned))
        for partition in assigned:  # from here on, not from the first poll
            await self._within(self._consumer.position(partition))

    async def _assign(self) -> list[TopicPartition]:
        self._consumer = self._new_consumer()
        await self._consumer.start()
        assigned = [
            TopicPartition(self.topic, partition)
            for partition in await self._partitions()
            if self._wanted is None or partition in self._wanted
        ]
        self._consumer.assign(assigned)
        return assigned

    async def _begin(self) -> dict[TopicPartition, int]:
        """Connect and go to the first record; the present ends."""
        assigned = await self._assign()
        await self._consumer.seek_to_beginning(*assigned)
        return dict(await self._consumer.end_offsets(assigned))

    async def _within(self, step: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(step, self._stall_s)
        except TimeoutError:
            raise self._stalled() from None

    def _stalled(self) -> TopicError:
        return TopicError(
            f"topic {self.topic!r} stopped answering before its end: no progress for "
            f"{self._stall_s:g} s. Check the brokers that lead its partitions"
        )

    def _new_consumer(self) -> Any:
        bound_unpacking()
        return AIOKafkaConsumer(
            **self._cluster.options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._fetch_wait_ms,
        )

    async def _partitions(self) -> list[int]:
        admin = AIOKafkaAdminClient(**self._cluster.options())
        await admin.start()
        try:
            for _ in range(_METADATA_TRIES):  # a topic made a moment ago may not be known yet
                (described,) = await admin.describe_topics([self.topic])
                if described["error_code"] == 0:
                    return sorted(found["partition"] for found in described["partitions"])
                await asyncio.sleep(0.1)
        finally:
            await admin.close()
        raise TopicError(f"topic {self.topic!r} does not exist: `freshet topics create`")

    async def follow(self, before_more: Callable[[], Awaitable[None]]) -> None:
        """Hand on what comes, until cancelled; waits for `before_more` each time."""
        while True:
            await self._poll()
            await before_more()

    async def read_again(
        self, partition: int, first: int, last: int
    ) -> AsyncIterator[list[ConsumerRecord]]:
        """The records from offset `first` to `last` once more, some at a time.

        Ends early when the broker gives none for `stall_s`.
        """
        where = TopicPartition(self.topic, partition)
        consumer = self._new_consumer()
        await consumer.start()
        try:
            consumer.assign([where])
            consumer.seek(where, first)
            quiet_s = 0.0
            while quiet_s < self._stall_s and await consumer.position(where) <= last:
                found = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
                quiet_s = 0.0 if found else quiet_s + _POLL_MS / 1000
                for records in found.values():
                    yield [record for record in records if record.offset <= last]
        finally:
            await stop_consumer(consumer)

    async def stop(self) -> None:
        if self._consumer is not None:
            await stop_consumer(self._consumer)

    async def _poll(self) -> int:
        try:
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
        except CorruptRecordException:
            raise TopicError(
                f"a record batch of topic {self.topic!r} is damaged, by its checksum: on the "
                f"broker's disk, or on the way. Restore the topic from a replica, or delete and "
                f"fill it again"
            ) from None
        for records in batches.values():
            self._on_records(records)
        return sum(map(len, batches.values()))

    async def _at(self, ends: dict[TopicPartition, int]) -> bool:
        """Every partition read to its end.

        The embedded broker answers too small an end, so a fetch's high watermark counts as well.
        """
        for partition, end in ends.items():
            known_end = max(end, self._consumer.highwater(partition) or 0)
            if await self._consumer.position(partition) < known_end:
                return False
        return True
