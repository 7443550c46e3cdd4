"""Who was forgotten, and since when: one partition's marks, which outlive the users.

In: user keys and times of their erasure. Out: a time for a key, and the changelog records that keep
it. A mark is a salted hash (BLAKE2b), so that the changelog names nobody; the salt is drawn once a
partition and stands in the changelog too. They stay as long as the changelog: 26 bytes there, 149
in memory (`python -m tests.bench.state`). Knows nothing of states and Kafka.

    SALT_KEY                  -> 16 bytes of salt
    MARK_PREFIX + 16 bytes    -> 8 bytes, int64 little-endian: erased_ms
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final

from stream.core.keys import MARK_PREFIX, SALT_KEY, foreign

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 16
_TIME_BYTES: Final = 8

Record = tuple[bytes, bytes | None]


class Marks:
    """Marks of one partition.

    Parameters
    ----------
    draw_salt : makes a salt of so many bytes
    """

    def __init__(self, draw_salt: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._draw_salt = draw_salt
        self._salt: bytes | None = None
        self._times_ms: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._times_ms)

    def hash_of(self, key: bytes) -> bytes:
        """The user's salted hash; not before the first erasure of the partition."""
        assert self._salt is not None, "the salt is drawn with the first erasure"
        return hashlib.blake2b(key, key=self._salt, digest_size=_HASH_BYTES).digest()

    def erased_ms(self, key: bytes) -> int:
        """Events of the user up to this time stay forgotten; 0 for a user never erased."""
        return self._times_ms.get(self.hash_of(key), 0) if self._times_ms else 0

    def add(self, key: bytes, erased_ms: int) -> list[Record]:
        """Mark a user as erased at `erased_ms`, or later if it was marked so before.

        Returns
        -------
        the records that the changelog must have with the erasure
        """
        records: list[Record] = []
        if self._salt is None:
            self._salt = self._draw_salt(_SALT_BYTES)
            records.append((SALT_KEY, self._salt))
        hashed = self.hash_of(key)
        latest_ms = max(erased_ms, self._times_ms.get(hashed, 0))
        self._times_ms[hashed] = latest_ms
        records.append((MARK_PREFIX + hashed, latest_ms.to_bytes(_TIME_BYTES, "little")))
        return records

    def load(self, key: bytes, value: bytes | None) -> None:
        """Take over a changelog record, a mark or the salt.

        Raises
        ------
        StateError : it is of another size
        """
        if key == SALT_KEY and value is not None and len(value) == _SALT_BYTES:
            self._salt = value
        elif key[:2] == MARK_PREFIX and len(key) == len(MARK_PREFIX) + _HASH_BYTES:
            if value is None or len(value) != _TIME_BYTES:
                raise foreign(f"a mark of an erasure with {len(value or b'')} bytes")
            self._times_ms[key[2:]] = int.from_bytes(value, "little")
        else:
            raise foreign(f"a mark's record of {len(key)} and {len(value or b'')} bytes")
