"""Who leaves a shard, and when; and the memory that it grows in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.bundle import Bundle
from stream.core.catalogue import Catalogue
from stream.core.engine import Engine
from stream.core.lifecycle import Limits, leave_at_most
from stream.core.model import Model
from stream.core.rows import Rows
from stream.core.state import UserShard
from stream.core.users import Users
from stream.core.wire import Layout

LAYOUT = Layout(3, "float32", 4, 7)
LATER_MS = 2**60  # a wall clock that no event is ahead of


def shard(expire_after_ms: int = 0, max_users: int = 0) -> UserShard:
    return UserShard(LAYOUT, limits=Limits(expire_after_ms, max_users))


def active(of: UserShard, at_ms: int, *keys: bytes) -> None:
    users = Users.of(of, list(keys))
    users.newest_ms[:] = np.maximum(users.newest_ms, at_ms)
    users.store()


def leave_all(
    of: UserShard, busy: tuple[bytes, ...] = (), now_ms: int = LATER_MS
) -> tuple[set[bytes], set[bytes]]:
    """What steps without events let go until nothing more does."""
    expired: set[bytes] = set()
    evicted: set[bytes] = set()
    idle = 0
    while idle < 100:  # the hand may be anywhere on its round
        gone = of.leave(0, busy, now_ms)
        idle = 0 if any(gone) else idle + 1
        expired |= set(gone[0])
        evicted |= set(gone[1])
    return expired, evicted


def names(count: int) -> list[bytes]:
    return [b"u%d" % number for number in range(count)]


def test_nobody_leaves_without_limits() -> None:
    users = shard()
    active(users, 1, b"a")
    active(users, 10**15, b"b")
    assert leave_all(users) == (set(), set())


def test_the_inactive_leave_and_the_others_keep_their_states() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, *names(500))
    active(users, 6000, *names(400)[100:])
    active(users, 6001, b"now")
    expired, _ = leave_all(users)
    assert expired == {*names(100), *names(500)[400:]}
    assert len(users) == 301
    assert set(Users.of(users, names(400)[100:]).newest_ms.tolist()) == {6000}


def test_a_user_at_the_very_limit_stays() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, b"a")
    active(users, 6000, b"b")
    assert leave_all(users)[0] == set()
    active(users, 6001 + 10, b"b")
    assert leave_all(users)[0] == {b"a"}


def test_an_event_from_the_future_expires_nobody_before_that_time_has_come() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, *names(300))
    active(users, 7000, b"ahead")
    assert leave_all(users, now_ms=5100)[0] == set()
    active(users, 6500, b"u7")
    assert leave_all(users, now_ms=6500)[0] == {*names(300)} - {b"u7"}
    assert set(users.keys) == {b"u7", b"ahead"}


def test_a_wall_clock_that_is_set_back_stops_nobody_for_good() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, *names(300))
    active(users, 6500, b"now")
    assert leave_all(users, now_ms=3000)[0] == set()
    assert leave_all(users, now_ms=6500)[0] == {*names(300)}


def test_who_is_in_the_batch_stays() -> None:
    users = shard(expire_after_ms=1000, max_users=1)
    active(users, 5000, b"a", b"b")
    active(users, 9000, b"c")
    assert leave_all(users, busy=(b"a", b"b"))[0] == set()
    assert len(users) >= 2


def test_a_user_who_is_always_late_does_not_keep_the_others() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, b"late", *names(300))
    active(users, 9000, *names(600)[300:])
    for _ in range(100):
        users.leave(1, (b"late",), LATER_MS)
    assert set(users.keys) == {b"late", *names(600)[300:]}


def test_an_erased_user_waits_in_no_queue() -> None:
    users = shard(max_users=64 * 10)
    for number, key in enumerate(names(641)):
        active(users, 1000 + number, key)
    users.leave(0, (), LATER_MS)
    assert b"u5" in users._lifecycle._queue
    users.erase(b"u5", 9999)
    assert b"u5" not in users._lifecycle._queue


def test_an_erasure_leaves_the_queue_of_the_others_as_it_is() -> None:
    users = shard(max_users=64 * 10)
    for number, key in enumerate(names(645)):
        active(users, 1000 + number, key)
    assert users.leave(0, (), LATER_MS)[1] == names(5)
    queue = users._lifecycle._queue
    waiting = list(queue)
    users.erase(b"u7", 9999)
    users.erase(b"nobody", 9999)
    assert users._lifecycle._queue is queue, "an erasure must not go through all that wait"
    assert list(queue) == [key for key in waiting if key != b"u7"]
    active(users, 9000, b"x", b"y", b"z")
    assert users.leave(0, (), LATER_MS)[1] == [b"u5", b"u6"]


def test_a_step_lets_a_few_go_and_looks_at_few() -> None:
    users = shard(expire_after_ms=1000)
    active(users, 5000, *names(5000))
    active(users, 9000, b"now")
    steps = 0
    while len(users) > 1:
        gone, _ = users.leave(10, (), LATER_MS)
        assert len(gone) <= leave_at_most(10)
        steps += 1
        assert steps < 200
    assert steps >= 5000 // leave_at_most(10)


def test_the_hand_rests_until_time_has_gone_on() -> None:
    users = shard(expire_after_ms=100_000)
    active(users, 1_000_000, *names(3))
    looked = []
    read = users._lifecycle._newest_ms
    users._lifecycle._newest_ms = lambda slots: looked.append(slots) or read(slots)  # type: ignore[func-returns-value]
    for _ in range(50):
        users.leave(1, (), LATER_MS)
    assert len(looked) == 1
    active(users, 1_001_000, b"now")  # a hundredth of the time
    users.leave(1, (), LATER_MS)
    assert len(looked) == 2


@settings(deadline=None)
@given(
    times=st.lists(st.integers(1, 50), min_size=1, max_size=300),
    limit=st.integers(1, 100),
)
def test_the_least_active_leave_beyond_the_limit(times: list[int], limit: int) -> None:
    users = shard(max_users=limit)
    for key, time_ms in zip(names(len(times)), times, strict=True):
        active(users, time_ms, key)
    _, evicted = leave_all(users)
    assert len(users) <= limit
    assert len(users) + len(evicted) == len(times)
    newest = dict(zip(names(len(times)), times, strict=True))
    stayed = [newest[key] for key in users.keys]
    assert max((newest[key] for key in evicted), default=0) <= min(stayed, default=99)


def test_who_became_active_since_the_last_look_stays() -> None:
    users = shard(max_users=64 * 10)
    for number, key in enumerate(names(641)):
        active(users, 1000 + number, key)
    assert users.leave(0, (), LATER_MS)[1] == [b"u0"]
    active(users, 9000, b"u1")  # next in line until now
    active(users, 9001, b"new")
    assert users.leave(0, (), LATER_MS)[1] == [b"u2"]


def test_rows_grow_in_place_and_keep_what_they_held() -> None:
    rows = Rows(10)
    rows.bytes[:] = 7
    before = len(rows)
    rows.reserve(before * 5)
    assert len(rows) >= before * 5
    assert (rows.bytes[:before] == 7).all()
    assert not rows.bytes[before:].any()


def test_rows_are_copied_where_somebody_looks_at_them() -> None:
    rows = Rows(10)
    rows.bytes[:] = 7
    view = rows.bytes[:5]
    rows.reserve(5000)
    assert (rows.bytes[:5] == 7).all()
    assert (view == 7).all()


@pytest.mark.parametrize("partitions", [1, 6])
def test_a_limit_is_shared_by_the_partitions(partitions: int, decay_bundle: Bundle) -> None:
    engine = Engine(
        Model(decay_bundle, "cpu"),
        Catalogue([]),
        kinds={},
        placements={},
        ring=1,
        limits=Limits(0, 600),
    )
    made = engine.new_shard(0, partitions)
    assert made._lifecycle.limits.max_users == 600 // partitions
