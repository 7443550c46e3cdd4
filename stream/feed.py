"""The catalogue, followed: records of the items topic into `Catalogue`.

In: the items topic, read whole before the worker serves and followed live. Out: a catalogue that is
up to date, and dead letters for records that cannot be used. Knows nothing of users and lists.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stream import metrics
from stream.contracts import Item, dead_letter_headers, decode_item
from stream.core.catalogue import Catalogue, unit_embedding
from stream.core.content_graph import ContentGraph
from stream.errors import RecordError
from stream.kafka.cluster import Cluster
from stream.kafka.follower import TopicFollower
from stream.kafka.letters import Letter, LetterSender

if TYPE_CHECKING:
    from stream.config import Settings

log = logging.getLogger(__name__)

_PUBLISH_EVERY_S = 0.5
_MAX_BACKLOG_BYTES = 8 << 20
_HEADER_BYTES = 120  # what a header takes in memory besides its name and value, about


class Record(Protocol):
    """A record of the items topic."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class _Bad(NamedTuple):
    """A record that cannot be used, until its letter is sent."""

    letter: Letter
    offset: int
    reason: str
    size: int


class CatalogueFeed:
    """Keeps a catalogue up to date.

    Every worker reads all of the items topic, so each bad record is seen by all of them. The worker
    that owns the source partition of the same number publishes it, once in its life: after a
    restart, or when the partition comes from another worker, it may stand in the dead letters
    again. What waits for an owner takes 8 MiB at most, and what is being sent as much; the oldest
    give way, and are read again when their partition is this worker's.

    Parameters
    ----------
    embedding_dim : length of an item vector
    owns : whether a partition is assigned to this worker now
    content : makes vectors of records, for items that the model was not trained on and whose record
        brings no vector. Where it reads an embedding, a record's is that one
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        embedding_dim: int,
        owns: Callable[[int], bool],
        content: ContentGraph | None = None,
    ) -> None:
        self._content = content
        self._reads_embedding = content is not None and content.spec.embedding > 0
        self._settings = settings
        self._catalogue = catalogue
        self._dim = content.spec.embedding if content and self._reads_embedding else embedding_dim
        self._owns = owns
        cluster = Cluster.of(settings)
        self._follower = TopicFollower(
            cluster,
            settings.topics.items,
            self._put,
            stall_s=settings.broker.recovery_timeout_s,
        )
        self._letters = LetterSender(cluster, settings.topics.dead_letters)
        self._bad: deque[_Bad] = deque()
        self._bad_bytes = 0
        self._given_way: dict[int, tuple[int, int]] = {}  # partition -> first and last offset
        self._published: dict[int, int] = {}  # partition -> newest offset with a letter from here
        self._publishing = asyncio.Lock()
        self._loaded = asyncio.Event()
        self._loading: asyncio.Task[int] | None = None
        self._tasks: list[asyncio.Task[None]] = []

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
        self._loading = asyncio.create_task(self._follower.read_all())
        read = await self._loading
        items = len(self._catalogue) - 1
        told = {"records": read, "items": items}
        log.info("catalogue: %d records, %d items", read, items, extra=told)
        self._loaded.set()
        self._tasks = [
            asyncio.create_task(self._follower.follow(self._before_more)),
            asyncio.create_task(self._publish_bad()),
        ]

    async def wait_loaded(self) -> None:
        await self._loaded.wait()

    async def run(self) -> None:
        """Watch the background work; ends only by raising what went wrong there."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        # What still reads must end first: the client cannot be closed under its feet.
        tasks = [*filter(None, [self._loading]), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._follower.stop()
        await self._letters.stop()

    def _put(self, records: Sequence[Record]) -> None:
        described: dict[int, Item] = {}
        for record in records:
            try:
                item = self._read(record)
                if item is None:
                    self._catalogue.remove((record.key or b"").decode())
                    continue
                row = self._catalogue.put(item)
                described.pop(row, None)
                if item.embedding is None or self._reads_embedding:
                    described[row] = item
            except RecordError as error:
                self._keep(record, error)
        self._describe(described)
        for kind, count in self._catalogue.count_by_kind().items():
            metrics.CATALOGUE_ITEMS.labels(kind).set(count)

    def _describe(self, items: dict[int, Item]) -> None:
        """Vectors of items by row, where the model has none; in the place of what came for one."""
        if self._content is None:
            return
        rows = [row for row in items if not self._catalogue.is_trained(row)]
        vectors = self._content.vectors([items[row] for row in rows])
        for row, vector in zip(rows, vectors, strict=True):
            self._catalogue.describe(row, vector)

    def _read(self, record: Record) -> Item | None:
        item = decode_item(record.key, record.value)
        if item is not None and item.embedding is not None and len(item.embedding) != self._dim:
            raise RecordError("out_of_range", "embedding")
        return item

    def _bad_one(self, record: Record, error: RecordError) -> _Bad:
        headers = dead_letter_headers(
            error.reason,
            error.field,
            self._follower.topic,
            record.partition,
            record.offset,
            sent=record.headers,
            value=record.value,
        )
        size = len(record.key or b"") + len(record.value or b"")
        size += sum(_HEADER_BYTES + len(name) + len(value or b"") for name, value in headers)
        letter = Letter(record.key, record.value, record.partition, headers)
        return _Bad(letter, record.offset, error.reason, size)

    def _keep(self, record: Record, error: RecordError) -> None:
        """Keep a bad record until it is published; the oldest give way when they are too many."""
        if record.offset <= self._published.get(record.partition, -1):
            return
        bad = self._bad_one(record, error)
        self._bad.append(bad)
        self._bad_bytes += bad.size
        while self._bad_bytes > _MAX_BACKLOG_BYTES:
            oldest = self._bad.popleft()
            self._bad_bytes -= oldest.size
            partition = oldest.letter.partition
            first, _ = self._given_way.get(partition, (oldest.offset, 0))
            self._given_way[partition] = (first, oldest.offset)

    async def _publish_bad(self) -> None:
        while True:
            await asyncio.sleep(_PUBLISH_EVERY_S)
            await self._publish()

    async def _before_more(self) -> None:
        """Publish what waits before more is read, when it is much."""
        if self._bad_bytes > _MAX_BACKLOG_BYTES // 2:
            await self._publish()

    async def _publish(self) -> None:
        """Send bad records of partitions that are ours to the dead letters."""
        async with self._publishing:
            for partition in [p for p in self._given_way if self._owns(p)]:
                first, last = self._given_way.pop(partition)
                left = await self._read_again(partition, first, last)
                if left is not None:  # more may have given way meanwhile
                    _, last = self._given_way.get(partition, (left, last))
                    self._given_way[partition] = (left, last)
            mine = [bad for bad in self._bad if self._owns(bad.letter.partition)]
            if mine:  # which does not give way to what comes meanwhile: it would be sent twice
                taken = set(map(id, mine))
                self._bad = deque(bad for bad in self._bad if id(bad) not in taken)
                self._bad_bytes -= sum(bad.size for bad in mine)
                if not await self._send(mine):
                    self._put_back(mine)

    def _put_back(self, unsent: Sequence[_Bad]) -> None:
        """Let bad records wait again, before what came later; or be read again, with that."""
        waiting = []
        for bad in unsent:
            partition = bad.letter.partition
            if partition in self._given_way:
                first, last = self._given_way[partition]
                self._given_way[partition] = (min(first, bad.offset), max(last, bad.offset))
            else:
                waiting.append(bad)
        self._bad.extendleft(reversed(waiting))
        self._bad_bytes += sum(bad.size for bad in waiting)

    async def _read_again(self, partition: int, first: int, last: int) -> int | None:
        """Publish a partition's bad records that gave way to later ones; what offset is left."""
        async for records in self._follower.read_again(partition, first, last):
            bad = []
            for record in records:
                try:
                    item = self._read(record)
                    if item is not None and item.embedding is not None:
                        unit_embedding(item.embedding)
                except RecordError as error:
                    bad.append(self._bad_one(record, error))
            if not await self._send(bad):
                return int(records[0].offset)  # once more with the next turn
        return None

    async def _send(self, bad: Sequence[_Bad]) -> bool:
        """Whether the broker answered; else all of them are sent again."""
        if not await self._letters.send([one.letter for one in bad]):
            return False
        for letter, offset, reason, _ in bad:
            newest = self._published.get(letter.partition, -1)
            self._published[letter.partition] = max(newest, offset)
            metrics.DEAD_LETTERS_TOTAL.labels(self._follower.topic, reason).inc()
        return True
