"""A broker whose disk is slow, or hangs for a while."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from kafka.admin import NewTopic

from tests.chaos.faulty import admin_of, finish, reason_of_end, wait_for_more
from tests.chaos.shop import Shop, Shoppers, Worker
from tests.support.brokers import must_run, remove_data
from tests.support.seed import SEED
from tests.support.slow_disk import SlowDiskKafka, why_missing

pytestmark = [pytest.mark.kafka_only, pytest.mark.timeout(240)]

RATE = 600
SLOW_MS = 100  # each write: a request to a few partitions takes half a second
HANG_MS = 3_000  # each write: longer than the session (1.5 s), shorter than any patience
FOREVER_MS = 600_000
PATIENCE_S = 5.0
WITHIN_S = 4 * PATIENCE_S
SESSION_S = 30.0
EVENTS = 300


@pytest.fixture(scope="module")
def broker(broker_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlowDiskKafka]:
    if reason := why_missing():
        pytest.fail(reason) if must_run(broker_kind) else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("disk")
    try:
        with SlowDiskKafka(folder / "kafka") as broker:
            yield broker
            broker.disk.delay_ms = 0
    finally:
        remove_data(folder)


@pytest.fixture
def shop(broker: SlowDiskKafka, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, SEED)
    yield shop
    shop.close()
    broker.disk.delay_ms = 0


def feed(shop: Shop) -> None:
    shop.produce(EVENTS)
    shop.flush()


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
    broker.disk.delay_ms = SLOW_MS
    assert send_s(shop, unique) >= SLOW_MS / 1000
    wait_for_more(shop, worker)
    broker.disk.delay_ms = HANG_MS
    time.sleep(HANG_MS / 1000)
    broker.disk.delay_ms = 0
    wait_for_more(shop, worker, RATE)
    shoppers.finish()
    finish(shop, worker)


@pytest.fixture
def idle(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker of little patience that has done all there is, and keeps its place in the group."""
    monkeypatch.setenv("FRESHET_BROKER_RECOVERY_TIMEOUT_S", str(PATIENCE_S))
    monkeypatch.setenv("FRESHET_BROKER_SESSION_TIMEOUT_S", str(SESSION_S))
    worker = shop.worker()
    worker.wait_until_ready()
    feed(shop)
    shop.wait_until_done(worker)
    return worker


def test_a_disk_that_hangs_for_long_ends_a_worker_with_events_in_hand(
    shop: Shop, broker: SlowDiskKafka, idle: Worker
) -> None:
    # The fetch that it waits with is answered before the disk hangs, into its socket: it surely has
    # events in hand when it wakes, and nothing of what it makes of them can be stored.
    idle.send(signal.SIGSTOP)
    feed(shop)
    assert shop.lag() >= EVENTS
    broker.disk.delay_ms = FOREVER_MS
    idle.send(signal.SIGCONT)
    began_s = time.monotonic()
    reason = reason_of_end(shop, idle, WITHIN_S)
    print(f"ended after {time.monotonic() - began_s:.1f} s: {reason}")
    assert "although events wait" in reason
    broker.disk.delay_ms = 0
    worker = shop.worker()
    worker.wait_until_ready()
    feed(shop)
    finish(shop, worker)


def test_a_worker_without_events_waits_for_a_disk_that_hangs_for_long(
    shop: Shop, broker: SlowDiskKafka, idle: Worker
) -> None:
    broker.disk.delay_ms = FOREVER_MS
    time.sleep(WITHIN_S)
    assert idle.alive, idle.tail()
    broker.disk.delay_ms = 0
    feed(shop)
    finish(shop, idle)
