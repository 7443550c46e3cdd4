"""One owner a partition: what an older owner still sends changes nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import OutOfOrderSequenceNumber, ProducerFenced

from stream.errors import StateError
from stream.kafka.applied import APPLIED_KEY, encode_applied
from stream.kafka.batches import Records
from stream.kafka.broker import BrokerProcess
from stream.kafka.cluster import Cluster
from stream.kafka.holding import Holding
from stream.kafka.takeover import Takeover
from stream.kafka.writer import Writer
from tests.support.compaction import SOON
from tests.support.toy import DIM, PARTITIONS, ToyShard
from tests.support.toy_run import Load, ToyRun

pytestmark = pytest.mark.kafka_only

COMPACTED_S = 40.0


@pytest.fixture
def toys(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[ToyRun]:
    run = ToyRun(broker.bootstrap, unique, tmp_path)
    yield run
    run.close()


def test_a_worker_that_slept_past_its_session_cannot_change_a_state(toys: ToyRun) -> None:
    load = Load(toys, rate=5_000)
    load.start()
    sleeper = toys.worker()
    time.sleep(1)
    sleeper.send(signal.SIGSTOP)
    heir = toys.worker()
    heir.wait_for("took partitions")
    sleeper.send(signal.SIGCONT)
    assert sleeper.wait(60) == 70
    assert "another worker took the partition over" in sleeper.log
    load.finish()
    toys.wait_until_committed()
    heir.stop()
    toys.check().assert_exact()


def test_an_idle_owner_renews_its_fence(toys: ToyRun) -> None:
    toys.produce_many(100)
    worker = toys.worker(fence_refresh_s=0.5)
    toys.wait_until_committed()
    before = len(toys.check().applied[0])
    time.sleep(3)
    toys.produce_many(100)
    toys.wait_until_committed()
    worker.stop()
    outcome = toys.check()
    outcome.assert_exact()
    assert len(outcome.applied[0]) >= before + 2


class Taker:
    """A worker's part that takes partitions over and writes."""

    def __init__(self, toys: ToyRun, owner: str, last_epoch: int = 32_767) -> None:
        self.owner = owner
        self.topic = toys.changelog
        self.holdings: dict[int, Holding] = {}
        self.writer = Writer(Cluster(toys.bootstrap))
        self.takeover = Takeover(
            Cluster(toys.bootstrap),
            toys.changelog,
            self.writer,
            owner=owner,
            new_shard=ToyShard,
            timeout_s=20,
            last_epoch=last_epoch,
        )

    async def take(self) -> None:
        await self.writer.start()
        await self.takeover.run(list(range(PARTITIONS)), self.holdings)

    async def write(self, partition: int, **next_offsets: int) -> bool:
        """Write one batch; False when the broker refuses it."""
        holding = self.holdings[partition]
        holding.applied.update(next_offsets)
        applied = encode_applied(holding.applied_record(self.owner))
        batch = await self.writer.one_batch(Records([APPLIED_KEY], [applied]), self.topic, 0)
        try:
            await (await self.writer.send(batch, self.topic, partition, holding.fence))
        except (ProducerFenced, OutOfOrderSequenceNumber):
            return False
        return True


def with_takers(
    toys: ToyRun, count: int, test: Callable[[list[Taker]], Awaitable[None]], **options: int
) -> None:
    async def run() -> None:
        takers = [Taker(toys, f"taker-{i}", **options) for i in range(count)]
        try:
            await test(takers)
        finally:
            for taker in takers:
                await taker.writer.stop()

    toys.create(toys.changelog, **{"cleanup.policy": "compact"})
    asyncio.run(run())


def test_of_simultaneous_takers_one_can_write(toys: ToyRun) -> None:
    async def test(takers: list[Taker]) -> None:
        for _ in range(5):
            await asyncio.gather(*(taker.take() for taker in takers))
            for partition in range(PARTITIONS):
                written = [await taker.write(partition) for taker in takers]
                assert sum(written) == 1

    with_takers(toys, 3, test)


def test_what_an_owner_wrote_before_the_fence_counts_though_the_fence_record_knows_less(
    toys: ToyRun,
) -> None:
    async def test(takers: list[Taker]) -> None:
        old, new, third = takers
        await old.take()
        assert await old.write(0, clicks=5)
        write_claims = new.takeover._write_claims

        async def late_batch_first(*arguments: Any) -> Any:
            await old.write(0, clicks=8)  # after the replay, before the fence
            return await write_claims(*arguments)

        new.takeover._write_claims = late_batch_first  # type: ignore[method-assign]
        await new.take()
        assert new.holdings[0].applied == {"clicks": 8}
        assert not await old.write(0, clicks=9)
        await asyncio.to_thread(compact, toys)  # as if `new` had died before its first batch
        await third.take()
        assert third.holdings[0].applied == {"clicks": 8}

    with_takers(toys, 3, test)


def compact(toys: ToyRun) -> None:
    """Let compaction leave the last `applied` record of partition 0 alone."""
    toys.configure(toys.changelog, **SOON)
    deadline = time.monotonic() + COMPACTED_S
    while True:
        toys.producer.produce(toys.changelog, key=b"u", value=bytes(4 * DIM), partition=0)
        toys.producer.flush()  # a segment is closed when something follows it
        time.sleep(0.5)
        keys = [record.key() for record in toys.read(toys.changelog)[0]]
        if keys.count(APPLIED_KEY) == 1:
            return
        assert time.monotonic() < deadline, keys


def test_an_older_owner_is_refused_also_where_epochs_end(toys: ToyRun) -> None:
    async def test(takers: list[Taker]) -> None:
        ids = set()
        for turn in range(9):
            old, new = takers[turn % 2], takers[1 - turn % 2]
            await new.take()
            fence = new.holdings[0].fence
            assert fence is not None
            assert fence.epoch < 3
            ids.add(fence.producer_id)
            assert await new.write(0)
            if old.holdings:
                assert not await old.write(0)
        assert len(ids) > 1

    with_takers(toys, 2, test, last_epoch=3)


def test_a_changelog_of_a_later_version_is_refused(toys: ToyRun) -> None:
    async def test(takers: list[Taker]) -> None:
        toys.producer.produce(
            toys.changelog, key=APPLIED_KEY, value=b'{"format":3,"next":{}}', partition=0
        )
        toys.producer.flush()
        with pytest.raises(StateError, match="has format 3, this version reads 1, 2"):
            await takers[0].take()

    with_takers(toys, 1, test)
