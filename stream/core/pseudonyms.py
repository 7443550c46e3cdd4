"""Keys under which states are kept. In: user ids. Out: the ids themselves, or a keyed hash of each.

With a secret no id enters states, changelog, logs or metrics; a list takes its id from the event
that caused it. Knows nothing of states and Kafka.
"""

from __future__ import annotations

import hashlib
from typing import Final

_DIGEST_BYTES: Final = 16  # 128 bits: a billion users collide with a chance of 1.5e-21
_OF_USERS: Final = b"freshet user"
_OF_SECRET: Final = b"freshet secret"


class Pseudonyms:
    """User ids to state keys.

    Parameters
    ----------
    secret : of any length; None = the ids are the keys

    Attributes
    ----------
    fingerprint : stands in the changelog, so that states kept under another secret are not taken
        for ours; empty without a secret. It tells nothing of the secret that guessing would not.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self.fingerprint = ""
        self._hasher = None
        if secret is not None:
            # BLAKE2b takes a key of 64 bytes at most.
            key = hashlib.blake2b(secret).digest()
            self._hasher = hashlib.blake2b(key=key, digest_size=_DIGEST_BYTES, person=_OF_USERS)
            check = hashlib.blake2b(key=key, digest_size=8, person=_OF_SECRET)
            self.fingerprint = check.hexdigest()

    def keys_of(self, ids: list[bytes]) -> list[bytes]:
        """State keys of n users: their ids, or 32 hexadecimal digits each."""
        if self._hasher is None:
            return ids
        return [self._key_of(user_id) for user_id in ids]

    def key_of(self, user_id: bytes) -> bytes:
        """State key of one user."""
        return user_id if self._hasher is None else self._key_of(user_id)

    def _key_of(self, user_id: bytes) -> bytes:
        assert self._hasher is not None
        hasher = self._hasher.copy()
        hasher.update(user_id)
        return hasher.hexdigest().encode()
