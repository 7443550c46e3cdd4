"""Who takes partitions over has every state as it was written: a short `make recovery`."""

from __future__ import annotations

import asyncio

import pytest

from stream.core.state import UserShard
from stream.kafka.broker import BrokerProcess
from tests.bench import recovery

pytestmark = pytest.mark.kafka_only

USERS = 3_000  # two record batches and some in each partition


@pytest.mark.parametrize("remembered", recovery.REMEMBERED)
def test_every_state_comes_back_as_it_was_written(broker: BrokerProcess, remembered: int) -> None:
    assert asyncio.run(recovery.measure(broker.bootstrap, USERS, remembered, times=1))


def test_the_benchmark_sees_a_state_that_is_another() -> None:
    keys = [b"u1", b"u2"]
    states = recovery.states_of(keys, 2)
    shard = UserShard(recovery.LAYOUT)
    shard.load(keys, list(states))
    assert recovery.digest_of(shard) == recovery.digest(keys, states)
    assert recovery.digest_of(shard) != recovery.digest(keys, states[::-1])
    shard.forget([b"u1"])
    assert recovery.digest_of(shard) != recovery.digest(keys, states)
