"""Record batches in. In: partitions and positions. Out: what the broker has, as columns.

aiokafka's consumer without a group: assign, seek and fetch on the caller's event loop. Knows
nothing of Faust, of the group and of what the records mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError

from stream.contracts import Headers
from stream.errors import BrokerError
from stream.kafka.batches import RecordBatch
from stream.kafka.cluster import Cluster
from stream.kafka.stopping import stop_consumer
from stream.kafka.unpack import MAX_UNPACKED_BYTES, bound_unpacking

FETCH_BYTES = 1 << 20
FETCH_WAIT_MS = 500
HASTY_FETCH_WAIT_MS = 20
# Records of all partitions together, in one look: what is packed small may be very many, and as
# columns a record takes 165 bytes besides its own. What is left stays as it was fetched, and the
# worker's memory hardly depends on how many partitions have a backlog.
TAKEN_AT_ONCE = 16_384

_headers = attrgetter("headers")


class Progress(NamedTuple):
    """How far a partition was read; `end` is the broker's high watermark of the last fetch."""

    position: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.position)


class Look(NamedTuple):
    """What a look at a partition's fetch response found.

    Attributes
    ----------
    batch : None where there was no data record from the position on
    is_all : nothing is left of the response
    seen : records, those from before the position as well
    spent_bytes : what was decompressed, or what the records hold, whichever is more
    """

    batch: RecordBatch | None
    is_all: bool
    seen: int
    spent_bytes: int


class Reader:
    """Fetches whole record batches from assigned partitions.

    A partition is paused from `assign` until `start_at` gave it a position, so that nothing is
    ever fetched from a default one.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        fetch_bytes: int = FETCH_BYTES,
        fetch_wait_ms: int = FETCH_WAIT_MS,
    ) -> None:
        self._options = {
            **cluster.options(),
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "fetch_max_wait_ms": fetch_wait_ms,
            "max_partition_fetch_bytes": fetch_bytes,
        }
        self.consumer: Any = None

    async def start(self) -> None:
        bound_unpacking()
        self.consumer = AIOKafkaConsumer(**self._options)
        await self.consumer.start()

    async def stop(self) -> None:
        if self.consumer is not None:
            await stop_consumer(self.consumer)

    def hasten(self) -> None:
        """Ask for records again and again: for a broker that answers a waiting fetch late.

        The embedded one answers when the wait is over, not when a record arrives: 152 ms from
        producer to consumer with a wait of 500 ms, 6 ms with one of 20.

        Upstream: aiokafka Fetcher._fetch_max_wait_ms, read at each fetch.
        """
        self.consumer._fetcher._fetch_max_wait_ms = HASTY_FETCH_WAIT_MS

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Take these partitions, paused; what was fetched or under way for others is dropped."""
        wanted = list(partitions)
        if wanted:
            self.consumer.assign(wanted)
            self.consumer.pause(*wanted)
        else:
            self.consumer.unsubscribe()

    async def start_at(self, offsets: Mapping[TopicPartition, int | None]) -> None:
        """Fetch from these offsets on; None is the oldest one that is still there."""
        mine = {tp: at for tp, at in offsets.items() if tp in self.consumer.assignment()}
        for tp, offset in mine.items():
            if tp not in self.consumer.assignment():
                continue  # a rebalance took it while another one was waited for
            if offset is None:
                await self.consumer.seek_to_beginning(tp)
            else:
                self.consumer.seek(tp, offset)
        self.consumer.resume(*(set(mine) & self.consumer.assignment()))

    async def beginnings(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(await self.consumer.beginning_offsets(partitions))

    async def ends(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(await self.consumer.end_offsets(partitions))

    def progress(self) -> dict[TopicPartition, Progress]:
        """Of each partition that has a position and was fetched at least once.

        Upstream: aiokafka SubscriptionState.subscription.assignment.state_value (the public
        `position` waits for a position instead of telling that there is none).
        """
        subscription = self.consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        found = {}
        for tp in subscription.assignment.tps:
            state = subscription.assignment.state_value(tp)
            if state.has_valid_position and state.highwater is not None:
                found[tp] = Progress(state.position, state.highwater)
        return found

    async def fetch(
        self,
        partitions: Collection[TopicPartition],
        timeout_s: float,
        still_wanted: Callable[[], bool] = lambda: True,
    ) -> dict[TopicPartition, RecordBatch]:
        """What was fetched for `partitions`; waits at most `timeout_s` for something to come.

        Returns {} at once, without waiting, when a look passed only records from before the
        position and more of them are left. Takes nothing once `still_wanted()` is false.

        Upstream: aiokafka Fetcher.fetched_records (0.14).

        Raises
        ------
        KafkaError : the broker answered a fetch with an error that repeating does not mend
        """
        fetcher = self.consumer._fetcher
        await asyncio.sleep(0)  # a look takes time; others have their turn before each
        if self.consumer._closed or fetcher._closed:
            raise ConsumerStoppedError()
        if not still_wanted():
            return {}
        with fetcher._subscriptions.fetch_context():
            batches = drain(fetcher, partitions)
            if batches or _is_amid(fetcher, partitions):
                return batches
            waiter = fetcher._create_fetch_waiter()
            await asyncio.wait([waiter], timeout=timeout_s)
            if waiter.done():
                waiter.result()
            else:
                waiter.cancel()
            if fetcher._closed:
                raise ConsumerStoppedError()
            return drain(fetcher, partitions) if still_wanted() else {}


def drain(
    fetcher: Any, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, RecordBatch]:
    """Take what `fetcher` has ready, one batch a partition, until it is enough; positions move on.

    Upstream: aiokafka Fetcher.fetched_records, FetchResult.getall and
    PartitionRecords._unpack_records (0.14), which make an object and a generator step a record.
    """
    subscriptions = fetcher._subscriptions
    taken: dict[TopicPartition, RecordBatch] = {}
    room, room_bytes = TAKEN_AT_ONCE, MAX_UNPACKED_BYTES
    if subscriptions.reassignment_in_progress:
        return taken
    for tp in list(fetcher._records):
        if room <= 0 or room_bytes <= 0:
            break  # the next call begins with those left
        if tp not in partitions:
            if not subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        result = fetcher._records[tp]
        if type(result) is not FetchResult:
            if taken:
                return taken  # the error is raised by the next call
            _release(fetcher, tp)
            result.check_raise()
        if result.check_assignment(tp) and result.has_more():
            fetched = result._partition_records
            look = _unpack(tp, fetched, room, room_bytes)
            room -= look.seen
            room_bytes -= look.spent_bytes
            result._update_position()
            if look.is_all:
                result._partition_records = None
            else:  # behind the others: what is packed small must not hold them up
                fetcher._records[tp] = fetcher._records.pop(tp)
            if look.batch is not None:
                taken[tp] = look.batch
        if not result.has_more():
            _release(fetcher, tp)
    return taken


def _is_amid(fetcher: Any, partitions: Collection[TopicPartition]) -> bool:
    """Whether a look that took nothing left records of these partitions that it may take."""
    return not fetcher._subscriptions.reassignment_in_progress and any(
        type(result) is FetchResult and result.has_more()
        for tp, result in fetcher._records.items()
        if tp in partitions
    )


def _release(fetcher: Any, tp: TopicPartition) -> None:
    """Let the fetcher ask for more of `tp`."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


def _unpack(
    tp: TopicPartition, fetched: Any, most: int, most_bytes: int = MAX_UNPACKED_BYTES
) -> Look:
    """Turn one fetch response of a partition into columns, by a look at so many records at most.

    What comes compressed ends with the record batch by which `most_bytes` are spent.

    Raises
    ------
    BrokerError : a batch is not what the producer sent, by its checksum
    """
    start = after = fetched.next_fetch_offset
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    offsets: list[int] = []
    timestamps: list[int] = []
    headers: dict[int, Headers] = {}
    unpacked_bytes = decompressed_bytes = spent_bytes = seen = 0
    # Upstream's own way through the records, which we do not go: the two hold each other, and with
    # them all that was fetched until Python looks for cycles, which is seldom.
    fetched._records_iterator = None
    begun = getattr(fetched, "begun", None)  # the batch that the call before had not room for
    while seen < most and spent_bytes < most_bytes and (begun or fetched._records.has_next()):
        record_batch = begun or fetched._records.next_batch()
        if begun is None and fetched._check_crcs and not record_batch.validate_crc():
            raise BrokerError(
                f"topic {tp.topic}, partition {tp.partition}: the record batch at offset {after} "
                f"is damaged, by its checksum: on the broker's disk, or on the way. Restore the "
                f"partition from a replica, or delete its records up to there"
            )
        if record_batch.is_control_batch:
            after = record_batch.next_offset
            continue
        before = record_batch.taken_bytes, record_batch.decompressed_bytes
        records = record_batch.take(most - seen)
        unpacked_bytes += record_batch.taken_bytes - before[0]
        decompressed_bytes += record_batch.decompressed_bytes - before[1]
        # Of a batch read in pieces the first look has the work, each look its part of the memory.
        spent_bytes = max(unpacked_bytes, decompressed_bytes)
        seen += len(records)
        begun = record_batch if seen == most else None
        after = record_batch.next_offset if begun is None else records[-1].offset + 1
        if records and records[0].offset < start:  # the broker answers with whole record batches
            records = [record for record in records if record.offset >= start]
        if any(map(_headers, records)):
            headers.update(filter(itemgetter(1), enumerate(map(_headers, records), len(offsets))))
        keys += [record.key for record in records]
        values += [record.value for record in records]
        offsets += [record.offset for record in records]
        timestamps += [record.timestamp for record in records]
    fetched.begun = begun
    fetched.next_fetch_offset = after = max(start, after)
    is_all = begun is None and not fetched._records.has_next()
    columns = (keys, values, offsets, timestamps, headers, unpacked_bytes)
    batch = RecordBatch(tp.topic, tp.partition, offsets[0], after, *columns) if offsets else None
    return Look(batch, is_all, seen, spent_bytes)
