"""`make recovery` tells states that are as they were written from others."""

from __future__ import annotations

from stream.core.state import UserShard
from tests.bench import recovery


def test_the_benchmark_sees_a_state_that_is_another() -> None:
    keys = [b"u1", b"u2"]
    states = recovery.states_of(keys, 2)
    shard = UserShard(recovery.LAYOUT)
    shard.load(keys, list(states))
    assert recovery.digest_of(shard) == recovery.digest(keys, states)
    assert recovery.digest_of(shard) != recovery.digest(keys, states[::-1])
    shard.forget([b"u1"])
    assert recovery.digest_of(shard) != recovery.digest(keys, states)
