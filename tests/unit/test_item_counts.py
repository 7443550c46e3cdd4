"""Counts of a partition's items: how they fade, what is written, what comes back."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.contracts import EventType, item_hash
from stream.core.bundle import Bundle
from stream.core.keys import ITEM_PREFIX
from stream.core.statistics import counts as module
from stream.core.statistics.adding import Columns
from stream.core.statistics.counts import Counts, let_go_at_most
from stream.core.statistics.fading import COUNTED, ROW, Fading
from stream.core.statistics.merged import Merged
from stream.errors import StateError
from tests.support.engine import Shop
from tests.support.parts import Part

NOW_MS = 1_795_000_000_000
FADING = Fading(usual_ms=1000, recent_ms=100)
VIEW, CLICK, IMPRESSION = EventType.VIEW, EventType.CLICK, EventType.IMPRESSION
CART, PURCHASE, LIKE = EventType.ADD_TO_CART, EventType.PURCHASE, EventType.LIKE
Event = tuple[str, int, int]  # item, type, milliseconds from NOW_MS


@dataclasses.dataclass
class Log:
    """A changelog that keeps the newest of each key."""

    counts: Counts
    newest: dict[bytes, bytes | None] = dataclasses.field(default_factory=dict)

    def fold(self, *events: Event, unknown: bool = False) -> list[bytes]:
        items = np.array([item_hash(item) for item, _, _ in events], np.uint64)
        types = np.array([kind for _, kind, _ in events], np.uint8)
        times_ms = np.array([NOW_MS + at for _, _, at in events], np.int64)
        dropped = np.zeros(len(events), np.bool_)
        columns = (items, types, times_ms, dropped, np.full(len(events), unknown))
        keys, values = self.counts.fold(Columns(*columns))
        assert len(set(keys)) == len(keys), "each item once"
        self.newest.update(zip(keys, values, strict=True))
        return keys

    def read(self) -> Counts:
        """What whoever takes over has."""
        taken = Counts(self.counts.fading)
        if self.newest:
            taken.load(list(self.newest), list(self.newest.values()))
        return taken


def key(item: str) -> bytes:
    return ITEM_PREFIX + item_hash(item).to_bytes(8, "little")


def rows(counts: Counts) -> dict[int, bytes]:
    """Rows in use by item hash."""
    there = zip(counts.hashes.tolist(), counts.rows, strict=True)
    return {item: row.tobytes() for item, row in there if row["time_ms"]}


def of(counts: Counts, item: str) -> dict[str, float]:
    (row,) = counts.rows[counts.hashes == item_hash(item)]
    return {name: float(row[name]) for name in (*COUNTED, "recent")}


@pytest.fixture
def log() -> Log:
    return Log(Counts(FADING))


def test_each_type_has_its_count_and_some_have_none(log: Log) -> None:
    log.fold(("a", IMPRESSION, 0), ("a", VIEW, 0), ("a", CLICK, 0), ("a", CART, 0))
    log.fold(("a", PURCHASE, 0))
    counted = {"impressions": 1.0, "clicks": 2.0, "carts": 1.0, "purchases": 1.0, "recent": 4.0}
    assert of(log.counts, "a") == counted
    others = [LIKE, EventType.DISLIKE, EventType.REMOVE_FROM_CART, EventType.CANCEL]
    assert log.fold(*(("b", kind, 0) for kind in others)) == []
    assert len(log.counts) == 1


def test_counts_fade_by_half_in_a_half_life(log: Log) -> None:
    log.fold(("a", CLICK, 0))
    log.fold(("a", IMPRESSION, 1000))
    assert of(log.counts, "a") == pytest.approx(
        {"impressions": 1, "clicks": 0.5, "carts": 0, "purchases": 0, "recent": 2.0**-10}
    )


def test_a_late_event_weighs_what_it_would_by_now(log: Log) -> None:
    log.fold(("a", CLICK, 0), ("a", CLICK, -1000))
    assert of(log.counts, "a")["clicks"] == 1.5
    (row,) = log.counts.rows
    assert row["time_ms"] == NOW_MS


@pytest.mark.parametrize("damaged", [[], [b"not json"]])
def test_an_event_that_is_dated_ahead_fades_nothing_before_it_is_due(
    decay_bundle: Bundle, damaged: list[bytes]
) -> None:
    shop = Shop(decay_bundle)
    shop.shard.counts = Counts(Fading(1000.0, 1000.0))
    shop.step({"item_id": "i1"})
    clicks = [{"item_id": "i1", "event_time_ms": NOW_MS + at_ms} for at_ms in (50_000, 1000)]
    batch = shop.batch(*damaged, *clicks)
    batch.timestamps_ms = [*[0 for _ in damaged], NOW_MS + 1000, NOW_MS + 3000]
    shop.engine.step([Part(shop.shard, batch)], NOW_MS)
    assert of(shop.shard.counts, "i1")["clicks"] == 2.5
    assert shop.shard.counts.newest_ms == NOW_MS + 1000
    batch = shop.batch({"item_id": "i1", "event_time_ms": NOW_MS + 2000})
    batch.timestamps_ms = [-1]  # the record has none
    shop.engine.step([Part(shop.shard, batch)], NOW_MS)
    assert of(shop.shard.counts, "i1")["clicks"] == 2.25


events = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(list(EventType)), st.integers(-3000, 3000)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=40)
@given(events, st.data())
def test_a_batch_counts_like_its_events_and_the_changelog_has_all_of_it(
    some: list[Event], data: st.DataObject
) -> None:
    slowly = Fading(usual_ms=5_000, recent_ms=100)  # so that nobody is let go
    one_by_one, batched = Log(Counts(slowly)), Log(Counts(slowly))
    for event in some:
        one_by_one.fold(event)
    while some:
        cut = data.draw(st.integers(1, len(some)))
        batched.fold(*some[:cut])
        some = some[cut:]
    assert rows(batched.counts) == rows(one_by_one.counts)
    taken = batched.read()
    assert rows(taken) == rows(batched.counts)
    assert len(taken) == len(batched.counts)
    assert taken.newest_ms == batched.counts.newest_ms


@settings(deadline=None, max_examples=40)
@given(events)
def test_counts_are_sums_of_faded_events(some: list[Event]) -> None:
    log = Log(Counts(FADING))
    log.fold(*some)
    for item in "abc":
        mine = [(kind, at) for name, kind, at in some if name == item]
        clicks = [at for kind, at in mine if kind in (VIEW, CLICK)]
        if clicks and item_hash(item) in rows(log.counts):
            kinds = (VIEW, CLICK, IMPRESSION, CART, PURCHASE)
            newest = max(at for kind, at in mine if kind in kinds)
            wanted = math.fsum(2.0 ** ((at - newest) / 1000) for at in clicks)
            assert of(log.counts, item)["clicks"] == pytest.approx(wanted, rel=1e-12)


def test_only_what_changed_is_written(log: Log) -> None:
    assert sorted(log.fold(("a", CLICK, 0), ("b", CLICK, 0))) == sorted([key("a"), key("b")])
    assert log.fold(("a", CLICK, 1), ("a", VIEW, 2)) == [key("a")]
    assert len(log.newest[key("a")] or b"") == ROW.itemsize == 49


def test_an_item_of_which_nothing_is_left_goes(log: Log) -> None:
    log.fold(("old", CLICK, 0), *(("often", CLICK, 0),) * 40)
    assert log.fold(("new", CLICK, 3_900)) == [key("new")]
    assert log.fold(("new", CLICK, 4_100)) == [key("new"), key("old")]
    assert log.newest[key("old")] is None
    assert len(log.counts) == 2
    taken = log.read()
    assert rows(taken) == rows(log.counts)
    log.fold(("old", CLICK, 4_200))
    assert of(log.counts, "old")["clicks"] == 1, "who comes back begins anew"


def test_an_item_with_an_event_in_the_step_stays(log: Log) -> None:
    log.fold(("a", CLICK, 0))
    assert log.fold(("b", CLICK, 10_000), ("late", CLICK, 0)) == [key("b"), key("late"), key("a")]
    assert log.fold(("b", CLICK, 20_000)) == [key("b"), key("late")]


def test_a_step_lets_no_more_go_than_it_may(log: Log) -> None:
    log.fold(*((f"i{number}", CLICK, 0) for number in range(500)))
    gone = []
    for step in range(12):
        gone.append(len(log.fold(("b", CLICK, 10_000 + step))) - 1)
    assert sum(gone) == 500
    assert max(gone) <= let_go_at_most(1)
    assert len(log.counts) == 1


def test_rows_out_of_use_are_cleared_away(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLEAR_AT_LEAST", 50)
    log.fold(*((f"i{number}", CLICK, 0) for number in range(100)))
    for step in range(8):
        log.fold(("b", CLICK, 10_000 + 20 * step))
        log.counts.untold(NOW_MS + 10_000_000 * (step + 1))  # so that nobody waits for the rest
    assert len(log.counts.hashes) < 50
    log.fold(("b", CLICK, 12_000), ("i7", CLICK, 12_000))
    assert of(log.counts, "i7")["clicks"] == 1
    assert rows(log.read()) == rows(log.counts)


def test_another_layout_is_refused(log: Log) -> None:
    log.fold(("a", CLICK, 0))
    value = log.newest[key("a")] or b""
    for other in (b"\x02" + value[1:], value[:-1], b""):
        with pytest.raises(StateError, match="this version reads layout 1"):
            Counts(FADING).load([key("a")], [other])
    with pytest.raises(StateError, match="no version writes"):
        Counts(FADING).load([key("a")[:-1]], [value])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("time_ms", time_ms) for time_ms in (-1, 2**62)),
        *(
            (name, count)
            for name in ("impressions", "clicks", "carts", "purchases", "recent")
            for count in (-0.5, math.nan, math.inf, 1e300)
        ),
    ],
)
def test_what_cannot_have_been_counted_is_refused(log: Log, name: str, wrong: float) -> None:
    log.fold(("a", CLICK, 0))
    row = np.frombuffer(log.newest[key("a")] or b"", ROW).copy()
    row[name] = wrong
    words = "counts of an item hold a number or a time that cannot be; .* start a new group"
    with pytest.raises(StateError, match=words):
        Counts(FADING).load([key("a")], [row.tobytes()])
    with pytest.raises(StateError, match=words):
        Merged(FADING).load(0, [key("a")[2:]], [row.tobytes()])


# -- telling others ------------------------------------------------------------------------


def told(log: Log, at_ms: int) -> set[bytes]:
    found = log.counts.untold(NOW_MS + at_ms)
    return set() if found is None else {ITEM_PREFIX + item for item in found[0]}


def test_what_changed_much_is_told_soon_and_the_rest_later() -> None:
    log = Log(Counts(Fading(), tell_every_ms=10))
    log.fold(("a", CLICK, 0))
    assert told(log, 0) == {key("a")}, "the first look is for all"
    log.fold(("a", CLICK, 1), ("b", CLICK, 1), ("b", IMPRESSION, 1))
    assert told(log, 5) == set(), "not every batch"
    assert told(log, 10) == {key("b")}, "an event is not much"
    assert told(log, 20) == set()
    assert told(log, 300) == {key("a")}, "by then all of it"
    assert told(log, 900) == set()


def test_a_row_is_told_whole_and_a_null_when_it_goes(log: Log) -> None:
    log.counts.untold(NOW_MS - 10_000_000)
    log.fold(("a", CLICK, 0), ("a", CLICK, 0))
    assert log.counts.untold(NOW_MS) == ([key("a")[2:]], [log.newest[key("a")]])
    log.fold(("b", CLICK, 10_000))
    found = log.counts.untold(NOW_MS + 1_000_000)
    assert found is not None
    assert dict(zip(*found, strict=True)) == {key(i)[2:]: log.newest[key(i)] for i in "ab"}


def test_whoever_takes_over_tells_everything_again(log: Log) -> None:
    log.fold(("a", CLICK, 0), ("b", CLICK, 0))
    log.counts.untold(NOW_MS)
    taken = Log(log.read())
    taken.fold(("c", CLICK, 0))
    assert told(taken, 0) == {key("a"), key("b"), key("c")}


def test_many_rows_are_told_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.core.statistics.telling._AT_ONCE", 4)
    log = Log(Counts(Fading(), tell_every_ms=10))
    log.fold(*((f"i{number}", CLICK, 0) for number in range(10)))
    assert [len(told(log, at)) for at in (0, 10, 20, 30)] == [4, 4, 2, 0]


def test_a_clock_that_is_set_back_keeps_nothing_back() -> None:
    log = Log(Counts(Fading(), tell_every_ms=10))
    log.fold(("a", CLICK, 0))
    told(log, 0)
    log.fold(("a", CLICK, 1))
    assert told(log, -5_000_000) == {key("a")}
