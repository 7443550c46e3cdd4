"""Record batches out. In: records, a partition and the right to write it. Out: acknowledgements.

aiokafka's ordinary producer sends them; leader moves, metadata and retries stay its business. What
is added is the producer state in each batch, which lets the broker refuse what a worker sends after
it lost the partition. Knows nothing of Faust and of what the records mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError
from aiokafka.protocol.transaction import InitProducerIdRequest

from stream.errors import BrokerError, TopicError
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.letters import Letter, letter_within
from stream.kafka.packing import PlainBatch
from stream.kafka.sizes import DEFAULT_MAX_MESSAGE_BYTES
from stream.kafka.told import settings_told

OUTPUT_BATCH_BYTES = 1_000_000  # one batch a partition and request: few large ones wait least
LAST_SEQUENCE = 0x7FFFFFFF  # the broker counts on from 0 after it
_ASK_AGAIN_S = 0.2

T = TypeVar("T")

log = logging.getLogger(__name__)


class Fence:
    """The right to write one partition: a producer id, an epoch, and a sequence for each topic.

    The broker refuses a batch of an older epoch and one that skips a sequence number, so that
    neither a fenced owner nor the batch behind a lost one can reach the log.
    """

    __slots__ = ("_sequences", "epoch", "producer_id")

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id = producer_id
        self.epoch = epoch
        self._sequences: dict[str, int] = {}

    def stamp(self, batch: PlainBatch, topic: str) -> None:
        """Give `batch` the next sequence numbers of `topic`; batches must be sent in this order."""
        sequence = self._sequences.get(topic, 0)
        batch._set_producer_state(self.producer_id, self.epoch, sequence)
        self._sequences[topic] = (sequence + batch.record_count()) & LAST_SEQUENCE


class Writer:
    """One producer for the changelog and all outputs of a worker."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._limits: dict[str, int] = {}
        self._producer: Any = None

    async def start(self) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._cluster.options(), linger_ms=0, acks="all", compression_type=None
            )
            await producer.start()
            self._producer = producer

    async def stop(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def new_producer_id(self) -> int | None:
        """A producer id that nobody had before; None when the broker knows no such thing.

        The embedded broker answers with error -1 every time; another one may do so once.
        """
        client = self._producer.client
        unknown_errors = 0
        while True:
            try:
                response = await _until_reached(
                    lambda: client.send(client.get_random_node(), InitProducerIdRequest(None, -1))
                )
            except IncompatibleBrokerVersion:
                return None
            if response.error_code == 0:
                return int(response.producer_id)
            if response.error_code == -1:
                unknown_errors += 1
                if unknown_errors == 3:
                    return None
            elif response.error_code not in (14, 15, 16):  # coordinator loading, absent, elsewhere
                raise BrokerError(f"the broker gives no producer id: error {response.error_code}")
            await asyncio.sleep(0.1)

    async def max_message_bytes(self, topic: str) -> int:
        """The topic's max.message.bytes, asked for once; Kafka's default where it is not told."""
        known = self._limits.get(topic)
        if known is None:
            known = await _until_reached(lambda: _max_message_bytes(self._cluster, topic))
            self._limits[topic] = known
        return known

    async def one_batch(self, records: Records, topic: str, timestamp_ms: int) -> PlainBatch:
        """All `records` in a single record batch.

        Raises
        ------
        TopicError : the broker would refuse a batch of this size
        """
        limit = await self.max_message_bytes(topic)
        batch = PlainBatch(limit)
        if batch.fill(records, 0, timestamp_ms) < len(records) or batch.size() > limit:
            raise TopicError(
                f"the {len(records)} records of a partition's batch do not fit into a record batch "
                f"of topic {topic} (max.message.bytes={limit}). Lower batch.max_events "
                f"(FRESHET_BATCH_MAX_EVENTS) or raise max.message.bytes of that topic"
            )
        return batch

    async def batches(self, records: Records, topic: str, timestamp_ms: int) -> list[PlainBatch]:
        """`records` in as many record batches as they need, in order.

        A record with headers is a dead letter: one that is too large is cut.

        Raises
        ------
        TopicError : the broker would refuse one of the records
        """
        takes = await self.max_message_bytes(topic)
        limit = min(OUTPUT_BATCH_BYTES, takes)
        made = []
        first = 0
        while first < len(records):
            batch = PlainBatch(limit)
            at, first = first, batch.fill(records, first, timestamp_ms)
            size = batch.size()
            if size > takes and records.headers is not None:
                letter = Letter(records.keys[at], records.values[at], 0, records.headers[at])
                del batch  # it may have 32 MiB
                batch, size = letter_within(takes, letter, timestamp_ms)
            if size > takes:  # a batch always takes its first record
                raise TopicError(
                    f"a record of {size} bytes does not fit into topic {topic} "
                    f"(max.message.bytes={takes}). Raise that topic's max.message.bytes "
                    f"(kafka-configs --alter) and start again: the record comes again"
                )
            made.append(batch)
        return made

    async def send(
        self, batch: PlainBatch, topic: str, partition: int, fence: Fence | None
    ) -> asyncio.Future[Any]:
        """Hand `batch` to the producer; the future holds the broker's answer.

        Calls for one topic partition must not overlap: the numbers are given before the batch
        stands in the producer's queue.
        """
        if fence is not None:
            fence.stamp(batch, topic)
        future: asyncio.Future[Any] = await self._producer.send_batch(
            batch, topic, partition=partition
        )
        return future


async def _until_reached(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while no broker is reached; who waits for the answer is watched over."""
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("asking again: %s", type(error).__name__)
            await asyncio.sleep(_ASK_AGAIN_S)


async def _max_message_bytes(cluster: Cluster, topic: str) -> int:
    admin = AIOKafkaAdminClient(**cluster.options())
    await admin.start()
    try:
        told = await settings_told(admin, [topic])
    except (KafkaError, NotImplementedError) as error:  # the latter for unknown versions
        if getattr(error, "retriable", False):
            raise
        return DEFAULT_MAX_MESSAGE_BYTES  # the embedded broker may not tell
    finally:
        await admin.close()
    return int(told.get(topic, {}).get("max.message.bytes") or DEFAULT_MAX_MESSAGE_BYTES)
