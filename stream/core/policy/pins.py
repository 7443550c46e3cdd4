"""Items that stand at a place of every list, from one moment to another.

In: settings, a time. Out: item rows by place. Knows nothing of users.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from stream.core.catalogue import NO_ITEM, Catalogue
from stream.placements import Pin


def is_on(start: datetime | None, end: datetime | None, now_ms: int) -> bool:
    """Whether a time is in a window; the end is not."""
    since = start is None or start.timestamp() * 1000 <= now_ms
    return since and (end is None or now_ms < end.timestamp() * 1000)


class PinBoard:
    """The pins of one placement.

    Parameters
    ----------
    k : length of the lists; a shorter one than the placement's has fewer places for pins
    """

    def __init__(self, pins: Sequence[Pin], k: int, catalogue: Catalogue) -> None:
        self._pins = pins
        self._k = k
        self._catalogue = catalogue

    def rows(self, now_ms: int) -> NDArray[np.int64]:
        """Rows of what is pinned to each place now, `NO_ITEM` where nothing is: int64, shape (k,).

        An item that two pins name is at the first of their places.
        """
        rows = np.full(self._k, NO_ITEM, np.int64)
        there = [pin for pin in self._pins if pin.place <= self._k]
        on = [pin for pin in there if is_on(pin.start, pin.end, now_ms)]
        known = self._catalogue.rows([pin.item for pin in on]).tolist()
        for pin, row in sorted(zip(on, known, strict=True), key=lambda found: found[0].place):
            if row not in rows:
                rows[pin.place - 1] = row
        return rows
