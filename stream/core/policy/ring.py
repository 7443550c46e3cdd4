"""What the users of a micro-batch did last, as columns. In: rings of bytes. Out: rows, types, ages.

Knows nothing of placements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import NOTHING, array, compiled
from stream.core.catalogue import Catalogue
from stream.core.model import Model
from stream.core.users import EVERYONE, Users, Who
from stream.core.wire import HEADER, ITEM_BITS, RING_ENTRY

# Interactions looked at for a reason, newest first: older ones rarely weigh enough to be it.
LOOK_BACK = 8
# As in `wire`, and literals: compiled code does not notice a change in another module.
_ITEM_BITS, _TYPE_BITS = np.uint64(60), np.uint64(4)
assert int(_ITEM_BITS) == ITEM_BITS == 64 - int(_TYPE_BITS)


class Ring(NamedTuple):
    """What a few users did last.

    Attributes
    ----------
    rows : int64, shape (users, ring); item rows, `NO_ITEM` where there is no entry or no such item
    types : uint8, shape (users, ring); `EventType`, 0 where there is no entry
    ages_s : float32, shape (users, ring), >= 0; event time, against the user's newest event
    newest : int64, shape (users, n); positions of the newest entries, newest first: `LOOK_BACK` of
        them, more where the model takes more, and never more than the ring has
    """

    rows: NDArray[np.int64]
    types: NDArray[np.uint8]
    ages_s: NDArray[np.float32]
    newest: NDArray[np.int64]

    @classmethod
    def of(cls, model: Model, catalogue: Catalogue, users: Users, who: Who = EVERYONE) -> Ring:
        """The rings of some users, with the items' rows of the item table, for lists of `model`."""
        numbers = users.numbers(who)
        shape = (len(numbers), users.layout.ring)
        hashes, types = np.empty(shape, np.uint64), np.empty(shape, np.uint8)
        ages_s = np.empty(shape, np.float32)
        _read_rings(numbers, users.headers, users.ring, hashes, types, ages_s)
        rows = catalogue.rows_of_hashes(hashes)
        return cls(rows, types, ages_s, users.ring_order(who, max(LOOK_BACK, model.recent)))

    def take(self, who: NDArray[np.int64]) -> Ring:
        """The rings of some of these users."""
        return Ring._make(column[who] for column in self)


@compiled(
    NOTHING,
    array("i8"),
    array(HEADER),
    array(RING_ENTRY, 2),
    array("u8", 2, written=True),
    array("u1", 2, written=True),
    array("f4", 2, written=True),
)
def _read_rings(
    who: NDArray[np.int64],
    headers: np.ndarray,
    rings: np.ndarray,
    hashes: NDArray[np.uint64],
    types: NDArray[np.uint8],
    ages_s: NDArray[np.float32],
) -> None:
    """Rings as columns, into the last three: shape (len(who), ring)."""
    for number in range(len(who)):
        user = who[number]
        newest_s = headers[user]["newest_ms"] // 1000
        for at in range(rings.shape[1]):
            entry = rings[user, at]
            hashes[number, at] = entry["item_and_type"] << _TYPE_BITS >> _TYPE_BITS
            types[number, at] = entry["item_and_type"] >> _ITEM_BITS
            ages_s[number, at] = max(newest_s - np.int64(entry["time_s"]), 0)
