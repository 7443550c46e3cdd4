"""How often the items of one partition were shown, clicked, put into carts and bought.

In: events as they are folded, in order; changelog records. Out: the changelog records that must go
with the states, and from time to time the rows that others should know. Knows nothing of users,
models and Kafka; times are passed in.

A batch counts like its events one by one, and what counts is what was folded: a repeat, an event
from before an erasure and one that was applied before a crash change nothing here either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import MIN_EVENT_TIME_MS
from stream.core.catalogue import HashIndex
from stream.core.rows import Rows
from stream.core.statistics.adding import add
from stream.core.statistics.fading import (
    COLUMN_OF_TYPE,
    COUNTED,
    LAYOUT,
    LEAST,
    NOT_COUNTED,
    ROW,
    Fading,
    Records,
    cut,
    hashes_in,
    keys_of,
    rows_in,
)
from stream.core.statistics.segments import SegmentCounts

Slots = NDArray[np.int64]

# An item that neither catalogue nor model knows is counted while there are fewer rows than these:
# whoever invents ids shall not fill the memory.
UNKNOWN_UP_TO: Final = 65_536
# A step looks at so many rows, and at as many more as it has events, for some that can go ...
_LOOK_AT_LEAST: Final = 64
# ... once the events' time went on by this share of the long half-life since the last round.
_ROUNDS: Final = 100
# Rows that nobody needs any more are cleared away when they are so many, and half of all.
_CLEAR_AT_LEAST: Final = 4_096
# A row is told to others when it changed by an event and this share, else with all of them.
_SHARE: Final = 1 / 16
_ALL_AFTER: Final = 30
_AT_ONCE: Final = 4_096


class Columns(NamedTuple):
    """Events to be counted, n of them, in order.

    Attributes
    ----------
    items : `item_hash` of each
    types : `EventType`; those that are not counted may be among them
    sent_ms : an event that is dated ahead of it counts as one of this time: else it would fade what
        comes before it is due; before the year 2000 it means nothing
    dropped : not to be counted
    unknown : the item stands neither in the catalogue nor in the model
    """

    items: NDArray[np.uint64]
    types: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    sent_ms: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    def some(self, first: int, stop: int) -> Columns:
        """Some of the events."""
        columns: list[Any] = [column[first:stop] for column in self]
        return Columns(*columns)


class Counts:
    """Counts of the items of one partition: a slot and a row of each.

    Parameters
    ----------
    fading : half-lives
    tell_every_ms : time between two looks for rows that others should know
    contexts : names of the contexts that items are counted in besides

    Attributes
    ----------
    segments : what came of lists, counted in the same partition
    keys : changelog key of each slot
    newest_ms : newest event time that was counted
    """

    def __init__(
        self,
        fading: Fading | None = None,
        tell_every_ms: float = 10_000,
        contexts: Sequence[str] = (),
    ) -> None:
        self.fading = fading or Fading()
        self.contexts = contexts
        self.segments = SegmentCounts()
        self.tell_every_ms = tell_every_ms
        self.newest_ms = 0
        self._told_ms = self._all_told_ms = 0
        self._hand = 0
        self._round_ms = 0
        self._clear()

    def _clear(self) -> None:
        self._index = HashIndex()
        self._rows = Rows(ROW.itemsize)
        self._size = 1  # slot 0 is no item
        self.keys = [b""]
        self._used = 0
        self._hashes = np.zeros(len(self._rows), np.uint64)
        self._untold = np.zeros(len(self._rows), np.float32)  # events counted since a row was told
        self._marked = np.zeros(len(self._rows), np.bool_)  # changed in this step

    def __len__(self) -> int:
        """Items with a count."""
        return self._used

    @property
    def nbytes(self) -> int:
        """Memory of the rows in use, bytes."""
        return self._size * (ROW.itemsize + 13)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """uint64, shape (n,); `item_hash` of each of `rows`. A view."""
        return self._hashes[1 : self._size]

    @property
    def rows(self) -> np.ndarray:
        """`ROW`, shape (n,); a view, to be let go of before more is counted."""
        return self._all_rows()[1:]

    def _all_rows(self) -> np.ndarray:
        return self._rows.bytes[: self._size].view(ROW)[:, 0]

    # -- counting --------------------------------------------------------------------------

    def fold(self, events: Columns) -> Records:
        """Count events, and let a few items go of which next to nothing is left.

        Returns
        -------
        keys and values that the changelog must have, each item once; None for one that was let go
        """
        items = events.items
        if not len(items):
            return [], []
        columns = (events.types, events.times_ms, events.sent_ms, events.dropped)
        changed = np.empty(len(items), np.int64)
        found, new, newest_ms = self._add(changed, self._index.find(items), *columns, False)
        if found < 0:
            self._welcome(events)
            found, new, newest_ms = self._add(changed, self._index.find(items), *columns, True)
        changed = changed[:found]
        self._used += new
        self.newest_ms = max(self.newest_ms, newest_ms)
        keys = [self.keys[slot] for slot in changed.tolist()]
        values: list[bytes | None] = [*cut(self._all_rows()[changed])]
        if self._hand or self.newest_ms - self._round_ms >= self.fading.usual_ms / _ROUNDS:
            gone = [self.keys[slot] for slot in self._let_go(len(items)).tolist()]
            keys += gone
            values += [None] * len(gone)
        self._marked[changed] = False
        if not self._hand and len(keys) > found:
            self._clear_away()
        return keys, values

    def _add(self, changed: Slots, *columns: Any) -> tuple[int, int, int]:
        """`add` to the rows."""
        rows = (self._all_rows(), self._untold, self._marked)
        arguments: Any = (*columns, *rows, COLUMN_OF_TYPE, MIN_EVENT_TIME_MS, *self.fading, changed)
        return add(*arguments)

    def _welcome(self, events: Columns) -> None:
        """Give items of events that count a row, where they have none and may have one."""
        new = ~events.dropped & (COLUMN_OF_TYPE[events.types] != NOT_COUNTED)
        if self._used >= UNKNOWN_UP_TO:
            new &= ~events.unknown
        hashes = np.unique(events.items[new])
        hashes = hashes[self._index.find(hashes) == 0]
        self._append(hashes, keys_of(hashes))

    def _append(self, hashes: NDArray[np.uint64], keys: list[bytes]) -> None:
        """Give items that have none a slot, with a row that is not in use."""
        self.keys += keys
        first, self._size = self._size, self._size + len(hashes)
        self._rows.reserve(self._size)
        for name in ("_hashes", "_untold", "_marked"):
            old = getattr(self, name)
            if len(old) < len(self._rows):
                setattr(self, name, np.zeros(len(self._rows), old.dtype))
                getattr(self, name)[: len(old)] = old
        self._hashes[first : self._size] = hashes
        self._all_rows()["layout"][first:] = LAYOUT
        self._index.add(hashes, np.arange(first, self._size))

    def _let_go(self, events: int) -> Slots:
        """Slots of the next few items of which next to nothing is left; their rows are emptied."""
        if self._hand == 0:
            self._round_ms = self.newest_ms
        stop = min(self._hand + let_go_at_most(events), self._size)
        rows = self._all_rows()[self._hand : stop]
        left = sum(rows[name] for name in COUNTED)
        left = left * np.exp2((rows["time_ms"] - self.newest_ms) / self.fading.usual_ms)
        old = (rows["time_ms"] > 0) & (left < LEAST) & ~self._marked[self._hand : stop]
        gone = self._hand + np.flatnonzero(old)
        self._empty(gone)
        self._hand = 0 if stop == self._size else stop
        return gone

    def _empty(self, slots: Slots) -> None:
        rows = self._all_rows()
        blank = np.zeros(1, ROW)
        blank["layout"] = LAYOUT
        self._used -= int(np.count_nonzero(rows["time_ms"][slots]))
        rows[slots] = blank
        self._untold[slots] = np.inf

    def _clear_away(self) -> None:
        """Drop rows that are not in use, once they are many."""
        if self._size - self._used < max(_CLEAR_AT_LEAST, self._used):
            return
        kept = np.flatnonzero((self.rows["time_ms"] > 0) | (self._untold[1 : self._size] > 0))
        hashes, rows, untold = self.hashes[kept], self.rows[kept], self._untold[1 + kept]
        keys = [self.keys[1 + at] for at in kept.tolist()]
        self._clear()
        self._append(hashes, keys)
        self.rows[:] = rows
        self._untold[1 : self._size] = untold
        self._used = int(np.count_nonzero(rows["time_ms"]))

    # -- recovery --------------------------------------------------------------------------

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take over changelog records, each key once; None lets an item go.

        All of them are told again: whoever had the partition may have died before it could.

        Raises
        ------
        StateError : a value has a layout that this version cannot read
        """
        hashes, rows = hashes_in(keys), rows_in(values)
        new = np.flatnonzero(self._index.find(hashes) == 0)
        self._append(hashes[new], [keys[at] for at in new.tolist()])
        slots = self._index.find(hashes)
        own = self._all_rows()
        self._used -= int(np.count_nonzero(own["time_ms"][slots]))
        own[slots] = rows
        self._used += int(np.count_nonzero(rows["time_ms"]))
        self._untold[slots] = np.inf
        self.newest_ms = max(self.newest_ms, int(rows["time_ms"].max(initial=0)))

    # -- telling ---------------------------------------------------------------------------

    def untold(self, now_ms: int) -> Records | None:
        """Rows that others should know by now, as records of their topic; None: nothing.

        What changed by more than an event and a sixteenth is told at the next look, the rest after
        some of them. A row is told whole, so one that is told twice or late is never counted twice.

        Parameters
        ----------
        now_ms : wall-clock time
        """
        if 0 <= now_ms - self._told_ms < self.tell_every_ms:
            return None
        self._told_ms = now_ms
        untold, rows = self._untold[: self._size], self._all_rows()
        everything = not 0 <= now_ms - self._all_told_ms < _ALL_AFTER * self.tell_every_ms
        if everything:
            slots = np.flatnonzero(untold > 0)
        else:
            slots = np.flatnonzero(untold >= 1 + _SHARE * rows["recent"])
        if everything and len(slots) <= _AT_ONCE:
            self._all_told_ms = now_ms
        slots = slots[:_AT_ONCE]
        if not len(slots):
            return None
        untold[slots] = 0
        used = (rows["time_ms"][slots] > 0).tolist()
        values = [
            value if there else None for value, there in zip(cut(rows[slots]), used, strict=True)
        ]
        return cut(self._hashes[slots].astype("<u8")), values


def let_go_at_most(events: int) -> int:
    """Items that a step with so many events may let go: those that it looks at."""
    return events + _LOOK_AT_LEAST
