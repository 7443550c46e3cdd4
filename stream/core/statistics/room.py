"""Who makes room for a stranger: the least counted of the strangers.

In: rows of counts. Out: slots of those that go. A stranger is a row of no item that the shop knows:
an item that somebody invented, or an item in a context, which anybody can invent as well. They have
so much room in a partition that a flood of new ones cannot fill its memory.

When it is full, a look finds the least counted of them, by what is left of their events: as many as
a sixteenth of the room. Newcomers take these places one by one, the least counted first; what has
an event meanwhile, or what the shop gets to know, stays. Only when all have been seen to is there
another look, which finds the newcomers that did not come again. So a flood takes turns in two
sixteenths of the room at most, and whatever has more events than its members stays in the rest.

The least counted goes as in Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and
top-k elements", ICDT 2005, but a newcomer inherits nothing: counts are of what was. The window for
newcomers is that of Einziger, Friedman and Manes, "TinyLFU", ACM Transactions on Storage 13, 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.core.statistics.fading import COUNTED, ROW

Slots = NDArray[np.int64]
# By hashes, uint64, shape (n,): whether each is that of an item that the shop knows; bool.
Known = Callable[[NDArray[np.uint64]], NDArray[np.bool_]]

# Strangers are counted while a partition has fewer rows than these, or else in place of another.
STRANGERS_UP_TO: Final = 65_536
_WINDOW: Final = 16  # a look finds one of so many


def nobody_is_known(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """`Known` of a shop without items."""
    return np.zeros(len(hashes), np.bool_)


def left(rows: np.ndarray, time_ms: int, usual_ms: float) -> NDArray[np.float64]:
    """What is left of all events of `ROW`s at a later time: float64, shape (n,)."""
    counted = np.sum([rows[name] for name in COUNTED], axis=0)
    faded = counted * np.exp2((rows["time_ms"] - time_ms) / usual_ms)
    return np.asarray(faded, np.float64)


class Window:
    """The strangers that are the next to go, the least counted first."""

    def __init__(self) -> None:
        self._slots = np.zeros(0, np.int64)
        self._seen = np.zeros(0, ROW)

    def look(self, slots: Slots, rows: np.ndarray, left_of: NDArray[np.float64]) -> None:
        """Find the least counted.

        Parameters
        ----------
        slots : int64, shape (n,); of all strangers
        rows, left_of : `ROW` and float64, shape (slots,); of all
        """
        most = max(1, STRANGERS_UP_TO // _WINDOW)
        if len(slots) > most:
            slots = slots[np.argpartition(left_of[slots], most)[:most]]
        self._slots = slots[np.argsort(left_of[slots], kind="stable")]
        self._seen = rows[self._slots]

    def take(
        self,
        wanted: int,
        rows: np.ndarray,
        busy: Slots,
        hashes: NDArray[np.uint64],
        known: Known,
    ) -> Slots:
        """The next of them whose rows are as they were seen; they are not asked again.

        Parameters
        ----------
        wanted : no more than these; there may be fewer
        busy : have an event in this step, so they stay
        hashes : uint64, shape (slots,); of all rows
        known : the shop may have got to know one since the look
        """
        found = []
        while wanted > 0 and len(self._slots):
            slots, seen = self._slots[:wanted], self._seen[:wanted]
            self._slots, self._seen = self._slots[wanted:], self._seen[wanted:]
            stay = known(hashes[slots]) | np.isin(slots, busy)
            found.append(slots[(rows[slots] == seen) & ~stay])
            wanted -= len(found[-1])
        return np.concatenate([np.zeros(0, np.int64), *found])
