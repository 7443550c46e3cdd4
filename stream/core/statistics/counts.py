"""How often the items of one partition were shown, clicked, put into carts and bought.

In: events as they are folded, in order; changelog records. Out: the changelog records that must go
with the states, and from time to time the rows that others should know. Knows nothing of users,
models and Kafka; times are passed in.

A batch counts like its events one by one, and what counts is what was folded: a repeat, an event
from before an erasure and one that was applied before a crash change nothing here either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import HashIndex
from stream.core.rows import Rows
from stream.core.statistics import room
from stream.core.statistics.adding import Columns, add
from stream.core.statistics.fading import (
    COLUMN_OF_TYPE,
    LAYOUT,
    LEAST,
    NOT_COUNTED,
    ROW,
    Fading,
    KeyedRows,
    cut,
    hashes_in,
    keys_of,
    rows_in,
)
from stream.core.statistics.room import Known, Slots, left, nobody_is_known
from stream.core.statistics.telling import Telling

# A step looks at so many rows, and at as many more as it has events, for some that can go ...
_LOOK_AT_LEAST: Final = 64
# ... once the events' time went on by this share of the long half-life since the last round.
_ROUNDS: Final = 100
# Rows that nobody needs any more are cleared away when they are so many, and half of all.
_CLEAR_AT_LEAST: Final = 4_096


class Counts:
    """Counts of the items of one partition: a slot and a row of each.

    Parameters
    ----------
    fading : half-lives
    tell_every_ms : time between two looks for rows that others should know
    contexts : names of the contexts that items are counted in besides

    Attributes
    ----------
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
        self.tell_every_ms = tell_every_ms
        self._telling = Telling(tell_every_ms)
        self.newest_ms = 0
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
        self._marked = np.zeros(len(self._rows), np.bool_)  # changed in this step
        self._telling.reserve(len(self._rows))
        self._window = room.Window()

    def __len__(self) -> int:
        """Items with a count."""
        return self._used

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

    def fold(self, events: Columns, known: Known = nobody_is_known) -> KeyedRows:
        """Count events, and let a few items go: next to nothing is left, or they make room.

        Parameters
        ----------
        known : whose rows make no room for others

        Returns
        -------
        keys and values that the changelog must have, each item once; None for one that was let go
        """
        items = events.items
        if not len(items):
            return [], []
        columns = (events.types, events.times_ms, events.dropped)
        changed = np.empty(len(items), np.int64)
        found, new, newest_ms = self._add(changed, self._index.find(items), *columns, False)
        gone = np.zeros(0, np.int64)
        if found < 0:
            slots, gone = self._welcome(events, known)
            found, new, newest_ms = self._add(changed, slots, *columns, True)
        changed = changed[:found]
        self._used += new
        self.newest_ms = max(self.newest_ms, newest_ms)
        keys = [self.keys[slot] for slot in changed.tolist()]
        values: list[bytes | None] = [*cut(self._all_rows()[changed])]
        if self._hand or self.newest_ms - self._round_ms >= self.fading.usual_ms / _ROUNDS:
            gone = np.concatenate([gone, self._let_go(len(items) - len(gone))])
        keys += [self.keys[slot] for slot in gone.tolist()]
        values += [None] * len(gone)
        self._marked[changed] = False
        if len(gone):
            self._clear_away()
        return keys, values

    def _add(self, changed: Slots, *columns: Any) -> tuple[int, int, int]:
        """`add` to the rows."""
        rows = (self._all_rows(), self._telling.untold, self._marked)
        arguments: Any = (*columns, *rows, COLUMN_OF_TYPE, *self.fading, changed)
        return add(*arguments)

    def _welcome(self, events: Columns, known: Known) -> tuple[Slots, Slots]:
        """Give items of events that count a row, where they have none and may have one.

        Returns
        -------
        the slot of each event's item, 0 where it has none; slots of the rows that made room
        """
        counts = ~events.dropped & (COLUMN_OF_TYPE[events.types] != NOT_COUNTED)
        slots = self._index.find(events.items)
        absent = np.flatnonzero(counts & (self._all_rows()["time_ms"][slots] == 0))
        absent = absent[np.sort(np.unique(events.items[absent], return_index=True)[1])]
        strangers = np.flatnonzero(events.unknown[absent])
        acquainted = len(absent) - len(strangers)
        free = max(0, room.STRANGERS_UP_TO - self._used - acquainted)
        # Nobody has to go while there are free places: their newcomers are not to be found yet.
        gone = self._make_room(0 if free else len(strangers), slots[counts], known)
        refused = np.zeros(len(absent), np.bool_)
        refused[strangers[free + len(gone) :]] = True
        hashes = events.items[absent[~refused & (slots[absent] == 0)]]
        self._append(hashes, keys_of(hashes))
        slots = self._index.find(events.items)
        if refused.any():
            slots[np.isin(events.items, events.items[absent[refused]])] = 0
        return slots, gone

    def _make_room(self, wanted: int, busy: Slots, known: Known) -> Slots:
        """Slots of the least counted strangers, emptied: as many as wanted, or all there are."""
        rows = self._all_rows()
        given = (rows, busy, self._hashes, known)
        gone = self._window.take(wanted, *given)
        if len(gone) < wanted:
            others = rows["time_ms"] > 0
            others[busy] = others[gone] = False
            slots = np.flatnonzero(others)
            slots = slots[~known(self._hashes[slots])]
            self._window.look(slots, rows, left(rows, self.newest_ms, self.fading.usual_ms))
            gone = np.concatenate([gone, self._window.take(wanted - len(gone), *given)])
        self._empty(gone)
        return gone

    def _append(self, hashes: NDArray[np.uint64], keys: list[bytes]) -> None:
        """Give items that have none a slot, with a row that is not in use."""
        self.keys += keys
        first, self._size = self._size, self._size + len(hashes)
        self._rows.reserve(self._size)
        missing = len(self._rows) - len(self._hashes)
        if missing > 0:
            self._hashes = np.pad(self._hashes, (0, missing))
            self._marked = np.pad(self._marked, (0, missing))
            self._telling.reserve(len(self._rows))
        self._hashes[first : self._size] = hashes
        self._all_rows()["layout"][first:] = LAYOUT
        self._index.add(hashes, np.arange(first, self._size))

    def _let_go(self, events: int) -> Slots:
        """Slots of the next few items of which next to nothing is left; their rows are emptied."""
        if self._hand == 0:
            self._round_ms = self.newest_ms
        stop = min(self._hand + let_go_at_most(events), self._size)
        rows = self._all_rows()[self._hand : stop]
        little = left(rows, self.newest_ms, self.fading.usual_ms) < LEAST
        old = (rows["time_ms"] > 0) & little & ~self._marked[self._hand : stop]
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
        self._telling.went(slots)

    def _clear_away(self) -> None:
        """Drop rows that are not in use, once they are many."""
        if self._size - self._used < max(_CLEAR_AT_LEAST, self._used):
            return
        kept = (self._all_rows()["time_ms"] > 0) | (self._telling.untold[: self._size] > 0)
        slots = np.flatnonzero(kept)
        if len(slots) > (self._size + self._used) / 2:
            return  # most of them are yet to be told of
        hashes, rows, hand = self._hashes[slots], self._all_rows()[slots], self._hand
        keys = [self.keys[slot] for slot in slots.tolist()]
        self._clear()
        self._append(hashes, keys)
        self.rows[:] = rows
        self._telling.keep(slots, len(self._rows))
        self._used = int(np.count_nonzero(rows["time_ms"]))
        if hand:  # where the round is
            hand = 1 + int(np.searchsorted(slots, hand))
            self._hand = 0 if hand == self._size else hand

    # -- recovery --------------------------------------------------------------------------

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Take over changelog records, each key once; None lets an item go.

        All of them are told again: whoever had the partition may have died before it could.

        Raises
        ------
        StateError : as `rows_in`
        """
        hashes, rows = hashes_in(keys), rows_in(values)
        new = np.flatnonzero(self._index.find(hashes) == 0)
        self._append(hashes[new], [keys[at] for at in new.tolist()])
        slots = self._index.find(hashes)
        own = self._all_rows()
        self._used -= int(np.count_nonzero(own["time_ms"][slots]))
        own[slots] = rows
        self._used += int(np.count_nonzero(rows["time_ms"]))
        self._telling.came(slots)
        self.newest_ms = max(self.newest_ms, int(rows["time_ms"].max(initial=0)))

    # -- telling ---------------------------------------------------------------------------

    def untold(self, now_ms: int) -> KeyedRows | None:
        """Rows that others should know by now, as records of their topic; None: nothing.

        Parameters
        ----------
        now_ms : wall-clock time
        """
        rows = self._all_rows()
        slots = self._telling.due(rows, now_ms)
        if not len(slots):
            return None
        used = (rows["time_ms"][slots] > 0).tolist()
        values = [
            value if there else None for value, there in zip(cut(rows[slots]), used, strict=True)
        ]
        return cut(self._hashes[slots].astype("<u8")), values


def let_go_at_most(events: int) -> int:
    """Items that a step with so many events may let go: those that it looks at."""
    return events + _LOOK_AT_LEAST
