"""A broker whose disk is slow, or hangs for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka.admin import NewTopic

from tests.chaos.check import check
from tests.chaos.faulty import SEED, admin_of, reason_of_end, wait_for_more
from tests.chaos.shop import Shop, Shoppers, Worker
from tests.support.brokers import must_run, remove_data
from tests.support.slow_disk import SlowDiskKafka, why_missing

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(240)]

RATE = 600
SLOW_MS = 100  # each write: a request to a few partitions takes half a second
HANG_MS = 3_000  # each write: longer than the session (1.5 s), shorter than any patience
FOREVER_MS = 600_000
PATIENCE_S = 5.0


@pytest.fixture(scope="module")
def broker(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDiskKafka]:
    if reason := why_missing():
        pytest.fail(reason) if must_run(broker_kind) else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("disk")
    try:
        with SlowDiskKafka(folder / "kafka") as broker:
            yield broker
            broker.disk_delay_ms = 0
    finally:
        remove_data(folder)


@pytest.fixture
def shop(broker: SlowDiskKafka, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()
    broker.disk_delay_ms = 0


def finish(shop: Shop, worker: Worker) -> None:
    """Let the worker come to the end, and compare all with the reference."""
    shop.wait_until_done(worker)
    assert worker.stop() == 0, worker.tail()
    verdict = check(shop)
    print(verdict)
    assert verdict.right, verdict


def send_s(shop: Shop, topic: str) -> float:
    """How long the broker takes to acknowledge a record."""
    with admin_of(shop) as admin:
        admin.create_topics([NewTopic(f"probe-{topic}", 1, 1)])
    producer = Producer({"bootstrap.servers": shop.settings.bootstrap, "linger.ms": 0})
    producer.produce(f"probe-{topic}", b"first: it finds the leader")
    producer.flush()
    began_s = time.monotonic()
    producer.produce(f"probe-{topic}", b"second")
    producer.flush()
    return time.monotonic() - began_s


def test_a_worker_lives_through_a_slow_disk(shop: Shop, broker: SlowDiskKafka, unique: str) -> None:
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    wait_for_more(shop, worker)
    broker.disk_delay_ms = SLOW_MS
    assert send_s(shop, unique) >= SLOW_MS / 1000
    wait_for_more(shop, worker)
    broker.disk_delay_ms = HANG_MS
    time.sleep(HANG_MS / 1000)
    broker.disk_delay_ms = 0
    wait_for_more(shop, worker, RATE)
    shoppers.finish()
    finish(shop, worker)


def test_a_disk_that_hangs_for_long_loses_nothing(
    shop: Shop, broker: SlowDiskKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With events in hand the worker ends itself; one that got none before the disk hung waits."""
    monkeypatch.setenv("FRESHET_BROKER_RECOVERY_TIMEOUT_S", str(PATIENCE_S))
    worker = shop.worker()
    worker.wait_until_ready()
    shoppers = Shoppers(shop, RATE)
    shoppers.start()
    wait_for_more(shop, worker)
    broker.disk_delay_ms = FOREVER_MS
    time.sleep(4 * PATIENCE_S)
    ended = worker.process.poll() is not None
    if ended:
        reason = reason_of_end(shop, worker, 1)
        assert "no progress" in reason or "not acknowledged" in reason
    broker.disk_delay_ms = 0
    print("ended itself" if ended else "waits")
    if not ended:
        time.sleep(2)
        ended = worker.process.poll() is not None
    if ended:
        worker = shop.worker()
        worker.wait_until_ready()
    shoppers.finish()
    finish(shop, worker)
