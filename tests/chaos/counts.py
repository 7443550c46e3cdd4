"""Items' counts of a partition, event by event: what the changelog must hold beside the states.

Plain Python: each count is faded to the event's time and the event added. The engine may take its
powers of two from another library, so counts are compared to nine digits, times exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from tests.chaos.decode import COUNTS, COUNTS_ROW, TYPES, Event, item_hash
from tests.chaos.verdict import Verdict

COLUMNS = {
    TYPES["impression"]: 0,
    TYPES["view"]: 1,
    TYPES["click"]: 1,
    TYPES["add_to_cart"]: 2,
    TYPES["purchase"]: 3,
}
LAYOUT = 1
LEAST = 1 / 16  # an item of which less is left may be let go
DIGITS = 1e-9


class Item(NamedTuple):
    """Counts of an item at the time of its newest event.

    Attributes
    ----------
    counts : impressions, clicks and views, carts, purchases
    recent : all of these but impressions, by the shorter half-life
    """

    newest_ms: int
    counts: tuple[float, ...]
    recent: float

    def faded(self, time_ms: int, usual_ms: float, recent_ms: float) -> Item:
        usual, recent = (
            2.0 ** ((self.newest_ms - time_ms) / half) for half in (usual_ms, recent_ms)
        )
        return Item(time_ms, tuple(usual * count for count in self.counts), recent * self.recent)

    def is_in(self, value: bytes) -> bool:
        """Whether this is what a changelog value holds."""
        if len(value) != COUNTS_ROW.size:
            return False
        layout, newest_ms, *counts, recent = COUNTS_ROW.unpack(value)
        pairs = zip((*counts, recent), (*self.counts, self.recent), strict=True)
        alike = all(math.isclose(there, here, rel_tol=DIGITS) for there, here in pairs)
        return bool(layout == LAYOUT and newest_ms == self.newest_ms and alike)


class Counts:
    """The reference of a partition's counts, as its changelog goes on.

    Parameters
    ----------
    half_lives_ms : of all counts, and of the recent ones
    """

    def __init__(self, half_lives_ms: tuple[float, float]) -> None:
        self._half_lives_ms = half_lives_ms
        self._items: dict[bytes, Item] = {}
        self._newest_ms = 0
        self._touched: set[bytes] = set()

    def count(self, event: Event) -> None:
        """An event that was folded."""
        column = COLUMNS.get(event.kind)
        if column is None:
            return
        key = COUNTS + item_hash(event.item_id).to_bytes(8, "little")
        time_ms = min(event.time_ms, event.sent_ms)
        self._touched.add(key)
        self._newest_ms = max(self._newest_ms, time_ms)
        one = Item(time_ms, tuple(float(column == at) for at in range(4)), float(column != 0))
        old = self._items.get(key, Item(time_ms, (0.0,) * 4, 0.0))
        newest_ms = max(old.newest_ms, time_ms)
        old, one = (item.faded(newest_ms, *self._half_lives_ms) for item in (old, one))
        counts = tuple(a + b for a, b in zip(old.counts, one.counts, strict=True))
        self._items[key] = Item(newest_ms, counts, old.recent + one.recent)

    def check(self, there: dict[bytes, bytes | None], where: str, verdict: Verdict) -> None:
        """Judge the rows that came with the events counted since the last call."""
        verdict.counted_items = max(verdict.counted_items, len(self._items))
        for key in self._touched | there.keys():
            value, item = there.get(key), self._items.get(key)
            if key in there and value is None:
                may_go = item is not None and self._next_to_nothing(item)
                verdict.items_let_go += 1
                verdict.count("wrong_counts", where, key in self._touched or not may_go)
                self._items.pop(key, None)
            else:
                right = value is not None and item is not None and item.is_in(value)
                verdict.count("wrong_counts", where, not right or key not in self._touched)
        self._touched.clear()

    def _next_to_nothing(self, item: Item) -> bool:
        left = item.faded(max(self._newest_ms, item.newest_ms), *self._half_lives_ms)
        return sum(left.counts) < LEAST
