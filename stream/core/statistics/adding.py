"""Events added to rows of counts, one by one. In: their columns. Out: rows changed in place."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import BOOLEAN, FLOAT64, INT, array, compiled, many, part_of_compiled
from stream.core.statistics.fading import ROW


class Columns(NamedTuple):
    """Events to be counted, n of them, in order.

    Attributes
    ----------
    items : `item_hash` of each
    types : `EventType`; those that are not counted may be among them
    times_ms : when each counts: no later than it was sent
    dropped : not to be counted
    unknown : a stranger (`room.py`): the item stands neither in the catalogue nor in the model, or
        it is one in a context
    """

    items: NDArray[np.uint64]
    types: NDArray[np.uint8]
    times_ms: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    unknown: NDArray[np.bool_]

    def some(self, first: int, stop: int) -> Columns:
        """Some of the events."""
        columns: list[Any] = [column[first:stop] for column in self]
        return Columns(*columns)


@part_of_compiled
def _weights(
    rows: np.ndarray, slot: int, time_ms: int, usual_ms: float, recent_ms: float
) -> tuple[float, float]:
    """What an event adds to a row, which is faded to its time first if that is newer."""
    before_ms = rows[slot]["time_ms"]
    if before_ms == 0:
        rows[slot]["time_ms"] = time_ms
    elif time_ms > before_ms:
        faded = np.exp2((before_ms - time_ms) / usual_ms)
        rows[slot]["impressions"] *= faded
        rows[slot]["clicks"] *= faded
        rows[slot]["carts"] *= faded
        rows[slot]["purchases"] *= faded
        rows[slot]["recent"] *= np.exp2((before_ms - time_ms) / recent_ms)
        rows[slot]["time_ms"] = time_ms
    else:
        late_ms = time_ms - before_ms
        return np.exp2(late_ms / usual_ms), np.exp2(late_ms / recent_ms)
    return 1.0, 1.0


@compiled(
    many(INT, 3),
    array("i8"),
    array("u1"),
    array("i8"),
    array("?"),
    BOOLEAN,
    array(ROW, written=True),
    array("f4", written=True),
    array("?", written=True),
    array("u1"),
    FLOAT64,
    FLOAT64,
    array("i8", written=True),
)
def add(
    slots: NDArray[np.int64],
    types: NDArray[np.uint8],
    times_ms: NDArray[np.int64],
    dropped: NDArray[np.bool_],
    again: bool,
    rows: np.ndarray,
    untold: NDArray[np.float32],
    marked: NDArray[np.bool_],
    column_of_type: NDArray[np.uint8],
    usual_ms: float,
    recent_ms: float,
    changed: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Count events one by one.

    Parameters
    ----------
    slots : row of each event's item, 0 where it has none
    types, times_ms, dropped : as in `Columns`
    again : leave out what has no slot; else nothing is counted when the row of an event that counts
        is not in use, which is that of slot 0 as well
    rows, untold, marked : of all items; changed
    column_of_type : `COLUMN_OF_TYPE`
    usual_ms, recent_ms : half-lives
    changed : as long as `slots`; rows that changed go here, each once

    Returns
    -------
    how many rows changed (-1: an event that counts has no row), how many of these were not in use,
    the newest time
    """
    for event in range(0 if again else len(slots)):
        here = rows[slots[event]]["time_ms"] != 0
        if not here and not dropped[event] and column_of_type[types[event]] != 255:
            return -1, 0, 0
    found = 0
    new = 0
    newest_ms = 0
    for event in range(len(slots)):
        slot = slots[event]
        column = column_of_type[types[event]]
        if slot == 0 or dropped[event] or column == 255:  # NOT_COUNTED
            continue
        time_ms = times_ms[event]
        newest_ms = max(newest_ms, time_ms)
        new += rows[slot]["time_ms"] == 0
        weight, recent_weight = _weights(rows, slot, time_ms, usual_ms, recent_ms)
        if column == 0:
            rows[slot]["impressions"] += weight
        elif column == 1:
            rows[slot]["clicks"] += weight
        elif column == 2:
            rows[slot]["carts"] += weight
        else:
            rows[slot]["purchases"] += weight
        if column != 0:
            rows[slot]["recent"] += recent_weight
        untold[slot] += np.float32(1)
        if not marked[slot]:
            marked[slot] = True
            changed[found] = slot
            found += 1
    return found, new, newest_ms
