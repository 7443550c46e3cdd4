"""The catalogue, followed: records of the items topic into `Catalogue`.

In: the items topic, read whole before the worker serves and followed live. Out: a catalogue that is
up to date, and dead letters for records that cannot be used. Knows nothing of users and lists.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from stream import metrics
from stream.contracts import dead_letter_headers, decode_item
from stream.core.catalogue import Catalogue
from stream.errors import RecordError
from stream.kafka.follower import TopicFollower

if TYPE_CHECKING:
    from stream.config import Settings

log = logging.getLogger(__name__)

_PUBLISH_EVERY_S = 0.5


class CatalogueFeed:
    """Keeps a catalogue up to date.

    Every worker reads all of the items topic, so each bad record is seen by all of them. The worker
    that owns the source partition of the same number publishes it, once in its life: after a
    restart it may stand in the dead letters again.

    Parameters
    ----------
    embedding_dim : length that an item's embedding must have
    owns : whether this worker serves a partition now
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        embedding_dim: int,
        owns: Callable[[int], bool],
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._dim = embedding_dim
        self._owns = owns
        self._follower = TopicFollower(settings.bootstrap, settings.topics.items, self._put)
        self._bad: list[tuple[ConsumerRecord, RecordError]] = []
        self._loaded = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._producer: AIOKafkaProducer | None = None

    @property
    def loaded(self) -> bool:
        """The whole topic was read once."""
        return self._loaded.is_set()

    async def start(self) -> None:
        """Read the topic to its present end, then go on in the background.

        Raises
        ------
        TopicError : the topic does not exist or stopped answering
        """
        read = await self._follower.read_all()
        log.info("catalogue: %d records, %d items", read, len(self._catalogue) - 1)
        self._loaded.set()
        self._tasks = [
            asyncio.create_task(self._follower.follow()),
            asyncio.create_task(self._publish_bad()),
        ]

    async def wait_loaded(self) -> None:
        await self._loaded.wait()

    async def run(self) -> None:
        """Watch the background work; ends only by raising what went wrong there."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._follower.stop()
        if self._producer is not None:
            await self._producer.stop()

    def _put(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            try:
                item = decode_item(record.key, record.value)
                if item is None:
                    self._catalogue.remove(record.key.decode(errors="replace"))
                    continue
                if item.embedding is not None and len(item.embedding) != self._dim:
                    raise RecordError("out_of_range", "embedding")
                self._catalogue.put(item)
            except RecordError as error:
                self._bad.append((record, error))
        for kind, count in self._catalogue.count_by_kind().items():
            metrics.CATALOGUE_ITEMS.labels(kind).set(count)

    async def _publish_bad(self) -> None:
        """Send bad records of partitions that are ours to the dead letters."""
        topics = self._settings.topics
        while True:
            await asyncio.sleep(_PUBLISH_EVERY_S)
            mine = [(record, error) for record, error in self._bad if self._owns(record.partition)]
            if not mine:
                continue
            if self._producer is None:
                self._producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.bootstrap.split(","), acks="all"
                )
                await self._producer.start()
            for record, error in mine:
                headers = dead_letter_headers(
                    error.reason, error.field, topics.items, record.partition, record.offset
                )
                await self._producer.send_and_wait(
                    topics.dead_letters,
                    record.value,
                    record.key,
                    partition=record.partition,
                    headers=headers,
                )
                metrics.DEAD_LETTERS_TOTAL.labels(topics.items, error.reason).inc()
                self._bad.remove((record, error))
