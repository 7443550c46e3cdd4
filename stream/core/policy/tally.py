"""How often items were shown and clicked, by catalogue row: counts in memory that fade.

In: rows, times. Out: counts. Knows nothing of events.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

HALF_LIFE_S: Final = 604_800.0


class ItemCounts(NamedTuple):
    """Faded counts by catalogue row: float32, shape (rows,)."""

    impressions: NDArray[np.float32]
    clicks: NDArray[np.float32]


class CountsItems(Protocol):
    """Whoever keeps counts of items."""

    def counts(self, rows: int, now_ms: int) -> ItemCounts:
        """Of the first `rows` rows, faded to the time."""


class Tally:
    """Counts of one worker, from its start on.

    Parameters
    ----------
    half_life_s : of all counts
    """

    def __init__(self, half_life_s: float = HALF_LIFE_S) -> None:
        self._half_life_ms = 1000 * half_life_s
        self._time_ms = 0
        self._counts = np.zeros((2, 0))

    def add(
        self, shown: NDArray[np.int64], clicked: NDArray[np.int64], rows: int, now_ms: int
    ) -> None:
        """Count items by row, which may come several times; there are `rows` rows."""
        self._fade(rows, now_ms)
        for column, of in enumerate((shown, clicked)):
            np.add.at(self._counts[column], of, 1)

    def counts(self, rows: int, now_ms: int) -> ItemCounts:
        self._fade(rows, now_ms)
        impressions, clicks = self._counts[:, :rows].astype(np.float32)
        return ItemCounts(impressions, clicks)

    def _fade(self, rows: int, now_ms: int) -> None:
        missing = rows - self._counts.shape[1]
        if missing > 0:
            self._counts = np.concatenate([self._counts, np.zeros((2, missing))], axis=1)
        if now_ms > self._time_ms:
            self._counts *= 2.0 ** ((self._time_ms - now_ms) / self._half_life_ms)
            self._time_ms = now_ms
