"""Who takes partitions over has every state as it was written: a short `make recovery`."""

from __future__ import annotations

import asyncio

import pytest

from stream.kafka.broker import BrokerProcess
from tests.bench import recovery

pytestmark = pytest.mark.kafka_only

USERS = 3_000  # two record batches and some in each partition


@pytest.mark.parametrize("remembered", recovery.REMEMBERED)
def test_every_state_comes_back_as_it_was_written(broker: BrokerProcess, remembered: int) -> None:
    assert asyncio.run(recovery.measure(broker.bootstrap, USERS, remembered, times=1))
