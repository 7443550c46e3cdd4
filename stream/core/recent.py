"""Users' last interactions, as a score graph takes them. In: rings. Out: item rows and event types.

Must not know: models, placements, Kafka.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.contracts import EventType

_LAST_TYPE = int(max(EventType))


class Recent(NamedTuple):
    """The last R interactions of B users, newest first by arrival.

    Impressions are not among them; dislikes and cancellations are, and `types` tells. Both are 0
    where a user has done less, where the item is unknown, and where a later version of Freshet
    wrote a type that this one does not know.

    Attributes
    ----------
    rows : int64, shape (B, R); item rows
    types : int64, shape (B, R); `EventType`
    """

    rows: NDArray[np.int64]
    types: NDArray[np.int64]

    @classmethod
    def nothing(cls, users: int, size: int) -> Recent:
        """Of users who have done nothing yet."""
        return cls(np.zeros((users, size), np.int64), np.zeros((users, size), np.int64))

    @classmethod
    def of(
        cls,
        rows: NDArray[np.int64],
        types: NDArray[np.uint8],
        newest: NDArray[np.int64],
        size: int,
    ) -> Recent:
        """The last `size` interactions in users' rings.

        Parameters
        ----------
        rows : int64, shape (users, ring); item rows, 0 = no entry or no such item
        types : uint8, shape (users, ring); 0 = no entry
        newest : int64, shape (users, n); positions in the ring, newest first; those beyond `size`
            are not looked at, and a ring shorter than `size` has no more of them than entries
        """
        recent = cls.nothing(len(rows), size)
        _newest_first(rows, types, newest, _LAST_TYPE, *recent)
        return recent


@compiled(
    NOTHING,
    array("i8", 2),
    array("u1", 2),
    array("i8", 2),
    INT,
    array("i8", 2, written=True),
    array("i8", 2, written=True),
)
def _newest_first(
    rows: NDArray[np.int64],
    types: NDArray[np.uint8],
    newest: NDArray[np.int64],
    last_type: int,
    recent_rows: NDArray[np.int64],
    recent_types: NDArray[np.int64],
) -> None:
    """`Recent.of`, into the last two, which hold zeros."""
    for user in range(len(rows)):
        for back in range(min(newest.shape[1], recent_rows.shape[1])):
            at = newest[user, back]
            if rows[user, at] != 0 and types[user, at] <= last_type:
                recent_rows[user, back] = rows[user, at]
                recent_types[user, back] = types[user, at]
