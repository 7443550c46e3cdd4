"""Which rows of counts others should know by now. In: what was counted. Out: slots.

A row is told whole, so one that is told twice or late is never counted twice. Knows nothing of what
a row holds, but the time and the recent count; times are passed in.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream.core.statistics.room import Slots

# A row is told to others when it changed by an event and this share, else with all of them.
_SHARE: Final = 1 / 16
_ALL_AFTER: Final = 30
_AT_ONCE: Final = 4_096


class Telling:
    """What others were told of one partition's rows.

    Parameters
    ----------
    every_ms : time between two looks

    Attributes
    ----------
    untold : float32, by slot; events counted since a row was told, infinite: to be told at once
    """

    def __init__(self, every_ms: float) -> None:
        self._every_ms = every_ms
        self._told_ms = self._all_told_ms = 0
        self.untold = np.zeros(0, np.float32)
        self._outside = np.zeros(0, np.bool_)  # others may hold something of the row

    def reserve(self, slots: int) -> None:
        """Have room for so many."""
        missing = max(0, slots - len(self.untold))
        self.untold = np.pad(self.untold, (0, missing))
        self._outside = np.pad(self._outside, (0, missing))

    def keep(self, slots: Slots, room: int) -> None:
        """The rows of these slots alone are left, from slot 1 on; with room for so many."""
        for name in ("untold", "_outside"):
            kept = getattr(self, name)[slots]
            setattr(self, name, np.pad(kept, (1, room - 1 - len(kept))))

    def came(self, slots: Slots) -> None:
        """Rows were taken over; whoever had them may have told, or died before it could."""
        self.untold[slots], self._outside[slots] = np.inf, True

    def went(self, slots: Slots) -> None:
        """Rows were emptied: who never heard of one need not hear that it went."""
        self.untold[slots] = np.where(self._outside[slots], np.inf, 0)

    def due(self, rows: np.ndarray, now_ms: int) -> Slots:
        """Slots of the rows to be told now; they are taken to be.

        What changed by more than an event and a sixteenth is told at the next look, the rest after
        some of them.

        Parameters
        ----------
        rows : `ROW`, shape (n,); of the first slots, which are in use
        now_ms : wall-clock time
        """
        if 0 <= now_ms - self._told_ms < self._every_ms:
            return np.zeros(0, np.int64)
        self._told_ms = now_ms
        untold = self.untold[: len(rows)]
        everything = not 0 <= now_ms - self._all_told_ms < _ALL_AFTER * self._every_ms
        if everything:
            slots = np.flatnonzero(untold > 0)
        else:
            slots = np.flatnonzero(untold >= 1 + _SHARE * rows["recent"])
        if everything and len(slots) <= _AT_ONCE:
            self._all_told_ms = now_ms
        slots = slots[:_AT_ONCE]
        untold[slots] = 0
        self._outside[slots] = rows["time_ms"][slots] > 0
        return slots
