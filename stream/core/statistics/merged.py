"""Counts of all partitions, merged: how often an item was shown, clicked, bought in the whole shop.

In: rows that the owners of partitions tell. Out: arrays by catalogue row. A row is told whole and
replaces the partition's last one of that item, so rows may come twice, late and in any order of
partitions. Knows nothing of Kafka; times are passed in.

Counts are kept as they would be at one moment, the landmark, for all items: at any other time all
of them are the same factor less (forward decay), so that nothing is recomputed as time goes on.

Before there are more slots, those are given back of which less than a sixteenth of an event is
left, all partitions together: items whose partitions let them go, and those of a partition that
never told. Memory follows what the partitions count, not every item that there ever was.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import Catalogue, HashIndex
from stream.core.keys import of_segments
from stream.core.statistics.fading import COUNTED, LEAST, Fading, hashes_in, rows_in
from stream.core.statistics.segments import MergedSegments

_NAMES: Final = (*COUNTED, "recent")
_MOVE_AFTER: Final = 32.0  # short half-lives; the landmark follows the newest row
_MOST_AHEAD: Final = 64.0  # half-lives: a row that is further ahead of the landmark is wrong


class ItemCounts(NamedTuple):
    """Counts by catalogue row: float32, shape (rows,), faded to one time; a row has 0 until told.

    Attributes
    ----------
    time_ms : that time
    clicks : views among them
    recent : clicks, carts and purchases by the short half-life
    """

    time_ms: int
    impressions: NDArray[np.float32]
    clicks: NDArray[np.float32]
    carts: NDArray[np.float32]
    purchases: NDArray[np.float32]
    recent: NDArray[np.float32]


class Merged:
    """Sums over partitions: 40 bytes an item, and 20 for each partition that counts any.

    Attributes
    ----------
    newest_ms : newest event time in any row
    segments : rewards of exploring, in all partitions
    """

    def __init__(self, fading: Fading) -> None:
        self.fading = fading
        self.newest_ms = 0
        self.segments = MergedSegments()
        self._landmark_ms = 0
        self._index = HashIndex()
        self._size = 1  # slot 0 is no item
        self._sums = np.zeros((1024, len(_NAMES)))
        self._of_partition: dict[int, NDArray[np.float32]] = {}
        self._slots = np.zeros(0, np.int64)  # by catalogue row
        self._slots_for = (0, 0)

    def __len__(self) -> int:
        """Items, and items in contexts, that have a slot."""
        return self._size - 1

    def load(self, partition: int, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take over rows of a partition in order; a later one of a key replaces an earlier.

        Raises
        ------
        StateError : as `rows_in` of items, and `Row.of` of lists
        """
        newest = dict(zip(keys, values, strict=True))
        of_lists = [key for key in newest if of_segments(key)]
        if of_lists:
            self.segments.load(partition, {key: newest.pop(key) for key in of_lists})
        hashes, rows = hashes_in(list(newest)), rows_in(list(newest.values()))
        self.newest_ms = max(self.newest_ms, int(rows["time_ms"].max(initial=0)))
        if self.newest_ms - self._landmark_ms > _MOVE_AFTER * self.fading.recent_ms:
            self._move_landmark()
        slots = self._slots_of(hashes, rows["time_ms"] > 0)
        own = self._of_partition.get(partition)
        if own is None or len(own) < len(self._sums):
            own = _grown(own, len(self._sums))
            self._of_partition[partition] = own
        told = np.column_stack([rows[name] for name in _NAMES])
        told = (told * self._factors(rows["time_ms"])).astype(np.float32)
        kept = slots > 0
        slots, told = slots[kept], told[kept]
        self._sums[slots] += told.astype(np.float64) - own[slots]
        own[slots] = told

    def _factors(self, times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
        """What counts of these times are multiplied by to be those of the landmark."""
        ahead_ms = (times_ms - self._landmark_ms).astype(np.float64)
        half_lives = np.repeat(ahead_ms[:, None] / self.fading.usual_ms, len(_NAMES), axis=1)
        half_lives[:, -1] = ahead_ms / self.fading.recent_ms
        return np.asarray(np.exp2(np.minimum(half_lives, _MOST_AHEAD)))

    def _move_landmark(self) -> None:
        before = np.array([self._landmark_ms])
        self._landmark_ms = self.newest_ms
        self._sums[:] = 0.0
        factors = self._factors(before).astype(np.float32)
        for own in self._of_partition.values():
            np.multiply(own, factors, out=own)
            self._sums[: len(own)] += own

    def _slots_of(self, hashes: NDArray[np.uint64], there: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Slots of items, new ones among them; 0 where there is nothing to keep."""
        new = hashes[there & (self._index.find(hashes) == 0)]
        if self._size + len(new) > len(self._sums):
            self._give_back()
            new = hashes[there & (self._index.find(hashes) == 0)]
            more = max(0, 2 * (self._size + len(new)) - len(self._sums))
            self._sums = np.pad(self._sums, ((0, more), (0, 0)))
        first, self._size = self._size, self._size + len(new)
        self._index.add(new, np.arange(first, self._size))
        return self._index.find(hashes)

    def _give_back(self) -> None:
        """Drop the slots of which next to nothing is left."""
        left = self._sums[: self._size, : len(COUNTED)].sum(axis=1) * self._faded(self.newest_ms)[0]
        left[0] = LEAST  # slot 0 is no item, and stays
        slots = np.flatnonzero(left >= LEAST)
        hashes, old = self._index.entries()
        self._sums = self._sums[slots]
        for partition, own in self._of_partition.items():
            self._of_partition[partition] = own[slots[slots < len(own)]]
        new = np.zeros(self._size, np.int64)
        new[slots] = np.arange(len(slots))
        kept = new[old] > 0
        self._size = len(slots)
        self._index = HashIndex()
        self._index.add(hashes[kept], new[old[kept]])
        self._slots_for = (0, 0)

    def _faded(self, time_ms: int) -> NDArray[np.float64]:
        """What counts of the landmark are multiplied by to be those of a time, by name."""
        return np.asarray(1.0 / self._factors(np.array([time_ms]))[0])

    def by_row(self, catalogue: Catalogue, now_ms: int) -> ItemCounts:
        """Counts of the catalogue's items at the time up to which events have come.

        Parameters
        ----------
        now_ms : wall-clock time, which an event from the future does not put forward
        """
        rows = len(catalogue)
        if self._slots_for != (rows, self._size):
            self._slots = self._index.find(catalogue.hashes[:rows])
            self._slots_for = (rows, self._size)
        time_ms = min(self.newest_ms, now_ms)
        counts = self._sums[self._slots] * self._faded(time_ms)
        counts = np.maximum(counts, 0.0).astype(np.float32)
        return ItemCounts(time_ms, *np.ascontiguousarray(counts.T))

    def interactions(self, hashes: NDArray[np.uint64], now_ms: int) -> NDArray[np.float64]:
        """Clicks, carts and purchases under some hashes, faded as in `by_row`: float64."""
        factor = self._faded(min(self.newest_ms, now_ms))[1]
        found = self._sums[self._index.find(hashes), 1:4].sum(axis=1)
        return np.asarray(np.maximum(found * factor, 0.0), np.float64)


def _grown(old: NDArray[np.float32] | None, size: int) -> NDArray[np.float32]:
    grown = np.zeros((size, len(_NAMES)), np.float32)
    if old is not None:
        grown[: len(old)] = old
    return grown
