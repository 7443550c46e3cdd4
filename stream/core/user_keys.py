"""Keys of a shard's users and their slots: a hash table of a few bytes a user.

In: user keys. Out: slots, and back. Knows nothing of states.

A dict and a list of `bytes` take 108 bytes a user beside the key itself; this takes 25. Keys
stand end to end in an arena; open addressing with linear probing finds them. A bucket holds 31 bits
of the key's hash and the slot, so that a probe that misses touches nothing else, and growing reads
no key. Hashes are Python's, which are salted for each process: a producer cannot choose ids that
collide.

    buckets   int64    hash << 32 | slot + 1; 0: free
    entries   `ENTRY`  of each slot: the hash; where its key begins in the arena << 24 | its length
    arena     uint8    keys in no order, and zeros where one was removed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, overload

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled, part_of_compiled
from stream.core.rows import Rows
from stream.errors import StateError

ENTRY: Final = np.dtype([("span", "<i8"), ("hash", "<i4")])
_FIRST_BUCKETS: Final = 2048
_MAX_KEY_BYTES: Final = (1 << 24) - 1
# The arena is packed anew once more of it is free than used, and at least so much.
_FREE_AT_LEAST: Final = 1 << 16

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Entries = NDArray[np.void]


class UserKeys(Sequence[bytes]):
    """Keys by slot, and slots by key. Slots are dense: 0 to len(self) - 1."""

    def __init__(self) -> None:
        self._users = 0
        self._buckets = np.zeros(_FIRST_BUCKETS, np.int64)
        self._entries = Rows(ENTRY.itemsize)
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
        slots = range(self._users)[slot]
        return self._key(slots) if isinstance(slots, int) else [self._key(one) for one in slots]

    def __eq__(self, other: object) -> bool:
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def nbytes(self) -> int:
        """Memory in use; what is reserved for users to come was not touched yet."""
        return self._buckets.nbytes + ENTRY.itemsize * self._users + self._arena_end

    # -- finding ---------------------------------------------------------------------------

    def find(self, keys: Sequence[bytes]) -> Ints:
        """Slots, -1 for a key that is not there: int64, shape (len(keys),)."""
        slots = np.empty(len(keys), np.int64)
        _find(*_told(keys), self._buckets, self._all_entries(), self._all_arena(), slots)
        return slots

    def find_or_add(self, keys: Sequence[bytes]) -> Ints:
        """Slots; a key that is not there gets the next one: int64, shape (len(keys),).

        Raises
        ------
        StateError : a key of 16 MiB or more
        """
        hashes, lengths, joined = _told(keys)
        if len(joined) > _MAX_KEY_BYTES and lengths.max() > _MAX_KEY_BYTES:
            raise StateError("the changelog holds a user's key of 16 MiB or more")
        slots = np.empty(len(keys), np.int64)
        self._reserve(len(keys), len(joined))
        into = (self._buckets, self._all_entries(), self._all_arena(), slots)
        users = _find_or_add(hashes, lengths, joined, *into, self._users, self._arena_end)
        if users > self._users:
            last = int(into[1]["span"][users - 1])
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
        entries, arena = self._all_entries(), self._all_arena()
        self._arena_free += _remove(*_told(keys), self._buckets, entries, arena, slots, self._users)
        self._users -= int(np.count_nonzero(slots >= 0))
        if self._arena_free > max(self._arena_end - self._arena_free, _FREE_AT_LEAST):
            self._pack()
        return slots

    # -- memory ----------------------------------------------------------------------------

    # Views are made for one call each: `Rows` moves its memory where there are none.

    def _all_entries(self) -> Entries:
        return self._entries.bytes.reshape(-1).view(ENTRY)

    def _all_arena(self) -> Bytes:
        return self._arena.bytes.reshape(-1)

    def _key(self, slot: int) -> bytes:
        span = int(self._all_entries()["span"][slot])
        start = span >> 24
        return self._all_arena()[start : start + (span & _MAX_KEY_BYTES)].tobytes()

    def _reserve(self, users: int, key_bytes: int) -> None:
        self._entries.reserve(self._users + users)
        self._arena.reserve(self._arena_end + key_bytes)
        size = len(self._buckets)
        while 5 * (self._users + users) > 4 * size:
            size *= 2
        if size != len(self._buckets):
            grown = np.zeros(size, np.int64)
            _move(self._buckets, grown)
            self._buckets = grown

    def _pack(self) -> None:
        packed = Rows(1)
        packed.reserve(self._arena_end - self._arena_free)
        into = packed.bytes.reshape(-1)
        self._arena_end = _pack(self._all_entries(), self._all_arena(), self._users, into)
        self._arena, self._arena_free = packed, 0


def _told(keys: Sequence[bytes]) -> tuple[Ints, Ints, Bytes]:
    """Hashes of the keys, their lengths, and the keys joined."""
    hashes = np.fromiter(map(hash, keys), np.int64, len(keys))
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    return hashes, lengths, np.frombuffer(b"".join(keys), np.uint8)


# -- loops ---------------------------------------------------------------------------------

_INTS = array("i8", contiguous=True)
_INTS_OUT = array("i8", written=True, contiguous=True)
_ENTRIES_OUT = array(ENTRY, written=True, contiguous=True)
_BYTES = array("u1", contiguous=True)
_BYTES_OUT = array("u1", written=True, contiguous=True)


@part_of_compiled
def _upper(hashed: int) -> int:
    """31 bits of a hash, in a bucket's upper half."""
    return (hashed & 0x7FFF_FFFF) << 32


@part_of_compiled
def _bucket_of(upper: int, key: Bytes, buckets: Ints, entries: Entries, arena: Bytes) -> int:
    """The bucket of a key, or the free one where it would be."""
    mask = len(buckets) - 1
    at = (upper >> 32) & mask
    while buckets[at] != 0:
        if (buckets[at] ^ upper) >> 32 == 0:
            span = entries[(buckets[at] & 0xFFFF_FFFF) - 1]["span"]
            there = span >> 24
            same = span & 0xFF_FFFF == len(key)
            number = 0
            while same and number < len(key):
                same = key[number] == arena[there + number]
                number += 1
            if same:
                break
        at = (at + 1) & mask
    return at


@compiled(NOTHING, _INTS, _INTS, _BYTES, _INTS_OUT, _ENTRIES_OUT, _BYTES_OUT, _INTS_OUT)
def _find(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    entries: Entries,
    arena: Bytes,
    slots: Ints,
) -> None:
    """`UserKeys.find`, into `slots`."""
    start = 0
    for number in range(len(hashes)):
        key = joined[start : start + lengths[number]]
        start += lengths[number]
        at = _bucket_of(_upper(hashes[number]), key, buckets, entries, arena)
        slots[number] = (buckets[at] & 0xFFFF_FFFF) - 1


@compiled(INT, _INTS, _INTS, _BYTES, _INTS_OUT, _ENTRIES_OUT, _BYTES_OUT, _INTS_OUT, INT, INT)
def _find_or_add(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    entries: Entries,
    arena: Bytes,
    slots: Ints,
    users: int,
    arena_end: int,
) -> int:
    """`UserKeys.find_or_add`, into `slots`, with room enough; answers how many users there are."""
    start = 0
    for number in range(len(hashes)):
        key = joined[start : start + lengths[number]]
        start += lengths[number]
        upper = _upper(hashes[number])
        at = _bucket_of(upper, key, buckets, entries, arena)
        if buckets[at] == 0:
            buckets[at] = upper | (users + 1)
            entries[users]["span"] = arena_end << 24 | len(key)
            entries[users]["hash"] = upper >> 32
            arena[arena_end : arena_end + len(key)] = key
            arena_end += len(key)
            users += 1
        slots[number] = (buckets[at] & 0xFFFF_FFFF) - 1
    return users


@part_of_compiled
def _bucket_with(upper: int, slot: int, buckets: Ints) -> int:
    """The bucket of a slot that is taken."""
    mask = len(buckets) - 1
    at = (upper >> 32) & mask
    while buckets[at] != upper | (slot + 1):
        at = (at + 1) & mask
    return at


@part_of_compiled
def _close(gap: int, buckets: Ints) -> None:
    """Free a bucket: whoever stands behind it, and not before its own place, moves up."""
    mask = len(buckets) - 1
    at = (gap + 1) & mask
    while buckets[at] != 0:
        home = (buckets[at] >> 32) & mask
        if (at - home) & mask >= (at - gap) & mask:
            buckets[gap] = buckets[at]
            gap = at
        at = (at + 1) & mask
    buckets[gap] = 0


@compiled(INT, _INTS, _INTS, _BYTES, _INTS_OUT, _ENTRIES_OUT, _BYTES_OUT, _INTS_OUT, INT)
def _remove(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    entries: Entries,
    arena: Bytes,
    slots: Ints,
    users: int,
) -> int:
    """`UserKeys.remove`, into `slots`; answers how many bytes of the arena became free."""
    start, freed = 0, 0
    for number in range(len(hashes)):
        key = joined[start : start + lengths[number]]
        start += lengths[number]
        at = _bucket_of(_upper(hashes[number]), key, buckets, entries, arena)
        slot = (buckets[at] & 0xFFFF_FFFF) - 1
        slots[number] = slot
        if slot >= 0:
            there = entries[slot]["span"] >> 24
            arena[there : there + len(key)] = 0
            freed += len(key)
            _close(at, buckets)
            users -= 1
            if slot < users:
                upper = _upper(entries[users]["hash"])
                buckets[_bucket_with(upper, users, buckets)] = upper | (slot + 1)
                entries[slot]["span"] = entries[users]["span"]
                entries[slot]["hash"] = entries[users]["hash"]
    return freed


@compiled(NOTHING, _INTS, _INTS_OUT)
def _move(buckets: Ints, grown: Ints) -> None:
    """Put everything into other buckets, all free, of another number."""
    mask = len(grown) - 1
    for number in range(len(buckets)):
        if buckets[number] != 0:
            at = (buckets[number] >> 32) & mask
            while grown[at] != 0:
                at = (at + 1) & mask
            grown[at] = buckets[number]


@compiled(INT, _ENTRIES_OUT, _BYTES_OUT, INT, _BYTES_OUT)
def _pack(entries: Entries, arena: Bytes, users: int, packed: Bytes) -> int:
    """Put all keys end to end into another arena; answers where the last one ends."""
    end = 0
    for slot in range(users):
        start = entries[slot]["span"] >> 24
        length = entries[slot]["span"] & 0xFF_FFFF
        packed[end : end + length] = arena[start : start + length]
        entries[slot]["span"] = end << 24 | length
        end += length
    return end
