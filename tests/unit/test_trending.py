"""Counts of all partitions together, and what trends by them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import REGISTRY

from stream.config import Settings, Topics
from stream.contracts import ITEM_KINDS, EventType, Item, Request, item_hash
from stream.contracts.partitioner import partition_of
from stream.contracts.trending import decode_trending
from stream.core.catalogue import Catalogue
from stream.core.keys import SEGMENTS_PREFIX
from stream.core.state import UserShard
from stream.core.statistics.adding import Columns
from stream.core.statistics.counts import Counts
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import ItemCounts, Merged
from stream.core.statistics.segments import Seen
from stream.core.statistics.trending import Rules, Shop, look, significance_of
from stream.core.wire import Layout
from stream.errors import StateError
from stream.kafka.batches import Records
from stream.settings.statistics import Statistics
from stream.tally import Tally, fading_of

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
FADING = Fading(usual_ms=24.0 * HOUR_MS, recent_ms=float(HOUR_MS))
ITEMS = [f"i{number}" for number in range(8)]


def counted(counts: Counts, events: Sequence[tuple[str, EventType, int]]) -> None:
    n = len(events)
    items = np.array([item_hash(item) for item, _, _ in events], np.uint64)
    types = np.array([kind for _, kind, _ in events], np.uint8)
    times_ms = np.array([NOW_MS + at for _, _, at in events], np.int64)
    nothing = np.zeros(n, np.bool_)
    counts.fold(Columns(items, types, times_ms, nothing, nothing))


def tell(merged: Merged, partition: int, counts: Counts, at: list[int]) -> None:
    """What a partition tells at its next look."""
    at[0] += 1
    told = counts.untold(NOW_MS + at[0] * 10**9)
    if told is not None:
        merged.load(partition, *told)


def test_partitions_add_up_whatever_the_order_and_repeats() -> None:
    rng = np.random.default_rng(3)
    catalogue = Catalogue(["", *ITEMS])
    whole = Counts(FADING, tell_every_ms=0)
    parts = [Counts(FADING, tell_every_ms=0) for _ in range(3)]
    merged, clock = Merged(FADING), [0]
    for step in range(60):
        kinds = rng.choice([1, 2, 3, 7, 8], 6)
        items = rng.choice(ITEMS, 6)
        at = step * HOUR_MS + rng.integers(0, HOUR_MS, 6)
        events = [(str(i), EventType(k), int(t)) for i, k, t in zip(items, kinds, at, strict=True)]
        counted(whole, events)
        counted(parts[step % 3], events)
        tell(merged, step % 3, parts[step % 3], clock)
        if step % 7 == 0:  # a new owner tells everything again
            taken = Counts(FADING, tell_every_ms=0)
            rows = parts[0].rows
            taken.load(parts[0].keys[1:], [row.tobytes() for row in rows])
            tell(merged, 0, taken, clock)
    found = merged.by_row(catalogue, NOW_MS + 10**12)
    assert found.time_ms == merged.newest_ms == whole.newest_ms
    for row, item in enumerate(ITEMS, 1):
        (wanted,) = whole.rows[whole.hashes == item_hash(item)]
        usual = 2.0 ** ((wanted["time_ms"] - found.time_ms) / FADING.usual_ms)
        recent = 2.0 ** ((wanted["time_ms"] - found.time_ms) / FADING.recent_ms)
        for name in ("impressions", "clicks", "carts", "purchases"):
            assert getattr(found, name)[row] == pytest.approx(wanted[name] * usual, rel=1e-5)
        assert found.recent[row] == pytest.approx(wanted["recent"] * recent, rel=1e-4, abs=1e-6)
    assert not any(of[0] for of in found[1:]), "row 0 is no item"


def test_an_item_that_went_counts_no_more() -> None:
    merged, counts, clock = Merged(FADING), Counts(FADING, tell_every_ms=0), [0]
    catalogue = Catalogue(["", *ITEMS])
    counted(counts, [("i1", EventType.CLICK, 0)])
    tell(merged, 0, counts, clock)
    assert merged.by_row(catalogue, NOW_MS).clicks.tolist()[:3] == [0, 0, 1]
    counted(counts, [("i2", EventType.CLICK, 5 * 24 * HOUR_MS)])
    tell(merged, 0, counts, clock)
    assert merged.by_row(catalogue, 2 * NOW_MS).clicks.tolist()[:4] == [0, 0, 0, 1]


def test_counts_of_items_that_the_catalogue_learns_of_later_are_there() -> None:
    merged, counts, clock = Merged(FADING), Counts(FADING, tell_every_ms=0), [0]
    catalogue = Catalogue(["", "i0"])
    counted(counts, [("new", EventType.IMPRESSION, 0)])
    tell(merged, 0, counts, clock)
    assert merged.by_row(catalogue, NOW_MS).impressions.tolist() == [0, 0]
    catalogue.put(Item("new"))
    assert merged.by_row(catalogue, NOW_MS).impressions.tolist() == [0, 0, 1]


def test_many_items_of_many_partitions_are_kept_apart() -> None:
    merged, clock = Merged(FADING), [0]
    names = [f"n{number}" for number in range(3000)]
    catalogue = Catalogue(["", *names])
    for partition in range(3):
        counts = Counts(FADING, tell_every_ms=0)
        counted(counts, [(name, EventType.CLICK, 0) for name in names[partition * 500 :]])
        tell(merged, partition, counts, clock)
    clicks = merged.by_row(catalogue, NOW_MS).clicks
    assert [int(clicks[at]) for at in (1, 500, 501, 1000, 1001, 3000)] == [1, 1, 2, 2, 3, 3]


def test_as_many_items_in_the_slots_of_others_have_their_own_counts() -> None:
    merged, clock = Merged(FADING), [0]
    names = [f"n{number}" for number in range(2 * 1023)]  # with no item: all slots, twice
    catalogue = Catalogue(["", *names])
    found = []
    for some in (names[:1023], names[1023:]):
        counts = Counts(FADING, tell_every_ms=0)
        counted(counts, [(name, EventType.CLICK, 0) for name in some])
        tell(merged, 0, counts, clock)
        found.append(merged.by_row(catalogue, NOW_MS).clicks[1:].tolist())
        assert len(merged) == 1023
        merged.load(0, [key[-8:] for key in counts.keys[1:]], [None] * 1023)
    assert found == [[1.0] * 1023 + [0.0] * 1023, [0.0] * 1023 + [1.0] * 1023]


# -- what trends ---------------------------------------------------------------------------


def counts_of(recent: Sequence[float], usual: Sequence[float]) -> ItemCounts:
    """Clicks by row, the recent ones and all of them."""
    clicks = np.array([0, *usual], np.float32)
    nothing = np.zeros_like(clicks)
    recent_ = np.array([0, *recent], np.float32)
    return ItemCounts(NOW_MS, nothing, clicks, nothing, nothing, recent_)


def shop_of(categories: Sequence[int], kinds: Sequence[int] | None = None) -> Shop:
    rows = len(categories) + 1
    kind = np.zeros(rows, np.int64) if kinds is None else np.array([0, *kinds])
    listed = np.arange(rows) > 0
    return Shop(ITEM_KINDS, ["", "A", "B/C"], kind, np.array([0, *categories]), listed)


def test_what_is_above_its_usual_share_trends() -> None:
    usual = [1680.0, 1680.0, 1680.0, 168.0]
    found = look(counts_of([10, 10, 10, 40], usual), shop_of([1, 1, 2, 2]), Rules(k=3))
    trending, popular = found["product", None]
    assert trending.rows.tolist() == [4]
    assert trending.significance[0] > 4
    assert trending.recent[0] == 40
    assert trending.usual[0] == pytest.approx(168 * 70 / sum(usual))
    assert popular.rows.tolist() == [1, 2, 3]
    assert [key for key in found if key[1]] == [("product", "A"), ("product", "B/C")]
    assert found["product", "B/C"][0].rows.tolist() == [4]
    assert found["product", "A"][0].rows.tolist() == []


def test_a_busy_evening_and_a_first_hour_make_nothing_trend() -> None:
    usual = [1680.0, 840.0, 168.0]
    for recent in ([200.0, 100.0, 20.0], usual):
        found = look(counts_of(recent, usual), shop_of([0, 0, 0]), Rules())
        assert found["product", None][0].rows.tolist() == []


def test_few_events_and_what_may_not_be_listed_do_not_trend() -> None:
    counts = counts_of([9, 50, 10, 300], [9, 50, 1680, 9000])
    shop = shop_of([0] * 4)
    assert look(counts, shop, Rules())["product", None][0].rows.tolist() == [2]
    shop.listed[2] = False
    assert look(counts, shop, Rules())["product", None][0].rows.tolist() == []


def test_kinds_are_apart() -> None:
    counts = counts_of([50, 50], [5000, 60])
    found = look(counts, shop_of([0, 0], kinds=[0, 4]), Rules())
    assert found["content", None][0].rows.tolist() == [], "all of its kind is new"
    assert found["content", None][1].rows.tolist() == [2]


def test_significance_is_that_of_events_at_random() -> None:
    """Fading counts of Poisson events at a steady rate: deviations of mean 0 and spread 1."""
    rng = np.random.default_rng(1)
    items, per_hour, steps = 4000, 12, 40
    recent = np.zeros(items)
    for _ in range(steps * 8):  # of an eighth of an hour each, which is one half-life
        recent *= 2.0 ** (-1 / 8)
        recent += rng.poisson(per_hour / 8, items) * 2.0 ** (-1 / 16)
    mean = per_hour / np.log(2)
    z = significance_of(recent.astype(np.float32), np.full(items, mean, np.float32))
    assert abs(z.mean()) < 0.1
    assert z.std() == pytest.approx(1, abs=0.06)
    assert (z > 4).sum() <= 2


# -- publishing ------------------------------------------------------------------------------

PARTITIONS = 4
SETTINGS = Settings(
    topics=Topics(partitions=PARTITIONS),
    statistics=Statistics(
        half_life_s=86_400, recent_half_life_s=3600, tell_every_s=1e-3, trending_k=3
    ),
)


class Workers:
    """A worker that owns some partitions, and the topics that it reads and writes."""

    def __init__(self, *owned: int) -> None:
        self.owned = set(owned)
        self.catalogue = Catalogue(["", *ITEMS])
        for number, item in enumerate(ITEMS):
            self.catalogue.put(Item(item, category="AB"[number % 2]))

        async def loaded() -> None:
            """Nothing to wait for."""

        merged = Merged(fading_of(SETTINGS))
        self.tally = Tally(SETTINGS, self.catalogue, merged, self.owned.__contains__, loaded)
        self.shard = UserShard(Layout(2, "float32", 2, 1))
        self.shard.counts = Counts(FADING, tell_every_ms=0)
        self.published: dict[bytes, Any] = {}

    def event(self, item: str, times: int = 1, at: int = 0) -> None:
        counted(self.shard.counts, [(item, EventType.CLICK, at)] * times)

    def turn(self) -> list[bytes]:
        """Look, then a turn of each partition; the keys of the trending records that come of it."""
        self._publish()
        asyncio.run(self.tally.look(NOW_MS))
        return self._publish()

    def _publish(self) -> list[bytes]:
        keys: list[bytes] = []
        for partition in sorted(self.owned):
            for topic, records in self.tally.outputs(partition, self.shard).items():
                columns = (records.keys, records.values)
                if topic == SETTINGS.topics.trending:
                    keys += [key for key in records.keys if key is not None]
                    assert {partition_of(key, PARTITIONS) for key in keys[-len(records) :]} == {
                        partition
                    }
                    self.published.update(zip(*columns, strict=True))
                self.read(topic, records, partition)
        return keys

    def read(self, topic: str, records: Records, partition: int) -> None:
        columns = zip(records.keys, records.values, strict=True)
        some = [SimpleNamespace(key=k, value=v, partition=partition) for k, v in columns]
        on_records = self.tally._note if topic == SETTINGS.topics.trending else self.tally._merge
        on_records(some)


ALL = range(PARTITIONS)


def test_what_trends_is_published_when_it_changes() -> None:
    worker = Workers(*ALL)
    assert worker.turn() == []
    worker.event("i1")
    assert sorted(worker.turn()) == [b"product", b"product/B"]
    record = decode_trending(worker.published[b"product/B"])
    assert (record.kind, record.category) == ("product", "B")
    assert [line.item_id for line in record.popular] == ["i1"]
    assert worker.turn() == []
    worker.event("i1", times=30)
    assert worker.turn() == [], "the order is the same"
    worker.event("i2")
    assert sorted(worker.turn()) == [b"product", b"product/A"]
    worker.event("i2", times=200, at=8 * HOUR_MS)
    assert sorted(worker.turn()) == [b"product", b"product/A"]
    told = json.loads(worker.published[b"product"])
    assert [line["item_id"] for line in told["popular"]] == ["i2", "i1"]


def test_what_was_shown_is_the_same_share_for_each_worker() -> None:
    """Of all partitions' items together, whoever showed them how often."""
    both = [Workers(*ALL[:2]), Workers(*ALL[2:])]
    name = "freshet_impressions_coverage_ratio"

    def shown(kind: str = "product") -> float | None:
        return REGISTRY.get_sample_value(name, {"kind": kind})

    for worker, items in zip(both, (["i0", "i1", "i1"], ["i1", "i2", "not listed"]), strict=True):
        counted(worker.shard.counts, [(item, EventType.IMPRESSION, 0) for item in items])
        worker.event("i7")
        for partition in worker.owned:
            for topic, records in worker.tally.outputs(partition, worker.shard).items():
                for reader in both:
                    reader.read(topic, records, partition)
    for worker in both:
        asyncio.run(worker.tally.look(NOW_MS))
        assert shown() == 3 / 8
    (first, _) = both
    first.catalogue.remove("i2")
    asyncio.run(first.tally.look(NOW_MS))
    assert shown() == 2 / 7
    first.catalogue.put(Item("ad", kind="ad"))
    asyncio.run(first.tally.look(NOW_MS))
    assert (shown(), shown("ad"), shown("shop")) == (2 / 7, 0, None)
    first.catalogue.remove("ad")
    first.tally.merged.newest_ms += 6 * 24 * HOUR_MS  # six half-lives, of three impressions
    asyncio.run(first.tally.look(NOW_MS + 6 * 24 * HOUR_MS))
    assert (shown(), shown("ad")) == (0, None)


def test_a_surge_trends_and_what_is_gone_is_taken_back() -> None:
    worker = Workers(*ALL)
    for hour in range(48):
        for number in range(4):
            worker.event(f"i{number}", times=20, at=hour * HOUR_MS)
    worker.turn()
    worker.event("i2", times=100, at=48 * HOUR_MS)
    worker.turn()
    told = decode_trending(worker.published[b"product"])
    assert [line.item_id for line in told.trending] == ["i2"]
    assert told.trending[0].significance > 4
    for item in ITEMS:
        worker.catalogue.remove(item)
    assert sorted(worker.turn()) == [b"product", b"product/A", b"product/B"]
    assert set(worker.published.values()) == {None}
    assert worker.turn() == []


def test_each_record_has_one_publisher_and_a_new_one_publishes_nothing_twice() -> None:
    both = [Workers(*ALL[:2]), Workers(*ALL[2:])]
    for worker in both:
        worker.event("i1")
        worker.event("i2")
    keys = [set(worker.turn()) for worker in both]
    assert keys[0] | keys[1] == {b"product", b"product/A", b"product/B"}
    assert not keys[0] & keys[1]
    heir = Workers(*ALL)
    for worker in both:
        for key, value in worker.published.items():
            heir.read("trending", Records([key], [value]), partition_of(key, PARTITIONS))
    heir.event("i1")
    heir.event("i2")
    assert heir.turn() == []
    heir.read("trending", Records([b"product"], [b"not ours"]), 0)
    assert heir.turn() == [b"product"]


def test_what_trends_is_told_on_request() -> None:
    worker = Workers(*ALL)
    for hour in range(48):
        for number in range(4):
            worker.event(f"i{number}", times=20, at=hour * HOUR_MS)
    worker.event("i2", times=100, at=48 * HOUR_MS)
    worker.event("i3", times=80, at=48 * HOUR_MS)
    worker.turn()
    allowed = np.arange(20) > 0  # of the item table, which is longer than the catalogue

    def items(k: int = 5, **asked: Any) -> list[str]:
        request = Request(request_id="r", user_id="u", type="trending", **asked)
        rows, scores = worker.tally.top(request, allowed, k, NOW_MS + 100 * HOUR_MS)
        assert ((scores > 0) & (scores < 1)).all()
        assert (np.diff(scores) <= 0).all()
        return [worker.catalogue.ids[row] for row in rows.tolist()]

    assert items() == items(kind="product") == ["i2", "i3"]
    assert items(k=1) == ["i2"]
    assert items(category="B") == ["i3"]
    assert items(kind="content") == items(category="nobody's") == []
    allowed[worker.catalogue.rows(["i2"])] = False
    assert items() == ["i3"]


def test_what_was_sent_is_not_sent_again_before_it_is_read() -> None:
    worker = Workers(*ALL)
    worker.event("i1")
    worker._publish()
    asyncio.run(worker.tally.look(NOW_MS))
    sent = [worker.tally.outputs(partition, worker.shard) for partition in ALL]
    assert sum(map(len, sent)) > 0
    asyncio.run(worker.tally.look(NOW_MS))
    assert not any(worker.tally.outputs(partition, worker.shard) for partition in ALL)


def test_what_came_of_lists_is_told_beside_items() -> None:
    """Each of two workers has a partition, and knows the counts of both."""
    key, shape = SEGMENTS_PREFIX + bytes(8), (3, 4)
    workers = Workers(0), Workers(1)
    for worker, cells in zip(workers, ([0, 0, 17], [0, 23]), strict=True):
        worker.event("i1")
        seen = Seen(key, shape, 1e9, np.arange(len(cells)), np.array(cells))
        worker.shard.segments.fold([seen], np.full(len(cells), NOW_MS), NOW_MS)
    told = [worker.tally.outputs(*worker.owned, worker.shard) for worker in workers]
    for partition, outputs in enumerate(told):
        ((topic, records),) = outputs.items()
        for worker in workers:
            worker.read(topic, records, partition)
    for worker in workers:
        found = worker.tally.merged.segments.counts(key, shape, 1e9).ravel()
        assert found[[0, 17, 23]].tolist() == [3, 1, 1]
        assert (found.sum(), len(worker.tally.merged)) == (5, 1)


def test_what_was_not_sent_is_found_again() -> None:
    worker = Workers(*ALL)
    worker.event("i1")
    worker._publish()
    asyncio.run(worker.tally.look(NOW_MS))
    owned = set(worker.owned)
    worker.owned.clear()  # a rebalance, before a turn
    asyncio.run(worker.tally.look(NOW_MS))
    worker.owned |= owned
    assert sorted(worker.turn()) == [b"product", b"product/B"]


def test_rows_of_another_layout_are_refused_by_their_topic() -> None:
    worker = Workers(*ALL)
    with pytest.raises(StateError, match=r"topic freshet-statistics, partition 3: .* layout 1"):
        worker.read("freshet-statistics", Records([b"12345678"], [b"\x02abc"]), 3)
