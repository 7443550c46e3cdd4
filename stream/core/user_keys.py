"""Keys of a shard's users and their slots: a hash table of a few bytes a user.

In: user keys. Out: slots, and back. Knows nothing of states.

A dict and a list of `bytes` take 108 bytes a user beside the key itself; this takes 18 to 28, by
how full the buckets are. Keys stand end to end in an arena; open addressing with linear probing
finds them. A bucket holds 31 bits of the key's hash and the slot, so that a probe that misses
touches nothing else, and growing reads no key. Hashes are Python's, which are salted for each
process: a producer cannot choose ids that collide.

    buckets   int64    hash << 32 | slot + 1; 0: free
    spans     int64    of each slot: where its key begins in the arena << 24 | its length
    arena     uint8    keys in no order, and zeros where one was removed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, overload

import numpy as np

from stream.core import probing
from stream.core.probing import Bytes, Ints
from stream.core.rows import Rows
from stream.errors import StateError

_SPAN_BYTES: Final = 8
_FIRST_BUCKETS: Final = 2048
_MAX_KEY_BYTES: Final = (1 << 24) - 1
# The arena is packed anew once more of it is free than used, and at least so much.
_FREE_AT_LEAST: Final = 1 << 16


class UserKeys(Sequence[bytes]):
    """Keys by slot, and slots by key. Slots are dense: 0 to len(self) - 1."""

    def __init__(self) -> None:
        self._users = 0
        self._buckets = np.zeros(_FIRST_BUCKETS, np.int64)
        self._spans = Rows(_SPAN_BYTES)
        self._arena = Rows(1)
        self._arena_end = 0
        self._arena_free = 0

    def __len__(self) -> int:
        return self._users

    @overload
    def __getitem__(self, slot: int) -> bytes: ...
    @overload
    def __getitem__(self, slot: slice) -> list[bytes]: ...
    def __getitem__(self, slot: int | slice) -> bytes | list[bytes]:
        if isinstance(slot, slice):
            return self.of_slots(np.arange(self._users)[slot])
        return self.of_slots(np.array([range(self._users)[slot]]))[0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and bool(self.find([key])[0] >= 0)

    @property
    def nbytes(self) -> int:
        """Memory in use; what is reserved for users to come was not touched yet."""
        return self._buckets.nbytes + _SPAN_BYTES * self._users + self._arena_end

    def of_slots(self, slots: Ints) -> list[bytes]:
        """Keys of some slots: int64, shape (m,)."""
        arena = self._all_arena().data
        spans = self._all_spans()[slots].tolist()
        return [
            arena[(at := span >> 24) : at + (span & _MAX_KEY_BYTES)].tobytes() for span in spans
        ]

    # -- finding ---------------------------------------------------------------------------

    def find(self, keys: Sequence[bytes]) -> Ints:
        """Slots, -1 for a key that is not there: int64, shape (len(keys),)."""
        slots = np.empty(len(keys), np.int64)
        probing.find(*_hashed(keys), self._buckets, self._all_spans(), self._all_arena(), slots)
        return slots

    def find_or_add(self, keys: Sequence[bytes]) -> Ints:
        """Slots; a key that is not there gets the next one: int64, shape (len(keys),).

        Raises
        ------
        StateError : a key of 16 MiB or more
        """
        hashes, lengths, joined = _hashed(keys)
        if len(joined) > _MAX_KEY_BYTES and lengths.max() > _MAX_KEY_BYTES:
            raise StateError("a user's key has 16 MiB or more")
        slots = np.empty(len(keys), np.int64)
        self._reserve(len(keys), len(joined))
        into = (self._buckets, self._all_spans(), self._all_arena(), slots)
        users = probing.find_or_add(hashes, lengths, joined, *into, self._users, self._arena_end)
        if users > self._users:
            last = int(into[1][users - 1])
            self._users, self._arena_end = users, (last >> 24) + (last & _MAX_KEY_BYTES)
        return slots

    # -- removing --------------------------------------------------------------------------

    def remove(self, keys: Sequence[bytes]) -> Ints:
        """Take keys out, one after the other; the last slot's key moves to the one that gets free.

        Nothing of a removed key is left in memory.

        Returns
        -------
        int64, shape (len(keys),); the slot that each had, -1 for a key that is not there
        """
        slots = np.empty(len(keys), np.int64)
        end = np.arange(max(self._users - len(keys), 0), self._users)
        last = _hashed(self.of_slots(end))[0]
        spans, arena = self._all_spans(), self._all_arena()
        self._arena_free += probing.remove(
            *_hashed(keys), self._buckets, spans, arena, slots, self._users, last
        )
        self._users -= int(np.count_nonzero(slots >= 0))
        if self._arena_free > max(self._arena_end - self._arena_free, _FREE_AT_LEAST):
            self._pack()
        return slots

    # -- memory ----------------------------------------------------------------------------

    # Views are made for one call each: `Rows` moves its memory where there are none.

    def _all_spans(self) -> Ints:
        return self._spans.bytes.reshape(-1).view(np.int64)

    def _all_arena(self) -> Bytes:
        return self._arena.bytes.reshape(-1)

    def _reserve(self, users: int, key_bytes: int) -> None:
        self._spans.reserve(self._users + users)
        self._arena.reserve(self._arena_end + key_bytes)
        size = len(self._buckets)
        while 5 * (self._users + users) > 4 * size:
            size *= 2
        if size != len(self._buckets):
            grown = np.zeros(size, np.int64)
            probing.move(self._buckets, grown)
            self._buckets = grown

    def _pack(self) -> None:
        packed = Rows(1)
        packed.reserve(self._arena_end - self._arena_free)
        into = packed.bytes.reshape(-1)
        self._arena_end = probing.pack(self._all_spans(), self._all_arena(), self._users, into)
        self._arena, self._arena_free = packed, 0


def _hashed(keys: Sequence[bytes]) -> tuple[Ints, Ints, Bytes]:
    """Hashes of the keys, their lengths, and the keys joined."""
    hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    return hashes, lengths, np.frombuffer(b"".join(keys), np.uint8)
