"""The counts of all workers, of items and of rewards of exploring; and what trends.

In: each partition's counts, which workers tell each other on a compacted topic. Out: counts by
catalogue row and by arm, and what a partition's next turn has to publish: its own rows that
changed, and the trending records whose key falls into it, when they changed. Knows nothing of
users.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream import metrics
from stream.contracts import ITEM_KINDS, Request, encode_record
from stream.contracts.partitioner import partition_of
from stream.contracts.trending import Trending, TrendingItem, decode_trending, trending_key
from stream.core.catalogue import Catalogue
from stream.core.policy.lists import Lists
from stream.core.state import UserShard
from stream.core.statistics.contexts import HOUR, PLACEMENT, contexts_of, lifts
from stream.core.statistics.fading import LEAST, Fading
from stream.core.statistics.merged import ItemCounts, Merged
from stream.core.statistics.trending import Levels, Rules, Shop, look, top
from stream.errors import StateError
from stream.kafka.batches import Records
from stream.kafka.cluster import Cluster
from stream.kafka.follower import TopicFollower
from stream.kafka.specs import statistics_topic

if TYPE_CHECKING:
    from stream.config import Settings

log = logging.getLogger(__name__)

_DIGITS = 3
_LIFTS_FOR_MS = 1000
_MOST_LIFTS = 16  # contexts of a second: 4 bytes an item each
_MOST = 1000  # records of one look: what is left waits for the next


Order = tuple[tuple[str, ...], tuple[str, ...]]  # `Trending.order`
_FOREIGN: Order = (("",), ("",))


class _Due(NamedTuple):
    """A trending record that waits for a turn of its partition; None takes one back."""

    value: bytes | None
    order: Order | None


class Tally:
    """Follows the counts of all partitions; looks what trends.

    Parameters
    ----------
    merged : counts of all partitions, to be kept up to date
    owns : whether a partition is served by this worker now: it publishes what belongs there
    catalogue_loaded : waits until it is known what may be listed
    lists : told what trends, so that they can say so; None: nobody is

    Attributes
    ----------
    merged : as given
    loaded : both topics were read once
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        merged: Merged,
        owns: Callable[[int], bool],
        catalogue_loaded: Callable[[], Awaitable[None]],
        lists: Lists | None = None,
    ) -> None:
        self._lists = lists
        self._topics, statistics = settings.topics, settings.statistics
        self._catalogue = catalogue
        self._owns = owns
        self._catalogue_loaded = catalogue_loaded
        self._contexts = statistics.context_names
        self._lifts: dict[tuple[Any, ...], NDArray[np.float32]] = {}
        self._lifts_ms = 0
        self._every_s = statistics.trending_every_s
        self._rules = Rules(
            statistics.trending_k, statistics.trending_significance, statistics.trending_least
        )
        self._topic = statistics_topic(settings)
        self.merged = merged
        cluster, stall_s = Cluster.of(settings), settings.broker.recovery_timeout_s
        self._followers = [
            TopicFollower(cluster, self._topic, self._merge, stall_s),
            TopicFollower(cluster, settings.topics.trending, self._note, stall_s),
        ]
        self.loaded = False
        # By key: the order of what stands on the topic, and what is to be published next.
        self._standing: dict[bytes, Order] = {}
        self._due: dict[int, dict[bytes, _Due]] = {}
        self._running: asyncio.Task[Any] | None = None

    # -- life ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Read both topics, follow them and look what trends; ends only by what goes wrong."""
        self._running = asyncio.ensure_future(self._run())
        await self._running

    async def _run(self) -> None:
        for follower in self._followers:
            await follower.read_all()
        await self._catalogue_loaded()
        self.loaded = True
        items, records = len(self.merged), len(self._standing)
        told = {"items": items, "records": records}
        log.info("counts of %d items, %d trending records", items, records, extra=told)
        following = [follower.follow(_nothing) for follower in self._followers]
        await asyncio.gather(*following, self._keep_looking())

    async def stop(self) -> None:
        # What still reads must end first: the client cannot be closed under its feet.
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for follower in self._followers:
            await follower.stop()

    def _merge(self, records: Sequence[Any]) -> None:
        keys = [record.key or b"" for record in records]
        partition = records[0].partition
        try:
            self.merged.load(partition, keys, [record.value for record in records])
        except StateError as exc:
            raise StateError(f"topic {self._topic}, partition {partition}: {exc}") from exc
        metrics.COUNTED_ITEMS.set(len(self.merged))

    def _note(self, records: Sequence[Any]) -> None:
        for record in records:
            order: Order | None = None
            if record.value is not None:
                try:
                    order = decode_trending(record.value).order
                except msgspec.DecodeError:
                    order = _FOREIGN  # replaced, or taken back, at the next look
            self._stands(record.key or b"", order)

    def top(
        self, request: Request, allowed: NDArray[np.bool_], k: int, now_ms: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and scores in (0, 1) of what trends in a request's kind and category, best first.

        Parameters
        ----------
        allowed : bool, shape (at least the catalogue's rows,); what may be listed
        """
        catalogue, rows = self._catalogue, len(self._catalogue)
        wanted = allowed[:rows].copy()
        if request.kind is not None:
            wanted &= catalogue.are([request.kind], slice(0, rows))
        if request.category is not None:
            code = catalogue.attributes.code_of("category", request.category)
            wanted &= catalogue.attributes.codes("category")[:rows] == code
        kinds = catalogue.kinds[:rows].astype(np.int64)
        counts = self.merged.by_row(catalogue, now_ms)
        found, z = top(counts, kinds, wanted, self._rules._replace(k=k))
        return found, z / (1 + z)

    def lift(
        self, request: Request, placement: str, bias: NDArray[np.float32], now_ms: int
    ) -> NDArray[np.float32] | None:
        """What the contexts of a request add to the logits of items; kept for a second."""
        found = contexts_of(self._contexts, request.properties or {}, placement, now_ms)
        if not found:
            return None
        if not 0 <= now_ms - self._lifts_ms < _LIFTS_FOR_MS:
            self._lifts_ms = now_ms
            self._lifts.clear()
        key = (len(self._catalogue), *found.items())
        if key not in self._lifts and len(self._lifts) >= _MOST_LIFTS:
            # Requests may name any value: what they tell of the visit counts no more this second.
            found = {name: found[name] for name in (HOUR, PLACEMENT) if name in found}
            if not found:
                return None
            key = (len(self._catalogue), *found.items())
        if key not in self._lifts:
            self._lifts[key] = lifts(self.merged, self._catalogue, bias, found, now_ms)
        return self._lifts[key]

    # -- publishing ------------------------------------------------------------------------

    def outputs(self, partition: int, shard: UserShard) -> dict[str, Records]:
        """What a turn of this partition must publish besides; it is not told a second time.

        Parameters
        ----------
        shard : the partition's
        """
        outputs: dict[str, Records] = {}
        told = shard.untold(time.time_ns() // 1_000_000)
        if told is not None:
            outputs[self._topic] = Records(*told)
        due = self._due.pop(partition, None)
        if due:
            values = [record.value for record in due.values()]
            outputs[self._topics.trending] = Records(list(due), values)
            for key, record in due.items():
                self._stands(key, record.order)
            metrics.TRENDING_RECORDS_TOTAL.inc(len(due))
        return outputs

    def _stands(self, key: bytes, order: Order | None) -> None:
        if order is None:
            self._standing.pop(key, None)
        else:
            self._standing[key] = order

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self.look(time.time_ns() // 1_000_000)

    async def look(self, now_ms: int) -> None:
        """Find what has to be published; the arithmetic is done beside the event loop."""
        catalogue = self._catalogue
        counts = self.merged.by_row(catalogue, now_ms)
        rows = slice(0, len(catalogue))
        shop = Shop(
            ITEM_KINDS,
            ["", *catalogue.attributes.texts("category")],
            catalogue.kinds[rows].astype(np.int64),
            catalogue.attributes.codes("category")[rows].astype(np.int64),
            catalogue.available(rows),
        )
        _show_coverage(counts, shop)
        found = await asyncio.to_thread(look, counts, shop, self._rules)
        if self._lists is not None:
            trends = np.zeros(len(catalogue), np.bool_)
            for trending, _ in found.values():
                trends[trending.rows] = True
            self._lists.trends = trends
        due: dict[int, dict[bytes, _Due]] = {}
        for key in self._standing.keys() - {trending_key(*key) for key in found}:
            due.setdefault(self._partition(key), {})[key] = _Due(None, None)
        left = _MOST
        for (kind, category), (trending, popular) in found.items():
            lists = self._lines(trending), self._lines(popular)
            record = Trending(kind, category, *lists, counts.time_ms, now_ms)
            partition = self._partition(record.key)
            if left and self._owns(partition) and self._standing.get(record.key) != record.order:
                due.setdefault(partition, {})[record.key] = _Due(
                    encode_record(record), record.order
                )
                left -= 1
        self._due = {partition: some for partition, some in due.items() if self._owns(partition)}

    def _partition(self, key: bytes) -> int:
        return partition_of(key, self._topics.partitions)

    def _lines(self, levels: Levels) -> list[TrendingItem]:
        ids = self._catalogue.ids
        numbers = [np.round(of.astype(np.float64), _DIGITS).tolist() for of in levels[1:]]
        rows = levels.rows.tolist()
        return [TrendingItem(ids[row], *line) for row, *line in zip(rows, *numbers, strict=True)]


def _show_coverage(counts: ItemCounts, shop: Shop) -> None:
    """Show what share of each kind's items was shown of late; of no kind without items."""
    metrics.IMPRESSIONS_COVERAGE_RATIO.clear()
    shown = counts.impressions >= LEAST
    for code, kind in enumerate(shop.kinds):
        listed = shop.listed & (shop.kind == code)
        if listed.any():
            metrics.IMPRESSIONS_COVERAGE_RATIO.labels(kind).set(float(shown[listed].mean()))


def fading_of(settings: Settings) -> Fading:
    """The half-lives that the settings say."""
    statistics = settings.statistics
    return Fading(statistics.half_life_s * 1000, statistics.recent_half_life_s * 1000)


async def _nothing() -> None:
    """Nothing is to be done before more is read."""
