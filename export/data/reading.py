"""Lines to columns. In: events as logs hold them. Out: what a `Log` is made of, in time order.

Must not know: files, models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.data.columns import BLOCK, AnyColumn, Column, take
from export.data.visits import number_sessions
from stream.contracts import EVENT_TYPES, event_hash, item_hash
from stream.logs import LoggedEvent

COLUMNS: Final[dict[str, type[np.generic]]] = {
    "user": np.int32,
    "item": np.int32,
    "event_type": np.uint8,
    "time_ms": np.int64,
    "session": np.int32,
    "quantity": np.float32,
    "price": np.float32,
    "rating": np.float32,
    "event_hash": np.uint32,
}


class LogColumns:
    """Collects lines in file order. Ids are numbered by their first appearance.

    Attributes
    ----------
    users, items : id -> code
    """

    def __init__(self, scratch: Path | None) -> None:
        self.users: dict[str, int] = {}
        self.items: dict[str, int] = {}
        self._scratch = scratch
        kinds = {**COLUMNS, "session": np.uint64}
        self._columns = {name: Column(dtype, scratch) for name, dtype in kinds.items()}
        self._append: dict[str, Callable[[Any], None]] = {
            name: column.append for name, column in self._columns.items()
        }
        self._rows = 0

    def add(self, line: LoggedEvent) -> None:
        """One more event."""
        event, append = line.event, self._append
        session, rating, event_id = event.session_id, event.rating, event.event_id
        append["user"](self.users.setdefault(line.key.decode(), len(self.users)))
        append["item"](self.items.setdefault(str(event.item_id), len(self.items)))
        append["event_type"](EVENT_TYPES[event.type])
        append["time_ms"](event.event_time_ms)
        append["session"](0 if session is None else item_hash(str(session)))
        append["quantity"](1.0 if event.quantity is None else event.quantity)
        append["price"](event.unit_price or 0.0)
        append["rating"](math.nan if rating is None else rating)
        append["event_hash"](0 if event_id is None else event_hash(str(event_id)))
        self._rows += 1
        if self._rows % BLOCK == 0:
            for column in self._columns.values():
                column.flush()

    def in_time_order(self) -> dict[str, AnyColumn]:
        """The columns of `Log`, sorted; nothing may be added after that."""
        self._append.clear()  # it keeps the columns alive
        found: dict[str, AnyColumn] = {}
        time_ms = self._columns.pop("time_ms").array()
        order = None
        if (time_ms[1:] < time_ms[:-1]).any():
            order = np.argsort(time_ms, kind="stable")  # file order within a moment

        def sorted_(column: AnyColumn) -> AnyColumn:
            return column if order is None else take(column, order, self._scratch)

        found["time_ms"] = sorted_(time_ms)
        for name in list(self._columns):
            found[name] = sorted_(self._columns.pop(name).array())
        found["session"] = number_sessions(found["user"], found["time_ms"], found["session"])
        return found
