"""Loops of the users' hash table (`user_keys.py`), compiled. Knows nothing of who asks, and why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.compiled import INT, NOTHING, array, compiled, part_of_compiled

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

_INTS = array("i8", contiguous=True)
_INTS_OUT = array("i8", written=True, contiguous=True)
_BYTES = array("u1", contiguous=True)
_BYTES_OUT = array("u1", written=True, contiguous=True)


@part_of_compiled
def _upper(hashed: int) -> int:
    """31 bits of a hash, in a bucket's upper half."""
    return (hashed & 0x7FFF_FFFF) << 32


@part_of_compiled
def _bucket_of(upper: int, key: Bytes, buckets: Ints, spans: Ints, arena: Bytes) -> int:
    """The bucket of a key, or the free one where it would be."""
    mask = len(buckets) - 1
    at = (upper >> 32) & mask
    while buckets[at] != 0:
        if (buckets[at] ^ upper) >> 32 == 0:
            span = spans[(buckets[at] & 0xFFFF_FFFF) - 1]
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


@compiled(NOTHING, _INTS, _INTS, _BYTES, _INTS_OUT, _INTS_OUT, _BYTES_OUT, _INTS_OUT)
def find(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    spans: Ints,
    arena: Bytes,
    slots: Ints,
) -> None:
    """`UserKeys.find`, into `slots`."""
    start = 0
    for number in range(len(hashes)):
        key = joined[start : start + lengths[number]]
        start += lengths[number]
        at = _bucket_of(_upper(hashes[number]), key, buckets, spans, arena)
        slots[number] = (buckets[at] & 0xFFFF_FFFF) - 1


@compiled(INT, _INTS, _INTS, _BYTES, _INTS_OUT, _INTS_OUT, _BYTES_OUT, _INTS_OUT, INT, INT)
def find_or_add(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    spans: Ints,
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
        at = _bucket_of(upper, key, buckets, spans, arena)
        if buckets[at] == 0:
            buckets[at] = upper | (users + 1)
            spans[users] = arena_end << 24 | len(key)
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


@compiled(INT, _INTS, _INTS, _BYTES, _INTS_OUT, _INTS_OUT, _BYTES_OUT, _INTS_OUT, INT, _INTS_OUT)
def remove(
    hashes: Ints,
    lengths: Ints,
    joined: Bytes,
    buckets: Ints,
    spans: Ints,
    arena: Bytes,
    slots: Ints,
    users: int,
    last: Ints,
) -> int:
    """`UserKeys.remove`, into `slots`; answers how many bytes of the arena became free.

    Parameters
    ----------
    last : hashes of the keys in the last slots, of as many as are removed or of all
    """
    start, freed = 0, 0
    first = users - len(last)
    for number in range(len(hashes)):
        key = joined[start : start + lengths[number]]
        start += lengths[number]
        at = _bucket_of(_upper(hashes[number]), key, buckets, spans, arena)
        slot = (buckets[at] & 0xFFFF_FFFF) - 1
        slots[number] = slot
        if slot >= 0:
            there = spans[slot] >> 24
            arena[there : there + len(key)] = 0
            freed += len(key)
            _close(at, buckets)
            users -= 1
            if slot < users:
                moved = last[users - first]
                upper = _upper(moved)
                buckets[_bucket_with(upper, users, buckets)] = upper | (slot + 1)
                spans[slot] = spans[users]
                if slot >= first:
                    last[slot - first] = moved
    return freed


@compiled(NOTHING, _INTS, _INTS_OUT)
def move(buckets: Ints, grown: Ints) -> None:
    """Put everything into other buckets, all free, of another number."""
    mask = len(grown) - 1
    for number in range(len(buckets)):
        if buckets[number] != 0:
            at = (buckets[number] >> 32) & mask
            while grown[at] != 0:
                at = (at + 1) & mask
            grown[at] = buckets[number]


@compiled(INT, _INTS_OUT, _BYTES_OUT, INT, _BYTES_OUT)
def pack(spans: Ints, arena: Bytes, users: int, packed: Bytes) -> int:
    """Put all keys end to end into another arena; answers where the last one ends."""
    end = 0
    for slot in range(users):
        start = spans[slot] >> 24
        length = spans[slot] & 0xFF_FFFF
        packed[end : end + length] = arena[start : start + length]
        spans[slot] = end << 24 | length
        end += length
    return end
