"""What stands on the topic of lists: a hash of each user's newest record, and when it was sent.

In: slots of users, hashes of what lists show. Out: which records have to be sent. In memory alone:
after a restart or a change of owners every user's next lists are sent. Knows nothing of lists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.core.mixing import GOLDEN, split_mix

_ENTRY = np.dtype([("hash", "<u8"), ("sent_ms", "<i8")])  # hash 0: nothing is known to stand


class Standing:
    """Of one shard's users: 16 bytes each, from the first one on that is asked for."""

    def __init__(self) -> None:
        self._entries = np.zeros(0, _ENTRY)

    @property
    def nbytes(self) -> int:
        """Memory of all entries."""
        return self._entries.nbytes

    def renew(
        self, slots: NDArray[np.int64], hashes: NDArray[np.uint64], now_ms: int, after_ms: float
    ) -> NDArray[np.bool_]:
        """Which records have to be sent; they are taken to stand from now on.

        Parameters
        ----------
        slots : int64, shape (n,), each once
        hashes : uint64, shape (n,); of what the records show
        after_ms : a record that stands for so long is sent again

        Returns
        -------
        bool, shape (n,)
        """
        missing = int(slots.max(initial=-1)) + 1 - len(self._entries)
        if missing > 0:
            grown = max(missing, len(self._entries) // 2)
            self._entries = np.concatenate([self._entries, np.zeros(grown, _ENTRY)])
        entries = self._entries[slots]
        age_ms = now_ms - entries["sent_ms"]
        send = (entries["hash"] != hashes) | (age_ms < 0) | (age_ms >= after_ms)
        due = slots[send]
        self._entries["hash"][due] = hashes[send]
        self._entries["sent_ms"][due] = now_ms
        changed: NDArray[np.bool_] = send
        return changed

    def leave(self, slot: int, last: int) -> None:
        """The user of a slot is gone, and that of the last slot took its place."""
        if slot < len(self._entries):
            self._entries[slot] = self._entries[last] if last < len(self._entries) else 0
        if last < len(self._entries):
            self._entries[last] = 0


def extended(hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hashes of what other hashes stand for and then of some numbers, never 0: uint64, shape (n,).

    The numbers are mixed in one after the other: their order counts.

    Parameters
    ----------
    hashes : uint64, shape (n,)
    numbers : int64, shape (n, m)
    """
    found = hashes
    for at in range(numbers.shape[1]):
        found = split_mix(found + numbers[:, at].astype(np.uint64) + GOLDEN)
    return np.maximum(found, np.uint64(1))
