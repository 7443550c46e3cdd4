"""Numbers that stand for keys: hashes of bytes, bits mixed, points of [0, 1).

In: bytes, or 64-bit numbers. Out: numbers that are the same on every machine, for good: who gets
which variant, what a replay draws and under which hash counts are kept hang on every bit of them.
Knows nothing of what they are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BYTES: Final = 8
_POINT_BITS: Final = 53  # of a float64's mantissa
# 2**64 divided by the golden ratio, made odd: by what SplitMix64 goes on from number to number.
GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def hash_of(told: bytes) -> int:
    """64 bits of BLAKE2b, as a number."""
    return int.from_bytes(hashlib.blake2b(told, digest_size=_BYTES).digest(), "little")


def hashes_of(
    keys: Iterable[bytes], *, salt: bytes = b"", person: bytes = b""
) -> NDArray[np.uint64]:
    """64 bits of BLAKE2b of each key: uint64, shape (n,).

    Parameters
    ----------
    salt : at most 64 bytes; BLAKE2b's `key`
    person : at most 16 bytes; as BLAKE2b has it

    Raises
    ------
    ValueError : one of the two is longer
    """
    hasher = partial(hashlib.blake2b, digest_size=_BYTES, key=salt, person=person)
    digests = b"".join(hasher(key).digest() for key in keys)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def points(numbers: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Where numbers of all 64 bits stand between 0 and 1: float64, in [0, 1), their shape.

    The upper 53 bits, times 2**-53: all that a float64 can tell apart at even distances (Vigna,
    "Generating uniform doubles in the unit interval", prng.di.unimi.it).
    """
    upper = numbers >> np.uint64(64 - _POINT_BITS)
    return upper.astype(np.float64) * 2.0**-_POINT_BITS


def points_of(
    keys: Iterable[bytes], *, salt: bytes = b"", person: bytes = b""
) -> NDArray[np.float64]:
    """Where keys stand between 0 and 1, for good: float64, shape (n,), in [0, 1).

    By each salt or person somewhere else. Of one that is longer than BLAKE2b takes, a digest goes
    in its place.

    Parameters
    ----------
    salt, person : as in `hashes_of`, and of any length
    """
    salt = _short(salt, hashlib.blake2b.MAX_KEY_SIZE)
    return points(hashes_of(keys, salt=salt, person=_short(person, hashlib.blake2b.PERSON_SIZE)))


def _short(told: bytes, most: int) -> bytes:
    return told if len(told) <= most else hashlib.blake2b(told, digest_size=most).digest()


def split_mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers with their bits mixed, one to one: SplitMix64's last steps. uint64, the same shape.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the
    constants are those of Stafford's thirteenth variant, as in Vigna's splitmix64.c. 0 stays 0.
    """
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def murmur_mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The same by the last steps of MurmurHash3's 64 bits (Appleby, MurmurHash3.cpp, `fmix64`)."""
    mixed = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    mixed = (mixed ^ (mixed >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    mixed ^= mixed >> np.uint64(33)
    return mixed


def uniforms(seeds: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """The first points that SplitMix64 draws from each seed: float64, shape (seeds, count).

    Parameters
    ----------
    seeds : uint64, shape (n,)
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * GOLDEN
    return points(split_mix(seeds[:, None] + steps))
