"""Keys to partitions as the Java client's default partitioner does it: murmur2 of the key's bytes.

kafka-python, aiokafka and KafkaJS agree with it; librdkafka needs `partitioner=murmur2_random`. The
reference is `org.apache.kafka.common.utils.Utils.murmur2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

SEED: Final = 0x9747B28C
MULTIPLIER: Final = 0x5BD1E995
MASK: Final = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """32-bit murmur2 of `key`, unsigned."""
    length = len(key)
    h = SEED ^ length
    whole = length & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * MULTIPLIER & MASK
        k = (k ^ k >> 24) * MULTIPLIER & MASK
        h = (h * MULTIPLIER & MASK) ^ k
    if length != whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * MULTIPLIER & MASK
    h = (h ^ h >> 13) * MULTIPLIER & MASK
    return h ^ h >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of `key` among `partitions` of them."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


# Below this many keys one by one is faster: 3 us a key, against 70 us for any few at once.
_FEW = 24


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int32]:
    """Partitions of many keys at once.

    Parameters
    ----------
    keys : n keys of any length
    partitions : > 0

    Returns
    -------
    int32, shape (n,)
    """
    n = len(keys)
    if n < _FEW:
        return np.array([partition_of(key, partitions) for key in keys], np.int32)
    lengths = np.fromiter(map(len, keys), np.int64, n)
    # Longest first, so that the keys that still have a fourth byte are always a prefix.
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    lengths = lengths[order]
    joined = b"".join(keys) + b"\0\0\0\0"
    # Word i of this view is bytes i..i+3, wherever i falls.
    words = np.ndarray((len(joined) - 3,), "<u4", joined, strides=(1,))
    multiplier = np.uint32(MULTIPLIER)

    h: npt.NDArray[np.uint32] = np.uint32(SEED) ^ lengths.astype(np.uint32)
    blocks = lengths >> 2
    for block in range(int(blocks[0]) if n else 0):
        active = int(np.searchsorted(-blocks, -block))  # keys with more than `block` whole words
        k = words[starts[:active] + 4 * block] * multiplier
        k = (k ^ k >> np.uint32(24)) * multiplier
        h[:active] = h[:active] * multiplier ^ k

    rest = lengths & 3
    tail = words[starts + 4 * blocks] & ((np.uint32(1) << (8 * rest).astype(np.uint32)) - 1)
    h = np.where(rest > 0, (h ^ tail) * multiplier, h)
    h = (h ^ h >> np.uint32(13)) * multiplier
    h ^= h >> np.uint32(15)

    partition = np.empty(n, np.int32)
    partition[order] = (h & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)
    return partition
