"""What came of lists, by segment and multiplier: counted once, kept, told, added up, let go."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stream.config import Settings
from stream.core.keys import ITEM_PREFIX, SEGMENTS_PREFIX, of_segments
from stream.core.manifest import Additive, FadingSum
from stream.core.policy import exploring, interest
from stream.core.policy.exploring import SEGMENTS, counts_key
from stream.core.policy.interest import Interests
from stream.core.policy.payoffs import Payoffs
from stream.core.statistics import segments as module
from stream.core.statistics.fading import Fading
from stream.core.statistics.merged import Merged
from stream.core.statistics.segments import (
    MOST_ROW_BYTES,
    MergedSegments,
    Seen,
    SegmentCounts,
    row_bytes,
)
from stream.errors import StateError
from stream.kafka.sizes import changelog_batch_bytes
from stream.placements import Explore
from tests.support.engine import NOW_MS

SHAPE = (3, 4)
HALF_MS = 1000.0
A, B, C = (SEGMENTS_PREFIX + bytes([number] * 8) for number in range(3))
Event = tuple[bytes, int, int]  # key, cell, milliseconds from NOW_MS
WEIGHTS = {"view": 0.05, "click": 0.2, "purchase": 1.0}


def key_of(arm: str, rules: Explore) -> bytes:
    return counts_key(arm, rules, "decay", Interests(WEIGHTS, None))


@dataclasses.dataclass
class Log:
    """A changelog that keeps the newest of each key."""

    counts: SegmentCounts = dataclasses.field(default_factory=SegmentCounts)
    newest: dict[bytes, bytes | None] = dataclasses.field(default_factory=dict)

    def fold(
        self, *events: Event, half_ms: float = HALF_MS, shape: tuple[int, int] = SHAPE
    ) -> dict[bytes, bytes | None]:
        times_ms = np.array([NOW_MS + at for _, _, at in events], np.int64)
        seen = []
        for key in dict.fromkeys(key for key, _, _ in events):
            at = [number for number, event in enumerate(events) if event[0] == key]
            cells = np.array([events[number][1] for number in at])
            seen.append(Seen(key, shape, half_ms, np.array(at), cells))
        keys, values = self.counts.fold(seen, times_ms, int(times_ms.max()))
        assert len(set(keys)) == len(keys), "each arm once"
        written = dict(zip(keys, values, strict=True))
        self.newest.update(written)
        return written

    def read(self) -> SegmentCounts:
        """What whoever takes over has."""
        taken = SegmentCounts()
        taken.load(self.newest)
        return taken


def values(counts: SegmentCounts) -> dict[bytes, bytes]:
    return {key: row.value for key, row in counts.rows.items()}


def of(counts: SegmentCounts, key: bytes = A) -> NDArray[np.float64]:
    return counts.rows[key].counts.ravel()


@pytest.fixture
def log() -> Log:
    return Log()


def test_counts_fade_and_a_late_event_weighs_what_it_would_by_now(log: Log) -> None:
    log.fold((A, 0, 0), (A, 0, 0), (A, 13, 0))
    log.fold((A, 23, 1000), (A, 5, 0), (A, 5, -1000))
    assert of(log.counts)[[0, 13, 23, 5]].tolist() == [1.0, 0.5, 1.0, 0.75]
    assert of(log.counts).sum() == 3.25
    assert log.counts.rows[A].time_ms == NOW_MS + 1000


def test_another_half_life_counts_from_then_on(log: Log) -> None:
    log.fold((A, 0, 0))
    log.fold((A, 1, 1000), half_ms=500.0)
    assert of(log.counts)[:2].tolist() == [0.25, 1.0]
    assert log.read().rows[A].half_life_ms == 500.0


events = st.lists(
    st.tuples(st.sampled_from([A, B, C]), st.integers(0, 23), st.integers(-3000, 3000)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(events, st.data())
def test_a_batch_counts_like_its_events_and_the_changelog_has_all_of_it(
    some: list[Event], data: st.DataObject
) -> None:
    log, left = Log(), some
    while left:
        cut = data.draw(st.integers(1, len(left)))
        log.fold(*left[:cut], half_ms=10_000.0)
        left = left[cut:]
    for key in {key for key, _, _ in some}:
        newest = max(at for other, _, at in some if other == key)
        for cell in range(24):
            mine = [at for other, where, at in some if (other, where) == (key, cell)]
            wanted = math.fsum(2.0 ** ((at - newest) / 10_000) for at in mine)
            assert of(log.counts, key)[cell] == pytest.approx(wanted, rel=1e-12)
    assert values(log.read()) == values(log.counts)


def test_only_what_changed_is_written(log: Log) -> None:
    assert list(log.fold((A, 0, 0), (B, 0, 0), (A, 1, 0))) == [A, B]
    assert list(log.fold((B, 0, 1))) == [B]
    assert len(log.newest[A] or b"") == row_bytes(SHAPE) == 211


def test_a_row_of_which_nothing_is_left_goes(log: Log) -> None:
    log.fold((A, 0, 0), (B, 0, 0), (B, 0, 0))
    quiet = [log.fold((C, 0, 3_900)) for _ in range(3)]
    assert all(list(written) == [C] for written in quiet)
    gone: dict[bytes, bytes | None] = {}
    for _ in range(3):
        gone |= log.fold((C, 0, 4_100))
    assert (gone[A], B in gone) == (None, False)
    assert set(log.read().rows) == {B, C} == set(log.counts.rows)


def test_whoever_takes_over_lets_go_by_the_newest_event_that_was_counted() -> None:
    old, new = Log(), Log()
    old.fold((A, 0, 0))
    new.fold((B, 0, 10_000))
    taken = SegmentCounts()
    taken.load(old.newest | new.newest)
    nothing = np.zeros(0, np.int64)
    gone = [taken.fold([], nothing, NOW_MS) for _ in range(2)]
    assert [one for one in gone if one[0]] == [([A], [None])]


def test_a_row_with_an_event_in_the_step_stays(log: Log) -> None:
    log.fold((A, 0, 0))
    for step in range(4):
        assert None not in log.fold((B, 0, 10_000 + step), (A, 0, 0)).values()


def test_rows_go_where_nothing_is_counted_any_more(log: Log) -> None:
    log.fold((A, 0, 0), (B, 0, 0), (B, 0, 0))
    nothing = np.zeros(0, np.int64)
    gone = [log.counts.fold([], nothing, NOW_MS + 4_100) for _ in range(3)]
    assert [one for one in gone if one[0]] == [([A], [None])]
    assert log.counts.fold([], nothing, NOW_MS) == ([], [])
    assert log.counts.fold([], nothing, NOW_MS + 5_100) == ([B], [None])
    assert log.counts.fold([], nothing, NOW_MS + 9_100) == ([], [])
    told = log.counts.untold(NOW_MS, 0)
    assert told is not None
    assert dict(zip(*told, strict=True)) == {A: None, B: None}


def test_rows_take_no_room_beyond_a_bound(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose newest event is the oldest goes; never one that has an event in the step."""
    monkeypatch.setattr(module, "MOST_ROWS", 2)
    log.fold((A, 0, 5), (B, 0, 0))
    assert log.fold((C, 0, 0)) == {B: None, C: log.newest[C]}
    assert list(log.fold((A, 0, 6), (C, 0, 6), (B, 0, 6))) == [A, C]
    assert set(log.counts.rows) == {A, C} == set(log.read().rows)


def test_a_row_of_another_shape_is_let_alone_until_it_is_gone(log: Log) -> None:
    """Of a version with other segments: nothing is added to it, and it fades by what it says."""
    log.fold((A, 9, 0), shape=(5, 2))
    taken = Log(log.read(), log.newest)
    assert taken.counts.rows[A].counts.shape == (2, 5, 2)
    taken.fold((B, 0, 0))
    gone: dict[bytes, bytes | None] = {}
    for _ in range(2):
        gone |= taken.fold((B, 0, 60_000))
    assert gone[A] is None
    log.fold((A, 9, 0))
    assert of(log.counts).sum() == 1, "the same key means these cells now"


def test_another_layout_is_refused(log: Log) -> None:
    log.fold((A, 0, 0))
    value = log.newest[A] or b""
    for other in (b"\x02" + value[1:], value[:-1], value + bytes(8), b"", b"\x01"):
        with pytest.raises(StateError, match="this version reads layout 1"):
            SegmentCounts().load({A: other})
        with pytest.raises(StateError, match="this version reads layout 1"):
            Merged(Fading()).load(0, [A], [other])


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_ms": -1},
        {"time_ms": 2**62},
        {"half_life_ms": math.inf},
        {"half_life_ms": math.nan},
        {"half_life_ms": 0.0},
        *({"counts": np.full((2, *SHAPE), one)} for one in (-0.5, math.nan, math.inf, 1e300)),
    ],
    ids=str,
)
def test_what_cannot_have_been_counted_is_refused(log: Log, wrong: dict[str, Any]) -> None:
    log.fold((A, 0, 0))
    value = log.counts.rows[A]._replace(**wrong).value
    words = "counts of segments hold a number or a time that cannot be; .* start a new group"
    with pytest.raises(StateError, match=words):
        SegmentCounts().load({A: value})
    with pytest.raises(StateError, match=words):
        Merged(Fading()).load(0, [A], [value])


def test_keys_of_items_are_not_taken_for_those_of_arms() -> None:
    assert of_segments(key_of("home", Explore()))
    assert not of_segments(SEGMENTS_PREFIX + bytes(6)), (
        "an item's hash, where workers tell each other"
    )
    assert not of_segments(ITEM_PREFIX + bytes(8))


def test_a_batch_of_the_changelog_has_room_for_all_rows() -> None:
    shape = Payoffs(SEGMENTS).shape
    assert row_bytes(shape) <= MOST_ROW_BYTES
    assert changelog_batch_bytes(Settings()) > module.MOST_ROWS * row_bytes(shape)


def test_an_arm_has_a_key_and_other_temperatures_another() -> None:
    rules = Explore(temperature=0.5)
    keys = {
        key_of("home", rules),
        key_of("home/B", rules),
        key_of("home", Explore(temperature=0.6)),
        key_of("home", Explore(temperature=0.5, sure_after=1.0)),
        key_of("home", Explore(temperature=0.5, fresh=0.1)),
        key_of("home", Explore(temperature=0.5, drift=0.1)),
    }
    assert len(keys) == 6
    other = Explore(temperature=0.5, optimism=1.0, half_life_s=60.0)
    assert key_of("home", other) == key_of("home", rules)


def _sums(*half_lives_s: float) -> Additive:
    return Additive(tuple(FadingSum(half_life_s, 1.0) for half_life_s in half_lives_s), 0.3)


def test_what_tells_users_evidence_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """By another model the same users are in other segments."""
    rules = Explore(temperature=0.5)
    keys = [
        counts_key("home", rules, "decay", Interests(WEIGHTS, None)),
        counts_key("home", rules, "mf", Interests(WEIGHTS, None)),
        counts_key("home", rules, "decay", Interests({**WEIGHTS, "view": 0.3}, None)),
        counts_key("home", rules, "decay", Interests(WEIGHTS, _sums(60.0))),
        counts_key("home", rules, "decay", Interests(WEIGHTS, _sums(60.0, 1.0))),
    ]
    for name, other in (("LOOK_BACK", 8), ("_EDGES", np.array([0.4, 2.0])), ("MULTIPLIERS", (1,))):
        with monkeypatch.context() as patched:
            patched.setattr(exploring, name, other)
            keys.append(key_of("home", rules))
    monkeypatch.setattr(interest, "SESSION_GAP_S", 60.0)
    keys.append(key_of("home", rules))
    assert len(set(keys)) == len(keys) == 9


# -- told, and added up ----------------------------------------------------------------------


def test_rows_are_told_whole_and_once(log: Log) -> None:
    log.fold((A, 0, 0), (B, 0, 0))
    log.fold((A, 0, 1))
    told = log.counts.untold(NOW_MS, 10)
    assert told is not None
    assert dict(zip(*told, strict=True)) == log.newest
    log.fold((A, 0, 2))
    assert log.counts.untold(NOW_MS + 9, 10) is None
    assert log.counts.untold(NOW_MS + 10, 10) == ([A], [log.newest[A]])
    assert log.counts.untold(NOW_MS + 20, 10) is None
    log.fold((A, 0, 3))
    assert log.counts.untold(NOW_MS - 5_000, 10) is not None, "a clock that was set back"


def test_whoever_takes_over_tells_everything_again_and_what_is_gone(log: Log) -> None:
    log.fold((A, 0, 0), (B, 0, 0))
    log.counts.untold(NOW_MS, 0)
    log.newest[B] = None
    told = log.read().untold(NOW_MS, 0)
    assert told is not None
    assert dict(zip(*told, strict=True)) == {A: log.newest[A], B: None}


def test_partitions_are_added_up_as_of_the_newest_event() -> None:
    logs, merged = [Log(), Log()], MergedSegments()
    logs[0].fold((A, 0, 0), (A, 12, 0))
    logs[1].fold((A, 0, 2000), (A, 3, 2000))
    for _ in range(2):  # a row may come twice
        for partition, log in enumerate(logs):
            merged.load(partition, log.newest)
    found = merged.counts(A, SHAPE, HALF_MS).ravel()
    assert found[[0, 3, 12]].tolist() == [1.25, 1.0, 0.25]
    assert found.sum() == 2.5
    assert not merged.counts(A, (5, 2), HALF_MS).any(), "of other segments"
    assert not merged.counts(B, SHAPE, HALF_MS).any()
    before = merged.version(A)
    logs[1].fold((A, 0, 3000))
    merged.load(1, logs[1].newest)
    assert merged.version(A) not in (before, 0)
    assert merged.counts(A, SHAPE, HALF_MS).ravel()[0] == 1 + 0.5 + 0.125
    merged.load(1, {A: None})
    assert merged.counts(A, SHAPE, HALF_MS).sum() == 2
    merged.load(0, {A: None})
    assert (merged.version(A), len(merged._rows)) == (0, 0)
