"""Lists of a partition's users, as many as there is room for: each user's newest ones, and those
that an event named last.

In: user keys, lists as columns. Out: where a user's lists stand. Knows nothing of events, models or
Kafka; holds no user key, only 64 bits that this process alone can make of one.

A table of sets of eight entries. A user's key says which set; a new user takes the place of the one
in it whose lists are the oldest. So memory is fixed, and some users are lost sooner than they would
be if all of it were one queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled
from stream.core.quality.shown import Shown

WAYS: Final = 8  # entries of a set


class Memory:
    """Lists of users; nothing of it outlives the process.

    Parameters
    ----------
    users : whose lists there is room for, rounded up to whole sets; 0: nothing is remembered
    placements : lists of a user
    width : places of all lists of a user
    shape : which lists those are: the names of their arms, and the places of each placement

    Attributes
    ----------
    shown : the newest lists, an entry each; behind these, in the same order, the older ones: those
        that an event named while they were the newest
    newest_ms : int64, shape (entries,); newest event time of the user when the lists were made
    named : bool, shape (entries,); an event named one of the newest
    """

    def __init__(
        self,
        users: int = 0,
        placements: int = 0,
        width: int = 0,
        shape: tuple[str, ...] = (),
    ) -> None:
        self.shape = shape
        self._sets = -(-users // WAYS)
        entries = self._sets * WAYS
        self._hashes = np.zeros(entries, np.uint64)
        self._stamps = np.zeros(entries, np.int64)
        self._stamp = 0
        self.shown = Shown.empty(2 * entries, placements, width)
        self.newest_ms = np.zeros(entries, np.int64)
        self.named = np.zeros(entries, np.bool_)

    def __len__(self) -> int:
        """Entries, used or not."""
        return len(self._hashes)

    @property
    def nbytes(self) -> int:
        """Memory of all entries; the system gives it as they are first used."""
        return sum(column.nbytes for column in self._columns)

    @property
    def _columns(self) -> list[NDArray[Any]]:
        return [self._hashes, self._stamps, self.newest_ms, self.named, *self.shown]

    def find(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Entries of the users, -1 of those not remembered: int64, shape (len(keys),)."""
        entries = np.full(len(keys), -1, np.int64)
        if self._stamp:
            hashes, first = self._places(keys)
            _find(hashes, first, self._hashes, self._stamps, entries)
        return entries

    def put(self, keys: Sequence[bytes], shown: Shown, newest_ms: NDArray[np.int64]) -> None:
        """Remember the lists of n distinct users as their newest ones.

        Those before them take the place of the older ones where an event has named them.

        Parameters
        ----------
        shown, newest_ms : as the attributes, n of each
        """
        if not len(self):
            return
        self._stamp += 1
        entries, own = np.empty(len(keys), np.int64), np.empty(len(keys), np.bool_)
        hashes, first = self._places(keys)
        _claim(hashes, first, self._stamp, self._hashes, self._stamps, entries, own)
        named = self.named[entries]
        if named.any() or not own.all():
            self._keep(entries[own & named], entries[~own])
        columns: list[NDArray[Any]] = [*self.shown]
        for kept, column in zip(columns, shown, strict=True):
            kept[entries] = column  # of two users who claimed the same entry, the later one has it
        self.newest_ms[entries] = newest_ms
        self.named[entries] = False

    def _keep(self, named: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        """Have newest lists that were named as the older ones, and none of a user before this one.

        Parameters
        ----------
        named, others : entries of users whose newest list was named; of users who are new there
        """
        columns: list[NDArray[Any]] = [*self.shown]
        for kept in columns if len(named) else ():
            kept[named + len(self)] = kept[named]
        # What was never written takes no memory, and shall not: zeros are not written over zeros.
        left = others[self.shown.shows[others + len(self)].any(axis=1)]
        for kept in columns if len(left) else ():
            kept[left + len(self)] = 0

    def forget(self, key: bytes) -> None:
        """Overwrite what is known of a user."""
        (entry,) = self.find([key]).tolist()
        if entry >= 0:
            for column in self._columns:
                column[entry :: len(self)] = 0

    def _places(self, keys: Sequence[bytes]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Hashes of keys, by a secret of the process, and the first entry of each one's set."""
        hashes = np.fromiter(map(hash, keys), np.int64, len(keys)).view(np.uint64)
        return hashes, (hashes % np.uint64(self._sets)).astype(np.int64) * WAYS


@compiled(NOTHING, array("u8"), array("i8"), array("u8"), array("i8"), array("i8", written=True))
def _find(
    hashes: NDArray[np.uint64],
    first: NDArray[np.int64],
    kept: NDArray[np.uint64],
    stamps: NDArray[np.int64],
    entries: NDArray[np.int64],
) -> None:
    """`Memory.find`, into `entries`; a stamp of 0 is that of a free entry."""
    for user in range(len(hashes)):
        for entry in range(first[user], first[user] + WAYS):
            if kept[entry] == hashes[user] and stamps[entry] > 0:
                entries[user] = entry
                break


@compiled(
    NOTHING,
    array("u8"),
    array("i8"),
    INT,
    array("u8", written=True),
    array("i8", written=True),
    array("i8", written=True),
    array("?", written=True),
)
def _claim(
    hashes: NDArray[np.uint64],
    first: NDArray[np.int64],
    stamp: int,
    kept: NDArray[np.uint64],
    stamps: NDArray[np.int64],
    entries: NDArray[np.int64],
    own: NDArray[np.bool_],
) -> None:
    """The user's own entry, or else the oldest of the set, into `entries`; which, into `own`."""
    for user in range(len(hashes)):
        claimed = first[user]
        own[user] = False
        for entry in range(first[user], first[user] + WAYS):
            if kept[entry] == hashes[user] and stamps[entry] > 0:
                claimed = entry
                own[user] = True
                break
            if stamps[entry] < stamps[claimed]:
                claimed = entry
        kept[claimed] = hashes[user]
        stamps[claimed] = stamp
        entries[user] = claimed
