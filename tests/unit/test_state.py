"""The state shard: slots, ring, and the changelog's bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Settings
from stream.contracts import EventType, partition_of
from stream.core.bundle import Bundle
from stream.core.state import UserShard
from stream.core.users import EVERYONE, Users
from stream.core.wire import RING_ENTRY, Layout, join, split
from stream.demo import sample
from stream.errors import StateError
from tests.support.docs import README


def shard(storage: str = "float32", ring: int = 4, size: int = 3, model: int = 7) -> UserShard:
    return UserShard(Layout(size, storage, ring, model))


def remember(to: UserShard, key: bytes, item: int, time_s: int = 1_000_000_000) -> None:
    user = Users.of(to, [key])
    user.note(
        np.array([0]),
        np.array([item], np.uint64),
        np.array([time_s * 1000]),
        np.array([item], np.uint32),
        np.array([2], np.uint8),
        np.array([True]),
        np.array([0.0]),
    )
    user.store()


def set_vectors(of: UserShard, keys: list[bytes], vectors: object) -> Users:
    users = Users.of(of, keys)
    users.set_vectors(EVERYONE, np.array(vectors, np.float32))
    users.store()
    return users


def vectors(of: UserShard, *keys: bytes) -> list[list[float]]:
    return Users.of(of, list(keys)).vectors.tolist()


def encode(of: UserShard, *keys: bytes) -> list[bytes]:
    return Users.of(of, list(keys)).store()


def ring_newest_first(of: UserShard, key: bytes) -> list[int]:
    user = Users.of(of, [key])
    order = user.ring_order(EVERYONE, 255)
    return split(user.ring)[0][0, order[0]][: user.headers["ring_used"][0]].tolist()


def test_a_user_keeps_its_slot_and_new_ones_get_the_next() -> None:
    users = shard()
    assert users.slots([b"a", b"b", b"a", b"c"]).tolist() == [0, 1, 0, 2]
    assert users.slots([b"c", b"d"]).tolist() == [2, 3]
    assert (len(users), users.find(b"d"), users.find(b"e")) == (4, 3, None)


def test_a_shard_grows_and_keeps_what_it_held() -> None:
    users = shard()
    set_vectors(users, [b"first"], [[1, 2, 3]])
    keys = [b"%d" % n for n in range(5000)]
    users.slots(keys)
    assert vectors(users, b"first") == [[1, 2, 3]]
    assert Users.of(users, [b"first", *keys]).model.tolist() == [7] * 5001


@pytest.mark.parametrize("pushed", [0, 1, 3, 4, 5, 11])
def test_the_ring_holds_the_newest_interactions(pushed: int) -> None:
    users = shard()
    users.slots([b"a"])
    for item in range(1, pushed + 1):
        remember(users, b"a", item)
    assert ring_newest_first(users, b"a") == list(range(pushed, max(pushed - 4, 0), -1))


def test_a_shard_without_a_ring_remembers_nothing() -> None:
    users = shard(ring=0)
    remember(users, b"a", 1)
    assert len(encode(users, b"a")[0]) == 46 + 12


@pytest.mark.parametrize("storage", ["float32", "int8"])
@settings(deadline=None)
@given(
    pushes=st.lists(
        st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 2**63)), max_size=30
    ),
    seed=st.integers(0, 2**32 - 1),
)
def test_states_survive_the_changelog_bit_for_bit(
    storage: str, pushes: list[tuple[bytes, int]], seed: int
) -> None:
    users, names = shard(storage), [b"a", b"b", b"c"]
    set_vectors(users, names, np.random.default_rng(seed).normal(size=(3, 3)))
    for key, item in pushes:
        remember(users, key, item & 0xFFFFFFFF)
    some = Users.of(users, names)
    some.newest_ms[:] = [1, 2**40, 3]
    some.headers["events"] = [1, 2, 2**32 - 1]
    some.store()
    values = encode(users, *names)
    restored = shard(storage)
    restored.load([b"c", b"a", b"b"], [values[2], values[0], values[1]])
    assert vectors(restored, *names) == vectors(users, *names)
    assert encode(restored, *names) == values
    for key in names:
        assert ring_newest_first(restored, key) == ring_newest_first(users, key)
    again = Users.of(restored, names)
    assert again.headers["events"].tolist() == [1, 2, 2**32 - 1]
    assert again.newest_ms.tolist() == [1, 2**40, 3]
    # and they go on alike
    for both in (users, restored):
        remember(both, b"a", 2**32 - 99)
        assert ring_newest_first(both, b"a")[0] == 2**32 - 99
    assert encode(restored, *names) == encode(users, *names)


def test_a_later_record_replaces_an_earlier_one_and_null_forgets() -> None:
    source = shard()
    old_a, b = set_vectors(source, [b"a", b"b"], [[1, 1, 1], [2, 2, 2]]).store()
    (new_a,) = set_vectors(source, [b"a"], [[9, 9, 9]]).store()
    users = shard()
    users.load([b"a", b"b", b"a"], [old_a, b, new_a])
    assert vectors(users, b"a") == [[9, 9, 9]]
    users.load([b"a"], [None])
    assert (len(users), users.find(b"a"), users.find(b"b")) == (1, None, 0)
    assert vectors(users, b"b", b"a") == [[2, 2, 2], [0, 0, 0]]


def test_a_shorter_record_leaves_nothing_of_a_longer_one() -> None:
    source, users = shard(), shard()
    remember(source, b"a", 1)
    (short,) = encode(source, b"a")
    remember(source, b"a", 2)
    (long,) = encode(source, b"a")
    users.load([b"a"], [long])
    users.load([b"a"], [short])
    assert encode(users, b"a") == [short]
    assert Users.of(users, [b"a"]).ring["event"].tolist() == [[1, 0, 0, 0]], "2 is forgotten"
    remember(users, b"a", 3)
    assert ring_newest_first(users, b"a") == [3, 1]


@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4), (4, 0), (0, 4)])
def test_a_ring_of_another_size_keeps_the_newest(before: int, after: int) -> None:
    users = shard(ring=before)
    users.slots([b"a"])
    for item in range(1, 10):
        remember(users, b"a", item)
    other = shard(ring=after)
    other.load([b"a"], encode(users, b"a"))
    assert ring_newest_first(other, b"a") == list(range(9, 9 - min(before, after), -1))
    remember(other, b"a", 77)
    assert after == 0 or ring_newest_first(other, b"a")[0] == 77


def test_a_state_of_another_size_or_storage_is_marked_for_rebuilding() -> None:
    users = shard("float32", size=3)
    remember(users, b"a", 5)
    values = encode(users, b"a")
    for other in (shard("int8", size=3), shard("float32", size=8)):
        other.load([b"a"], values)
        assert Users.of(other, [b"a"]).model[0] == 0
        assert ring_newest_first(other, b"a") == [5]


@pytest.mark.parametrize("value", [b"", b"\x02" * 40, b"\x01\x00\x03\x00" + b"\x00" * 20])
def test_foreign_bytes_are_refused_with_a_cure(value: bytes) -> None:
    with pytest.raises(StateError, match="changelog"):
        shard().load([b"a"], [value])


def as_layout_1(value: bytes) -> bytes:
    """The same state as the first version wrote it: no flags, no `erased_ms`."""
    value = as_layout_3(value)
    return b"\x01" + value[1:6] + bytes(2) + value[8:24] + value[32:36] + value[46:]


def as_layout_2(value: bytes) -> bytes:
    """The same state as it was written before it told what the user bought."""
    value = as_layout_3(value)
    return b"\x02" + value[1:36] + value[46:]


def as_layout_3(value: bytes, item_bits: int = 0) -> bytes:
    """The same state, of three float32, as it was written with a byte for the type of an event.

    Parameters
    ----------
    item_bits : the upper four of the items' hashes, which were kept then
    """
    entries = struct.iter_unpack("<QII", value[58:])
    ring = b"".join(
        struct.pack("<QIIB", both % (1 << 60) | item_bits << 60, time_s, event, both >> 60)
        for both, time_s, event in entries
    )
    return b"\x03" + value[1:58] + ring


@pytest.mark.parametrize("older", [as_layout_1, as_layout_2, as_layout_3])
def test_a_state_of_an_older_layout_is_read(older: Callable[[bytes], bytes]) -> None:
    source = UserShard(Layout(3, "float32", 4, 7), partition=0, partitions=2)
    keys = [b"%d" % n for n in range(20)]
    for number, key in enumerate(keys):
        for item in range(number % 6):
            remember(source, key, item + 1, 1_000_000_000 + number)
    set_vectors(source, keys, np.arange(60).reshape(20, 3))
    values = encode(source, *keys)
    users = UserShard(Layout(3, "float32", 4, 7), partition=0, partitions=2)
    users.load(keys, [older(value) for value in values])
    assert encode(users, *keys) == values
    assert users.newest_ms == source.newest_ms > 0
    assert 0 < Users.of(users, keys).misrouted.sum() < 20


def test_an_older_ring_is_read_with_the_bits_of_items_and_the_types_that_are_kept_now() -> None:
    source, users = shard(), shard()
    for item in (1, 2):
        remember(source, b"a", item)
    (value,) = encode(source, b"a")
    users.load([b"a"], [as_layout_3(value, item_bits=0b1011)])
    assert encode(users, b"a") == [value]
    old = as_layout_3(value)
    users.load([b"a"], [old[:-1] + b"\x18"])  # a type that no version wrote: 8 and 16
    assert split(Users.of(users, [b"a"]).ring)[1][0, :2].tolist() == [2, 15]
    assert ring_newest_first(users, b"a") == [2, 1]
    assert max(EventType) < 15


def test_an_older_state_keeps_the_impressions_of_ads() -> None:
    layout = Layout(3, "float32", 4, 7, shown=2)
    users, again = UserShard(layout), UserShard(layout)
    user = Users.of(users, [b"a"])
    user.shown["item"], user.shown["time_s"], user.shown["event"] = [5, 6], [7, 8], [9, 10]
    (value,) = user.store()
    again.load([b"a"], [b"\x03" + value[1:]])
    assert Users.of(again, [b"a"]).store() == [value]


@given(item=st.integers(1, 2**64 - 1), kind=st.sampled_from(EventType))
def test_an_item_and_a_type_are_joined_as_events_note_them(item: int, kind: EventType) -> None:
    entry = np.zeros(1, RING_ENTRY)
    entry["item_and_type"] = join(np.uint64(item), np.uint8(kind))
    items, types = split(entry)
    assert (items.tolist(), types.tolist()) == ([item % 2**60], [kind])
    users = shard()
    user = Users.of(users, [b"a"])
    columns = (np.array([item], np.uint64), np.array([10**12]), np.array([1], np.uint32))
    noted = (np.array([kind], np.uint8), np.array([True]), np.array([0.0]))
    assert user.note(np.array([0]), *columns, *noted).dropped == 0
    assert user.ring["item_and_type"][0, 0] == entry["item_and_type"][0]
    assert user.note(np.array([0]), *columns, *noted).dropped == 1, "a repeat"


def buy(to: UserShard, key: bytes, *steps: tuple[EventType, float, int]) -> np.void:
    """Note (type, amount, seconds) each; answers the header."""
    user = Users.of(to, [key])
    count = len(steps)
    user.note(
        np.zeros(count, np.int64),
        np.arange(1, count + 1).astype(np.uint64),
        np.array([1000 * step[2] for step in steps]),
        np.zeros(count, np.uint32),
        np.array([step[0] for step in steps], np.uint8),
        np.ones(count, np.bool_),
        np.array([step[1] for step in steps]),
    )
    user.store()
    header: np.void = Users.of(to, [key]).headers[0]
    return header


def test_a_state_tells_what_its_user_bought() -> None:
    users = shard(ring=2)
    purchase, cancel = EventType.PURCHASE, EventType.CANCEL
    steps = [(purchase, 10.5, 90), (EventType.CLICK, 0.0, 95), (purchase, 2.25, 80)]
    header = buy(users, b"a", *steps)
    assert (header["purchases"], header["spent"], header["bought_s"]) == (2, 12.75, 90)
    header = buy(users, b"a", (cancel, 10.5, 99))
    assert (header["purchases"], header["spent"], header["bought_s"]) == (1, 2.25, 90)
    header = buy(users, b"a", (cancel, 10.5, 99), (cancel, 1.0, 99))
    assert (header["purchases"], header["spent"]) == (0, 0)
    restored = shard(ring=2)
    buy(users, b"a", (purchase, 7.0, 99))
    restored.load([b"a"], encode(users, b"a"))
    assert Users.of(restored, [b"a"]).headers["spent"].tolist() == [7.0]
    other = shard("int8", ring=5)  # another model's
    other.load([b"a"], encode(users, b"a"))
    header = Users.of(other, [b"a"]).headers[0]
    assert (header["purchases"], header["spent"], header["bought_s"]) == (1, 7, 99)


def test_purchases_are_counted_up_to_what_a_header_holds() -> None:
    users = shard()
    user = Users.of(users, [b"a"])
    user.headers["purchases"] = 65_534
    user.store()
    header = buy(users, b"a", *[(EventType.PURCHASE, 0.0, 1)] * 3)
    assert header["purchases"] == 65_535


def test_an_older_state_tells_of_what_its_ring_holds() -> None:
    users = shard(ring=4)
    steps = [(EventType.PURCHASE, 1.0, second) for second in (5, 9, 7)]
    buy(users, b"a", *steps, (EventType.CANCEL, 1.0, 11))
    again = shard(ring=4)
    again.load([b"a"], [as_layout_2(value) for value in encode(users, b"a")])
    header = Users.of(again, [b"a"]).headers[0]
    assert (header["purchases"], header["spent"], header["bought_s"]) == (2, 0, 9)


def test_a_state_of_a_later_layout_is_refused() -> None:
    (value,) = set_vectors(shard(), [b"a"], [[1, 2, 3]]).store()
    with pytest.raises(StateError, match="layout 5; this version reads layout 1, 2, 3, 4"):
        shard().load([b"a"], [b"\x05" + value[1:]])


def test_a_ring_that_goes_on_behind_its_end_is_refused() -> None:
    users = shard()
    remember(users, b"a", 1)
    (value,) = encode(users, b"a")
    with pytest.raises(StateError, match="goes on at entry 9 of 1"):
        shard().load([b"a"], [value[:5] + b"\x09" + value[6:]])


def test_values_of_one_length_and_other_rings_are_not_mixed_up() -> None:
    users = shard()
    remember(users, b"a", 1)
    (value,) = encode(users, b"a")
    with pytest.raises(StateError, match="bytes where its header says"):
        shard().load([b"a", b"b"], [value, value[:4] + b"\x02" + value[5:]])


def test_int8_keeps_a_vector_within_half_a_step() -> None:
    users = shard("int8", size=64)
    given = np.random.default_rng(1).normal(size=(50, 64)).astype(np.float32)
    keys = [b"%d" % n for n in range(50)]
    set_vectors(users, keys, given)
    step = np.abs(given).max(axis=1, keepdims=True) / 127
    assert (np.abs(Users.of(users, keys).vectors - given) <= step * 0.5001).all()
    set_vectors(users, keys[:1], np.zeros((1, 64)))
    assert not np.any(vectors(users, keys[0]))


def test_a_user_of_the_demos_bundle_fits_a_kibibyte_as_the_readme_says() -> None:
    state = Bundle.load(sample.BUNDLE).manifest.state
    size = Layout(state.size, state.storage, Settings().state.ring, 1).max_bytes
    readme = " ".join(README.read_text(encoding="utf-8").split())
    assert f"{size:,} bytes of the demo's bundle" in readme
    (beside,) = re.findall(r"and (\d+) for its key \(14 bytes here\)", readme)
    (user,) = re.findall(r"So a user takes ([\d,]+) bytes", readme)
    assert size + int(beside) == int(user.replace(",", "")) <= 1024


def test_the_mark_of_a_misrouted_user_moves_with_it() -> None:
    users = UserShard(Layout(3, "float32", 4, 7), partition=1, partitions=2)
    home = next(b"%d" % n for n in range(99) if partition_of(b"%d" % n, 2) == 1)
    astray = next(b"%d" % n for n in range(99) if partition_of(b"%d" % n, 2) == 0)
    users.slots([home, astray])
    users.load([home], [None])
    assert Users.of(users, [astray]).misrouted.tolist() == [True]
    restored = UserShard(Layout(3, "float32", 4, 7), partition=0, partitions=2)
    restored.load([astray], encode(users, astray))
    assert Users.of(restored, [astray]).misrouted.tolist() == [True], "it is kept, not found anew"


def test_users_of_another_partition_are_marked() -> None:
    keys = [b"user-%d" % n for n in range(200)]
    users = UserShard(Layout(3, "float32", 4, 7), partition=2, partitions=6)
    assert Users.of(users, keys).misrouted.tolist() == [partition_of(key, 6) != 2 for key in keys]


@pytest.mark.parametrize("storage", ["float32", "int8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_leaves_the_old_one(storage: str, bad: float) -> None:
    users = Users.of(shard(storage), [b"a", b"b"])
    users.set_vectors(EVERYONE, np.array([[1, 2, 127], [127, 5, 6]], np.float32))
    for _ in range(2):
        users.set_vectors(EVERYONE, np.array([[7, bad, 9], [127, 8, 8]], np.float32))
    assert users.vectors.tolist() == [[1, 2, 127], [127, 8, 8]]
    assert users.refused == 2


def test_int8_takes_vectors_too_small_for_a_scale_as_zeros() -> None:
    users = Users.of(shard("int8", size=2), [b"a", b"b", b"c", b"d"])
    given = np.array([[2e-43, -2e-43], [1e-37, 0], [1e-35, -1e-35], [1e-30, 0]], np.float32)
    users.set_vectors(EVERYONE, given)
    stored = [list(value[46:48]) for value in users.store()]
    assert stored == [[0, 0], [0, 0], [127, 256 - 127], [127, 0]]
    np.testing.assert_allclose(users.vectors[2:], given[2:], rtol=1e-6)
    assert not users.vectors[:2].any()
