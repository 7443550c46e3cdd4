"""A worker dies once its changelog was compacted: who takes over must go on as if it had not been.

What stood there before is kept aside, so that the checker judges the whole of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream.kafka.broker import BrokerProcess
from stream.kafka.specs import changelog_topic
from tests.chaos.check import check
from tests.chaos.faulty import configure
from tests.chaos.keeping import BRIEF
from tests.chaos.shop import PARTITIONS, Shop
from tests.support.compaction import NOT_NOW, SOON
from tests.support.seed import SEED

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(180)]

EVENTS = 4_000
COMPACTED_S = 60.0
NOBODY = b"nobody"  # whose tombstones close segments


@pytest.fixture
def shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED, keeping=BRIEF)
    shop.traffic.erases = True
    yield shop
    shop.close()


def compact(shop: Shop, topic: str) -> tuple[int, int]:
    """Wait until each key stands once in what was kept aside; records before and after."""
    kept = [shop.logs.keep(topic, partition) for partition in range(PARTITIONS)]
    producer = Producer({"bootstrap.servers": shop.settings.bootstrap, "linger.ms": 0})
    configure(shop, topic, **SOON)
    deadline = time.monotonic() + COMPACTED_S
    while True:
        left = [shop.logs.keys_below(topic, at, kept[at].end) for at in range(PARTITIONS)]
        if all(len(keys) == len(set(keys)) for keys in left):
            break
        assert time.monotonic() < deadline, [len(keys) for keys in left]
        for partition in range(PARTITIONS):
            producer.produce(topic, None, NOBODY, partition)
        producer.flush()
        time.sleep(0.5)
    configure(shop, topic, **NOT_NOW)
    for partition in range(PARTITIONS):
        shop.logs.resume(topic, partition)
    before = sum(len(batch.records) for one in kept for batch in one.batches)
    return before, sum(map(len, left))


def test_a_takeover_from_a_compacted_changelog_goes_on_exactly(shop: Shop) -> None:
    worker = shop.worker()
    worker.wait_until_ready()
    for _ in range(2):  # users who left in the meantime come back
        shop.produce(EVENTS // 2)
        shop.flush()
        shop.wait_until_done(worker)
    shop.logs.find()
    before, after = compact(shop, changelog_topic(shop.settings))
    print(f"{before} records, {after} after compaction")
    assert after < before / 2
    worker.kill()
    heir = shop.worker()
    heir.wait_until_ready()
    shop.produce(EVENTS)
    shop.flush()
    shop.wait_until_done(heir)
    assert heir.stop() == 0, heir.tail()
    verdict = check(shop)
    print(verdict.table())
    assert verdict.right, verdict.table()
    assert verdict.owners == 2
    assert verdict.evicted > 0
    assert verdict.returned > 0
    assert verdict.erasures > 0
