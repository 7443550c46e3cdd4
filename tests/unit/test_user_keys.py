"""Keys and slots of a shard's users, against a dict and a list."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from stream.core import user_keys
from stream.core.user_keys import UserKeys
from stream.errors import StateError


class Reference:
    """The same, as a dict and a list."""

    def __init__(self) -> None:
        self.slots: dict[bytes, int] = {}
        self.keys: list[bytes] = []

    def find_or_add(self, keys: list[bytes]) -> list[int]:
        for key in keys:
            if key not in self.slots:
                self.slots[key] = len(self.keys)
                self.keys.append(key)
        return [self.slots[key] for key in keys]

    def remove(self, keys: list[bytes]) -> list[int]:
        return [self.remove_one(key) for key in keys]

    def remove_one(self, key: bytes) -> int:
        slot = self.slots.pop(key, -1)
        if slot >= 0:
            last = self.keys.pop()
            if slot < len(self.keys):
                self.keys[slot] = last
                self.slots[last] = slot
        return slot


def few(key: bytes) -> int:
    """So few hashes that keys collide, in the last bucket and the first among them."""
    return [2**40 - 1, 2**40, 2**31 - 2, -1][len(key) % 4]


@pytest.fixture(params=["Python's hashes", "hashes that collide"])
def hashed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "hashes that collide":
        monkeypatch.setattr(user_keys, "hash", few, raising=False)


@pytest.mark.usefixtures("hashed")
def test_it_answers_like_a_dict() -> None:
    rng = random.Random(20261126)
    keys, reference = UserKeys(), Reference()
    pool = [rng.randbytes(rng.randrange(0, 12)) for _ in range(300)]
    for _ in range(600):
        some = rng.choices(pool, k=rng.randrange(4))
        assert keys.find_or_add(some).tolist() == reference.find_or_add(some)
        gone = rng.choices(pool, k=rng.randrange(8))
        assert keys.remove(gone).tolist() == reference.remove(gone)
        assert list(keys) == reference.keys
        asked = rng.choices(pool, k=5)
        assert [key in keys for key in asked] == [key in reference.slots for key in asked]
        assert keys.find(asked).tolist() == [reference.slots.get(key, -1) for key in asked]


def test_it_grows() -> None:
    keys = UserKeys()
    many = [b"user-%d" % number for number in range(50_000)]
    for start in range(0, len(many), 7_000):
        keys.find_or_add(many[start : start + 7_000])
    assert keys[:] == many
    assert keys.find(many).tolist() == list(range(len(many)))
    assert keys.find([b"user", b"user-50000"]).tolist() == [-1, -1]
    assert keys.nbytes < 40 * len(many)


def test_nothing_of_a_removed_key_stays() -> None:
    keys = UserKeys()
    keys.find_or_add([b"somebody", b"secret", b"else"])
    arena = keys._arena.bytes
    assert b"secret" in arena.tobytes()
    keys.remove([b"secret"])
    assert b"ecre" not in arena.tobytes()


def test_room_of_removed_keys_is_taken_again() -> None:
    keys = UserKeys()
    stay = [b"stays-%d" % number for number in range(100)]
    keys.find_or_add(stay)
    for turn in range(20):
        come = [b"%d-comes-and-goes-%d" % (turn, number) for number in range(1_000)]
        keys.find_or_add(come)
        keys.remove(come)
    assert list(keys) == stay
    assert keys._arena_free <= keys._arena_end < 200_000


@pytest.mark.parametrize("find", [UserKeys.find, UserKeys.find_or_add])
def test_no_keys(find: Callable[[UserKeys, list[bytes]], np.ndarray]) -> None:
    assert find(UserKeys(), []).tolist() == []


def test_a_key_that_is_too_long_is_refused() -> None:
    keys = UserKeys()
    with pytest.raises(StateError, match="16 MiB"):
        keys.find_or_add([bytes(1 << 24)])
    assert len(keys) == 0
    assert keys.find([bytes(1 << 24)]).tolist() == [-1]
