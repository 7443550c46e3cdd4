"""The bookkeeping of events in users' headers and rings, event by event.

In: events as columns, headers, rings. Out: the same, changed in place. Knows nothing of models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, array, compiled, many, part_of_compiled
from stream.contracts import EventType
from stream.core.wire import HEADER, ITEM_BITS, RING_ENTRY, SHOWN_ENTRY

# Literals: compiled code does not notice a change in another module.
_PURCHASE, _CANCEL = 8, 9
assert (_PURCHASE, _CANCEL) == (EventType.PURCHASE, EventType.CANCEL)
_MOST_PURCHASES = 65_535  # what a header holds
_ITEM_BITS, _TYPE_BITS = np.uint64(60), np.uint64(4)  # of a ring entry's `item_and_type`
assert int(_ITEM_BITS) == ITEM_BITS == 64 - int(_TYPE_BITS)


@part_of_compiled
def _note_bought(
    headers: np.ndarray, user: np.int64, bought: bool, time_s: np.int64, amount: float
) -> None:
    """Count a purchase, or take one back that was cancelled; neither goes below 0."""
    purchases, spent = np.int64(headers[user]["purchases"]), np.float64(headers[user]["spent"])
    if bought:
        headers[user]["purchases"] = min(purchases + 1, _MOST_PURCHASES)
        headers[user]["spent"] = spent + amount
        headers[user]["bought_s"] = max(np.int64(headers[user]["bought_s"]), time_s)
    else:
        headers[user]["purchases"] = max(purchases - 1, 0)
        headers[user]["spent"] = max(spent - amount, 0.0)


@part_of_compiled
def _note_shown(
    shown: np.ndarray, user: np.int64, item: np.uint64, time_s: np.int64, event_hash: np.uint32
) -> None:
    """Remember an impression in the place of the oldest one, if that is older."""
    if shown.shape[1] == 0:
        return
    oldest = 0
    for at in range(1, shown.shape[1]):
        if shown[user, at]["time_s"] < shown[user, oldest]["time_s"]:
            oldest = at
    if np.int64(shown[user, oldest]["time_s"]) <= time_s:
        shown[user, oldest]["item"] = item
        shown[user, oldest]["time_s"] = time_s
        shown[user, oldest]["event"] = event_hash


@compiled(
    many(INT, 2),
    array("i8"),
    array("u8"),
    array("i8"),
    array("u4"),
    array("u1"),
    array("?"),
    array("f8"),
    array("?"),
    array(HEADER, written=True),
    array(RING_ENTRY, 2, written=True),
    array(SHOWN_ENTRY, 2, written=True),
    array("i8", written=True),
    array("f4", written=True),
)
def note_events(
    who: NDArray[np.int64],
    items: NDArray[np.uint64],
    times_ms: NDArray[np.int64],
    event_hashes: NDArray[np.uint32],
    types: NDArray[np.uint8],
    remembered: NDArray[np.bool_],
    amounts: NDArray[np.float64],
    ads: NDArray[np.bool_],
    headers: np.ndarray,
    rings: np.ndarray,
    shown: np.ndarray,
    rank: NDArray[np.int64],
    gaps_s: NDArray[np.float32],
) -> tuple[int, int]:
    """`Users.note`, into `rank` and `gaps_s`; answers the dropped and the deepest rank."""
    dropped = 0
    deepest = 0
    size = rings.shape[1]
    events_of = np.zeros(len(headers), np.int64)
    for event in range(len(who)):
        user = who[event]
        event_hash = event_hashes[event]
        repeated = False
        if event_hash != 0:
            # 32 bits of an event_id may collide; with the item's 60 beside it they do not. What
            # lies behind the used part of a ring is zeros, which no event_id is.
            for at in range(size):
                if rings[user, at]["event"] == event_hash:
                    other = rings[user, at]["item_and_type"] ^ items[event]
                    repeated = repeated or other << _TYPE_BITS == 0
            if ads[event]:
                for at in range(shown.shape[1]):
                    if shown[user, at]["event"] == event_hash:
                        repeated = repeated or shown[user, at]["item"] == items[event]
        forgotten = times_ms[event] <= headers[user]["erased_ms"]
        if repeated or forgotten:
            rank[event] = -2 if forgotten else -1  # FORGOTTEN, REPEATED
            gaps_s[event] = 0
            dropped += 1
            continue
        rank[event] = events_of[user]
        deepest = max(deepest, events_of[user])
        events_of[user] += 1
        time_ms = times_ms[event]
        newest_ms = headers[user]["newest_ms"]
        gaps_s[event] = 0 if newest_ms == 0 else (time_ms - newest_ms) / 1000.0
        headers[user]["newest_ms"] = max(newest_ms, time_ms)
        headers[user]["events"] += np.uint32(1)
        if types[event] == _PURCHASE or types[event] == _CANCEL:
            _note_bought(headers, user, types[event] == _PURCHASE, time_ms // 1000, amounts[event])
        if ads[event]:
            _note_shown(shown, user, items[event], time_ms // 1000, event_hash)
        if remembered[event] and size > 0:
            head = headers[user]["ring_head"] % size
            typed = np.uint64(types[event]) << _ITEM_BITS
            rings[user, head]["item_and_type"] = items[event] << _TYPE_BITS >> _TYPE_BITS | typed
            rings[user, head]["time_s"] = time_ms // 1000
            rings[user, head]["event"] = event_hash
            headers[user]["ring_head"] = (head + 1) % size
            headers[user]["ring_used"] = min(headers[user]["ring_used"] + 1, size)
    return dropped, deepest
