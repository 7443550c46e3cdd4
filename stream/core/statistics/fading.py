"""How counts fade, and what one row of them is on the wire. In: nothing. Out: types and times.

A count of half-life h weighs an event of age a as 2 ** (-a / h) (exponential decay; Cormode et al.,
"Forward Decay", ICDE 2009, for what is and is not kept exactly by it).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.contracts import EventType
from stream.core.keys import ITEM_PREFIX
from stream.errors import StateError

LAYOUT: Final = 1
HASH_BYTES: Final = 8
LEAST: Final = 1 / 16  # less than that of an event is left of all counts: the row is let go

MOST: Final = 2.0**53  # to more than these an event adds nothing
LATEST_MS: Final = 4_102_444_800_000  # the year 2100: no event that was counted is as late

KeyedRows = tuple[list[bytes], list[bytes | None]]  # changelog keys, rows; None: it goes

# Of one item in one partition: as on the wire, so in memory. `time_ms` is the newest event's time,
# to which all counts are faded; 0 in a row that is not in use. `recent` fades by the short
# half-life and has no impressions, the others by the long one.
ROW: Final = np.dtype(
    [
        ("layout", "u1"),
        ("time_ms", "<i8"),
        ("impressions", "<f8"),
        ("clicks", "<f8"),
        ("carts", "<f8"),
        ("purchases", "<f8"),
        ("recent", "<f8"),
    ]
)
COUNTED: Final = ("impressions", "clicks", "carts", "purchases")
NOT_COUNTED: Final = 255
COLUMN_OF_TYPE: Final = np.full(256, NOT_COUNTED, np.uint8)  # by `EventType`: place in COUNTED
COLUMN_OF_TYPE[EventType.IMPRESSION] = 0
COLUMN_OF_TYPE[[EventType.VIEW, EventType.CLICK]] = 1
COLUMN_OF_TYPE[EventType.ADD_TO_CART] = 2
COLUMN_OF_TYPE[EventType.PURCHASE] = 3

_KEY: Final = np.dtype([("prefix", "V2"), ("item", "<u8")])


class Fading(NamedTuple):
    """Half-lives of the counts, milliseconds; `recent_ms` is the shorter one."""

    usual_ms: float = 604_800_000.0
    recent_ms: float = 3_600_000.0


def keys_of(hashes: NDArray[np.uint64]) -> list[bytes]:
    """Changelog keys of items by their hashes: uint64, shape (n,)."""
    keys = np.empty(len(hashes), _KEY)
    keys["prefix"] = np.void(ITEM_PREFIX)
    keys["item"] = hashes
    return cut(keys)


def cut(rows: np.ndarray) -> list[bytes]:
    """Structured rows as bytes, one by one."""
    whole, width = rows.tobytes(), rows.dtype.itemsize
    return [whole[at : at + width] for at in range(0, len(whole), width)]


def hashes_in(keys: list[bytes]) -> NDArray[np.uint64]:
    """Hashes that keys hold, with the prefix or without: uint64, shape (n,).

    Raises
    ------
    StateError : a key is of another length
    """
    ends = [key[-HASH_BYTES:] for key in keys]
    if any(len(key) not in (HASH_BYTES, _KEY.itemsize) for key in keys):
        raise StateError("an item's counts stand under a key that no version writes")
    return np.frombuffer(b"".join(ends), "<u8").astype(np.uint64)


def rows_in(values: list[bytes | None]) -> np.ndarray:
    """`ROW`, shape (n,), of values; a row that is not in use for None.

    Raises
    ------
    StateError : a layout that this version cannot read, or counts or a time that cannot be
    """
    for value in values:
        if value is not None and (len(value) != ROW.itemsize or value[0] != LAYOUT):
            raise foreign("an item", value, LAYOUT)
    unused = bytes([LAYOUT]) + bytes(ROW.itemsize - 1)
    rows = np.frombuffer(b"".join(value or unused for value in values), ROW)
    for name in (*COUNTED, "recent"):
        if not can_be(rows["time_ms"], rows[name]):
            raise impossible("an item", LAYOUT)
    return rows


def can_be(times_ms: NDArray[np.int64], counts: NDArray[np.float64]) -> bool:
    """Whether these may have been counted: a time, and a number of events that is one."""
    in_time = (times_ms >= 0) & (times_ms < LATEST_MS)
    return bool(in_time.all() and ((counts >= 0) & (counts <= MOST)).all())


def foreign(whose: str, value: bytes, layout: int) -> StateError:
    """The error for counts of another layout than this version's."""
    found = value[0] if value else "none"
    return _unread(f"counts of {whose} have layout {found} and {len(value)} bytes", layout)


def impossible(whose: str, layout: int) -> StateError:
    """The error for counts that nothing can have added up to."""
    return _unread(f"counts of {whose} hold a number or a time that cannot be", layout)


def _unread(found: str, layout: int) -> StateError:
    return StateError(
        f"{found}; this version reads layout {layout}. Run the version that wrote them, or start a "
        f"new group to fold the events again."
    )
