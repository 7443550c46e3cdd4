"""Counts of what anybody can invent: they have a room, and the least counted make room in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.core.statistics import counts as counts_module
from stream.core.statistics import room
from stream.core.statistics.adding import Columns
from stream.core.statistics.counts import Counts, let_go_at_most
from stream.core.statistics.fading import LEAST, ROW, Fading, hashes_in
from stream.core.statistics.merged import Merged

NOW_MS = 1_795_000_000_000
HOUR_MS = 3_600_000
FADING = Fading(usual_ms=168.0 * HOUR_MS, recent_ms=float(HOUR_MS))
KNOWN_BELOW = 1_000_000  # the shop knows items whose hashes are so small
ROOM = 320
WINDOW = ROOM // 16


def known(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.asarray(hashes < KNOWN_BELOW)


def columns(hashes: NDArray[np.uint64], at_ms: int = 0) -> Columns:
    """A click of each."""
    n = len(hashes)
    types, times_ms = np.full(n, EventType.CLICK, np.uint8), np.full(n, NOW_MS + at_ms)
    return Columns(hashes, types, times_ms, np.zeros(n, np.bool_), ~known(hashes))


class Partition:
    """Counts, what the changelog holds of them, and what everybody was told."""

    def __init__(self) -> None:
        self.counts = Counts(FADING, tell_every_ms=10)
        self.changelog: dict[int, bytes] = {}
        self.topic: dict[int, bytes] = {}
        self.counted = 0.0

    def clicks(self, items: Sequence[int] | NDArray[np.uint64], at_ms: int = 0) -> list[int]:
        """Clicks in one step; answers who had to go."""
        hashes = np.asarray(items, np.uint64)
        n = len(hashes)
        keys, values = self.counts.fold(columns(hashes, at_ms), known)
        changed = hashes_in(keys).tolist()
        assert len(set(changed)) == len(changed), "each item once"
        gone = [item for item, value in zip(changed, values, strict=True) if value is None]
        assert len(gone) <= let_go_at_most(n)
        assert len(changed) - len(gone) <= n
        assert not set(gone) & set(hashes.tolist()), "who has an event in the step stays"
        self._put(self.changelog, changed, values)
        return gone

    @staticmethod
    def _put(log: dict[int, bytes], items: list[int], values: list[bytes | None]) -> None:
        for item, value in zip(items, values, strict=True):
            if value is None:
                assert log.pop(item, None) is not None, "nothing goes that never came"
            else:
                log[item] = value

    def tell(self, at_ms: int, merged: Merged | None = None) -> None:
        told = self.counts.untold(NOW_MS + at_ms)
        if told is not None:
            self._put(self.topic, hashes_in(told[0]).tolist(), told[1])
            if merged is not None:
                merged.load(0, *told)

    def rows(self) -> dict[int, bytes]:
        there = zip(self.counts.hashes.tolist(), self.counts.rows, strict=True)
        return {item: row.tobytes() for item, row in there if row["time_ms"]}

    def clicks_of(self, item: int) -> float:
        row = self.rows().get(item)
        return 0.0 if row is None else float(np.frombuffer(row, ROW)["clicks"][0])


@pytest.fixture
def partition(monkeypatch: pytest.MonkeyPatch) -> Partition:
    monkeypatch.setattr(room, "STRANGERS_UP_TO", ROOM)
    monkeypatch.setattr(counts_module, "_CLEAR_AT_LEAST", 64)
    return Partition()


USED = [KNOWN_BELOW + number for number in range(ROOM - 2 * WINDOW)]


def flood(partition: Partition, strangers: int, a_step: int = 7) -> set[int]:
    """As many strangers of an event each; answers who had to go."""
    gone: set[int] = set()
    for first in range(0, strangers, a_step):
        some = range(10**9 + first, 10**9 + min(first + a_step, strangers))
        gone |= set(partition.clicks([*some], at_ms=1000 + first))
        partition.tell(10 * first)
    return gone


@pytest.mark.parametrize("a_step", [1, 7, 50, 3000])
def test_a_flood_of_ten_times_the_room_takes_nothing_from_what_is_used(
    partition: Partition, a_step: int
) -> None:
    partition.clicks(USED * 3)
    gone = flood(partition, 10 * ROOM, a_step)
    assert not gone & set(USED)
    assert all(partition.clicks_of(item) == pytest.approx(3, rel=1e-4) for item in USED)
    assert len(partition.counts) == ROOM
    assert partition.rows() == partition.changelog
    assert len(partition.counts.hashes) < 3 * ROOM, "the slots of who went are given back"


def test_items_of_the_shop_never_make_room_and_always_have_some(partition: Partition) -> None:
    partition.clicks([1, 2, 3])
    gone = flood(partition, 10 * ROOM)
    assert not gone & {1, 2, 3}
    assert len(partition.counts) == ROOM
    partition.clicks([4])
    assert {1, 2, 3, 4} <= partition.rows().keys()
    flood(partition, ROOM)
    assert len(partition.counts) == ROOM + 1, "one for another from then on"


def test_an_item_that_the_shop_got_to_know_after_a_look_stays(partition: Partition) -> None:
    partition.clicks([10**9 + number for number in range(ROOM)])
    partition.clicks([2 * 10**9])  # the least counted are found now
    met = {item for item in partition.rows() if 10**9 <= item < 10**9 + ROOM}

    def by_now(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        return np.isin(hashes, np.array([*met], np.uint64)) | known(hashes)

    newcomers = np.array([3 * 10**9 + number for number in range(WINDOW)], np.uint64)
    keys, values = partition.counts.fold(columns(newcomers), by_now)
    there = zip(hashes_in(keys).tolist(), values, strict=True)
    assert {item for item, value in there if value is None} == {2 * 10**9}
    assert met <= partition.rows().keys()


def test_a_context_that_comes_again_within_the_flood_stays(partition: Partition) -> None:
    partition.clicks(USED[:-1] * 3)
    flood(partition, ROOM)
    newcomer = 5 * 10**9
    partition.clicks([newcomer], at_ms=10_000)
    flood(partition, WINDOW // 2)
    partition.clicks([newcomer], at_ms=20_000)
    flood(partition, 10 * ROOM)
    assert partition.clicks_of(newcomer) == pytest.approx(2, rel=1e-4)


def test_what_faded_goes_before_what_is_counted_less_but_now(partition: Partition) -> None:
    week_ms = 168 * HOUR_MS
    old, fresh = USED, [2 * KNOWN_BELOW + number for number in range(WINDOW)]
    partition.clicks(old * 3, at_ms=-3 * week_ms)  # three eighths of a click are left
    partition.clicks(fresh)
    gone = partition.clicks([10**9 + number for number in range(WINDOW)])
    assert gone == []
    gone = partition.clicks([10**9 + WINDOW + number for number in range(WINDOW)])
    assert len(gone) == WINDOW
    assert set(gone) <= set(old)


def test_strangers_of_one_step_do_not_drive_each_other_out(partition: Partition) -> None:
    many = [10**9 + number for number in range(3 * ROOM)]
    assert partition.clicks(many) == []
    assert partition.rows().keys() == set(many[:ROOM]), "the first ones have the room"
    assert len(partition.clicks(many[ROOM:])) == WINDOW
    assert set(many[ROOM : ROOM + WINDOW]) < partition.rows().keys()
    assert len(partition.counts) == ROOM
    assert partition.rows() == partition.changelog


def test_who_had_to_go_comes_back_like_anybody_else(partition: Partition) -> None:
    partition.clicks(USED * 3)
    waves = [[10**9 + wave * ROOM + n for n in range(WINDOW)] for wave in range(3)]
    for number in range(30):
        partition.clicks(waves[number % 3], at_ms=number)
        assert len(partition.counts) == min(ROOM, len(USED) + (number + 1) * WINDOW)
        assert partition.rows() == partition.changelog
    assert [partition.clicks_of(item) for item in waves[2]] == [1] * WINDOW
    assert len(partition.counts.hashes) <= ROOM + 2 * WINDOW


def test_after_a_takeover_the_same_have_to_go(partition: Partition) -> None:
    partition.clicks(USED * 3)
    flood(partition, ROOM)
    taken = Partition()
    keys = [b"\xff\x03" + item.to_bytes(8, "little") for item in partition.changelog]
    taken.counts.load(keys, list(partition.changelog.values()))
    taken.changelog = dict(partition.changelog)
    taken.topic = dict(partition.changelog)
    gone = flood(taken, 10 * ROOM)
    assert not gone & set(USED)
    assert len(taken.counts) == ROOM
    assert taken.rows() == taken.changelog


def test_what_has_an_event_after_a_look_stays(partition: Partition) -> None:
    partition.clicks(USED * 3)
    once = [10**9 + number for number in range(2 * WINDOW)]
    partition.clicks(once)
    partition.clicks([2 * 10**9])  # the least counted are found now
    again = [item for item in once if item in partition.rows()][::2]
    partition.clicks(again)
    gone = partition.clicks([3 * 10**9 + number for number in range(WINDOW)])
    assert len(gone) == WINDOW
    assert not set(gone) & {*again, *USED}


def test_what_has_an_event_in_the_step_after_a_look_stays(partition: Partition) -> None:
    partition.clicks(USED * 3)
    once = [10**9 + number for number in range(2 * WINDOW)]
    partition.clicks(once)
    partition.clicks([2 * 10**9])  # the least counted are found now
    again = [item for item in once if item in partition.rows()][::2]
    gone = partition.clicks([*again, *(3 * 10**9 + number for number in range(WINDOW))])
    assert len(gone) == WINDOW
    assert not set(gone) & {*again, *USED}
    assert all(partition.clicks_of(item) == pytest.approx(2, rel=1e-4) for item in again)


def test_others_are_told_who_went_and_of_nobody_whom_they_do_not_know(
    partition: Partition,
) -> None:
    partition.clicks(USED * 3)
    for first in range(0, 10 * ROOM, 16):
        partition.clicks([*range(10**9 + first, 10**9 + first + 16)], at_ms=first)
        if first % 512 == 0:
            partition.tell(10 * first)
    for look in range(3):
        partition.tell(10**6 * (1 + look))
    assert partition.topic == partition.changelog


def test_a_round_of_letting_go_goes_on_where_rows_were_cleared_away(partition: Partition) -> None:
    """Rows are cleared away for strangers while a round of looks at faded rows is under way."""
    old = [*range(300)]
    partition.clicks(old)
    later = 40 * 168 * HOUR_MS
    gone = set(partition.clicks([999], at_ms=later))
    for step in range(40):
        some = range(10**9 + 50 * step, 10**9 + 50 * (step + 1))
        gone |= set(partition.clicks([*some], at_ms=later + step))
    assert set(old) <= gone
    assert partition.rows() == partition.changelog


def test_the_room_itself_takes_ten_times_as_many() -> None:
    """The true size, in batches of 2,048 events."""
    counts, rng, strangers = Counts(FADING), np.random.default_rng(1), room.STRANGERS_UP_TO
    used = rng.integers(KNOWN_BELOW, 2**63, strangers // 2).astype(np.uint64)
    for at in range(0, len(used), 1024):
        counts.fold(columns(np.concatenate([used[at : at + 1024]] * 2)), known)
    for step in range(10 * strangers // 2048):
        some = rng.integers(KNOWN_BELOW, 2**63, 2048).astype(np.uint64)
        counts.fold(columns(some, at_ms=step), known)
        assert len(counts) <= strangers
        assert len(counts.hashes) < 2.5 * strangers
    there = counts.hashes[counts.rows["time_ms"] > 0]
    assert len(there) == len(counts) == strangers
    assert np.isin(used, there).all()


# -- counts of all partitions -----------------------------------------------------------------


def bytes_of(merged: Merged) -> int:
    """Memory of all slots."""
    return merged._sums.nbytes + sum(own.nbytes for own in merged._of_partition.values())


def test_slots_of_items_that_are_gone_are_given_back() -> None:
    merged, most, most_bytes = Merged(FADING), 0, 0
    for generation in range(10):
        for part in range(3):
            partition = Partition()
            first = KNOWN_BELOW + 3000 * generation
            partition.clicks([*range(first, first + 3000)], at_ms=generation)
            hashes = [item.to_bytes(8, "little") for item in partition.changelog]
            merged.load(part, hashes, [*partition.changelog.values()])
        most, most_bytes = max(most, len(merged)), max(most_bytes, bytes_of(merged))
        for part in range(3):
            merged.load(part, hashes, [None] * len(hashes))
    assert most <= 3000 + 6000, "of 30,000"
    assert most_bytes < 3 * (3000 + 6000) * (40 + 3 * 20)


def test_what_faded_in_a_partition_that_never_told_is_given_back() -> None:
    merged = Merged(FADING)
    week_ms = 168 * HOUR_MS
    for week in range(100):
        partition = Partition()
        first = KNOWN_BELOW + 1000 * week
        partition.clicks([*range(first, first + 1000)], at_ms=week * week_ms)
        merged.load(week % 2, *_told(partition))
    assert len(merged) <= 10_000, "four weeks' items have a sixteenth of a click, of 100,000"
    here = np.arange(first, first + 1000, dtype=np.uint64)
    found = merged.interactions(here, NOW_MS + 10**12)
    np.testing.assert_allclose(found, 1.0)
    before = merged.interactions(here - np.uint64(1000), NOW_MS + 10**12)
    np.testing.assert_allclose(before, 0.5, rtol=1e-6)


def test_what_is_left_counts_as_before_when_others_go() -> None:
    """Sums of partitions, against plain ones; items that come back begin anew."""
    rng = np.random.default_rng(5)
    merged = Merged(FADING)
    true: dict[tuple[int, int], bytes] = {}
    for step in range(60):
        part = step % 3
        partition = Partition()
        items = rng.choice(np.arange(40 * step, 40 * step + 2000), 400)
        partition.clicks(items + KNOWN_BELOW, at_ms=step * HOUR_MS)
        told: dict[int, bytes | None] = {**partition.changelog}
        for _, item in [key for key in true if key[0] == part and key[1] not in told][:350]:
            told[item] = None
        for item, value in told.items():
            true.pop((part, item), None)
            if value is not None:
                true[part, item] = value
        merged.load(part, [item.to_bytes(8, "little") for item in told], [*told.values()])
    time_ms = merged.newest_ms
    sums: dict[int, float] = {}
    for (_, item), value in true.items():
        (row,) = np.frombuffer(value, ROW)
        faded = row["clicks"] * 2.0 ** ((row["time_ms"] - time_ms) / FADING.usual_ms)
        sums[item] = sums.get(item, 0.0) + faded
    found = merged.interactions(np.array([*sums], np.uint64), NOW_MS + 10**12)
    np.testing.assert_allclose(found, [*sums.values()], atol=LEAST)
    big = np.array([*sums.values()]) >= LEAST
    np.testing.assert_allclose(found[big], np.array([*sums.values()])[big], rtol=1e-5)
    everything = np.arange(KNOWN_BELOW, KNOWN_BELOW + 40 * 60 + 2000, dtype=np.uint64)
    gone = [item for item in everything.tolist() if item not in sums]
    assert not merged.interactions(np.array(gone, np.uint64), NOW_MS + 10**12).max() > 1e-6


def test_a_tombstone_of_what_nobody_knows_takes_no_slot() -> None:
    merged = Merged(FADING)
    merged.load(0, [item.to_bytes(8, "little") for item in range(1, 5000)], [None] * 4999)
    assert len(merged) == 0


def _told(partition: Partition) -> tuple[list[bytes], list[bytes | None]]:
    told = partition.counts.untold(NOW_MS)
    assert told is not None
    return told
