"""Rewards of exploring: how often an arm's lists were seen and clicked, by segment and multiplier.

In: events as they are folded, each with its cell; changelog records; rows that others tell. Out:
the changelog records that must go with the states, rows that others should know, sums over
partitions. Knows nothing of users, nor of what segments and multipliers are.

A row has all cells of an arm in one partition, faded to the time of its newest event. It says
itself how many cells there are and how they fade, so one that no arm asks for any more fades, too,
and goes.

    SEGMENTS_PREFIX + 8 bytes -> layout, segments, multipliers (a byte each), time_ms (int64),
                             half_life_ms (float64), impressions, clicks (float64, by segment and
                             multiplier each); little-endian
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.statistics.fading import LEAST, KeyedRows, can_be, foreign, impossible

LAYOUT: Final = 1
# Of one partition. A new one beyond takes the place of the one whose newest event is the oldest:
# settings that change every minute shall not fill the memory.
MOST_ROWS: Final = 128
MOST_ROW_BYTES: Final = 1024  # room for more segments and multipliers than there are

_HEAD: Final = struct.Struct("<BBBqd")

Shape = tuple[int, int]  # segments, multipliers


def row_bytes(shape: Shape) -> int:
    """Bytes of a row on the wire."""
    return _HEAD.size + 16 * shape[0] * shape[1]


class Row(NamedTuple):
    """Counts of an arm.

    Attributes
    ----------
    time_ms : of the newest event, to which all of them are faded
    counts : float64, shape (2, segments, multipliers); impressions, clicks
    """

    time_ms: int
    half_life_ms: float
    counts: NDArray[np.float64]

    @classmethod
    def of(cls, value: bytes) -> Row:
        """A row from the wire.

        Raises
        ------
        StateError : it has a layout that this version cannot read, or numbers that cannot be
        """
        if len(value) >= _HEAD.size and value[0] == LAYOUT:
            _, segments, multipliers, time_ms, half_life_ms = _HEAD.unpack_from(value)
            if len(value) == row_bytes((segments, multipliers)):
                counts = np.frombuffer(value, "<f8", offset=_HEAD.size).astype(np.float64)
                if not (0 < half_life_ms < math.inf and can_be(np.array(time_ms), counts)):
                    raise impossible("segments", LAYOUT)
                return cls(time_ms, half_life_ms, counts.reshape(2, segments, multipliers))
        raise foreign("segments", value, LAYOUT)

    @property
    def value(self) -> bytes:
        """The row as on the wire."""
        _, segments, multipliers = self.counts.shape
        head = _HEAD.pack(LAYOUT, segments, multipliers, self.time_ms, self.half_life_ms)
        return head + self.counts.astype("<f8").tobytes()

    def left(self, now_ms: int) -> float:
        """How many impressions and clicks are left of all."""
        return float(self.counts.sum() * np.exp2((self.time_ms - now_ms) / self.half_life_ms))


class Seen(NamedTuple):
    """What n events say of an arm's lists.

    Attributes
    ----------
    key : of the arm's counts
    half_life_ms : by which they fade from now on
    at : int64, shape (n,), ascending; which events
    cells : int64, shape (n,); where in the counts of this shape each goes: (column * segments +
        segment) * multipliers + multiplier
    """

    key: bytes
    shape: Shape
    half_life_ms: float
    at: NDArray[np.int64]
    cells: NDArray[np.int64]

    def between(self, first: int, stop: int) -> Seen:
        """Those of some of the events."""
        some = slice(*np.searchsorted(self.at, [first, stop]).tolist())
        return self._replace(at=self.at[some], cells=self.cells[some])


class SegmentCounts:
    """Counts of one partition, a row an arm."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Row] = {}
        self._newest_ms = 0
        self._look = 0
        self._untold: set[bytes] = set()
        self._told_ms = 0

    def __len__(self) -> int:
        return len(self.rows)

    def fold(self, seen: Iterable[Seen], times_ms: NDArray[np.int64], newest_ms: int) -> KeyedRows:
        """Count events, and let a row go of which next to nothing is left.

        Parameters
        ----------
        seen : each arm once; none where nothing learns, and rows fade all the same
        times_ms : int64, shape (any,); of the events that `Seen.at` names
        newest_ms : of all events of the partition, whatever they are

        Returns
        -------
        keys and values that the changelog must have, each key once; None for a row that was let go
        """
        changed: dict[bytes, bytes | None] = {}
        self._newest_ms = max(self._newest_ms, newest_ms)
        for some in seen:
            if len(some.at) and self._has_room(some.key, changed):
                row = _added(self.rows.get(some.key), some, times_ms[some.at])
                self.rows[some.key] = row
                changed[some.key] = row.value
        if self.rows:
            self._let_faded_go(changed)
        self._untold |= changed.keys()
        return list(changed), list(changed.values())

    def _has_room(self, key: bytes, changed: dict[bytes, bytes | None]) -> bool:
        if key in self.rows or len(self.rows) < MOST_ROWS:
            return True
        idle = self.rows.keys() - changed.keys()
        if idle:
            oldest = min(idle, key=lambda other: self.rows[other].time_ms)
            del self.rows[oldest]
            changed[oldest] = None
        return bool(idle)

    def _let_faded_go(self, changed: dict[bytes, bytes | None]) -> None:
        """Look at the next row."""
        self._look += 1
        key = list(self.rows)[self._look % len(self.rows)]
        if key not in changed and self.rows[key].left(self._newest_ms) < LEAST:
            del self.rows[key]
            changed[key] = None

    # -- recovery --------------------------------------------------------------------------

    def load(self, records: Mapping[bytes, bytes | None]) -> None:
        """Take over changelog records; None lets a row go. All of them are told again.

        Raises
        ------
        StateError : as `Row.of`
        """
        for key, row in rows_in(records).items():
            if row is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = row
                self._newest_ms = max(self._newest_ms, row.time_ms)
        self._untold |= records.keys()

    # -- telling ---------------------------------------------------------------------------

    def untold(self, now_ms: int, every_ms: float) -> KeyedRows | None:
        """Rows that others should know by now, whole, as records of their topic; None: nothing.

        Parameters
        ----------
        now_ms : wall-clock time
        every_ms : between two looks
        """
        if not self._untold or 0 <= now_ms - self._told_ms < every_ms:
            return None
        self._told_ms = now_ms
        keys = list(self._untold)
        self._untold.clear()
        rows = [self.rows.get(key) for key in keys]
        return keys, [None if row is None else row.value for row in rows]


def _added(old: Row | None, some: Seen, times_ms: NDArray[np.int64]) -> Row:
    """The row with events of these times; it takes on the half-life."""
    half_life_ms, newest_ms = some.half_life_ms, int(times_ms.max())
    counts = np.zeros((2, *some.shape))
    if old is not None and old.counts.shape == counts.shape:
        newest_ms = max(newest_ms, old.time_ms)
        counts += old.counts * 2.0 ** ((old.time_ms - newest_ms) / half_life_ms)
    weights = np.exp2((times_ms - newest_ms) / half_life_ms)
    counts += np.bincount(some.cells, weights, counts.size).reshape(counts.shape)
    return Row(newest_ms, half_life_ms, counts)


def rows_in(records: Mapping[bytes, bytes | None]) -> dict[bytes, Row | None]:
    """Rows by key.

    Raises
    ------
    StateError : as `Row.of`
    """
    return {key: None if value is None else Row.of(value) for key, value in records.items()}


class MergedSegments:
    """Counts of all partitions; a row replaces the partition's last one of that arm."""

    def __init__(self) -> None:
        self._rows: dict[bytes, dict[int, Row]] = {}
        self._loads = 0
        self._changed: dict[bytes, int] = {}  # by the number of the load

    def load(self, partition: int, records: Mapping[bytes, bytes | None]) -> None:
        """Take over rows of a partition; None takes one back.

        Raises
        ------
        StateError : as `Row.of`
        """
        for key, row in rows_in(records).items():
            of_partitions = self._rows.setdefault(key, {})
            if row is None:
                of_partitions.pop(partition, None)
            else:
                of_partitions[partition] = row
            self._loads += 1
            self._changed[key] = self._loads
            if not of_partitions:
                del self._rows[key], self._changed[key]

    def version(self, key: bytes) -> int:
        """A number that is another one whenever an arm's counts are; 0 where there are none."""
        return self._changed.get(key, 0)

    def counts(self, key: bytes, shape: Shape, half_life_ms: float) -> NDArray[np.float64]:
        """An arm's impressions and clicks in the whole shop, faded to the newest of these events.

        Returns
        -------
        float64, shape (2, *shape)
        """
        rows: Sequence[Row] = [
            row for row in self._rows.get(key, {}).values() if row.counts.shape == (2, *shape)
        ]
        newest_ms = max([row.time_ms for row in rows], default=0)
        counts = np.zeros((2, *shape))
        for row in rows:
            counts += row.counts * 2.0 ** ((row.time_ms - newest_ms) / half_life_ms)
        return counts
