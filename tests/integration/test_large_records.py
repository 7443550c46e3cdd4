"""Records larger than a fetch, than the dead letters take, than anybody expected."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from kafka.admin import ConfigResource, ConfigResourceType

from stream.kafka.admin import open_admin
from stream.kafka.broker import BrokerProcess
from tests.chaos.shop import PARTITIONS, Shop, Worker

LARGE = 3 << 20
LIMIT = 16 << 20


@pytest.fixture
def shop(broker: BrokerProcess, unique: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(broker.bootstrap, unique, tmp_path, seed=1)
    yield shop
    shop.close()


def take_larger(shop: Shop, *topics: str) -> None:
    """Raise the topics' max.message.bytes."""
    with open_admin(shop.settings.bootstrap) as admin:
        admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC, topic, configs={"max.message.bytes": str(LIMIT)}
                )
                for topic in topics
            ]
        )


def send(shop: Shop, topic: str, key: bytes, value: bytes) -> None:
    producer = Producer(
        {
            "bootstrap.servers": shop.settings.bootstrap,
            "partitioner": "murmur2_random",
            "message.max.bytes": LIMIT,
        }
    )
    failed: list[Any] = []
    producer.produce(topic, key=key, value=value, on_delivery=lambda e, _: failed.append(e))
    assert producer.flush(30) == 0
    assert failed == [None]


def wait_for(read: Callable[[], list[Any]], count: int, worker: Worker) -> list[Any]:
    """What `read` answers, once it is `count` long."""
    deadline = time.monotonic() + 30
    while len(found := read()) < count:
        assert worker.process.poll() is None, worker.tail()
        assert time.monotonic() < deadline, f"{len(found)} of {count}: {worker.tail()}"
        time.sleep(0.2)
    return found


def read(shop: Shop, topic: str) -> list[Any]:
    return [record for partition in range(PARTITIONS) for record in shop.read(topic, partition)]


def large(user: str, size: int) -> bytes:
    event = {"user_id": user, "item_id": "i1", "type": "click", "event_time_ms": 1_795_000_000_000}
    return msgspec.json.encode({**event, "properties": {"x": "x" * size}})


def test_a_large_record_becomes_a_letter_and_the_worker_goes_on(
    shop: Shop, broker: BrokerProcess
) -> None:
    worker = shop.worker()
    worker.wait_until_ready()
    topics = shop.settings.topics
    if broker.kind == "kafka":  # the embedded one takes any size
        take_larger(shop, topics.clicks, topics.items)
    whole, packed, cut = large("u1", 100_000), large("u1", LARGE), os.urandom(LARGE)
    send(shop, topics.clicks, b"u1", whole)
    send(shop, topics.clicks, b"u1", packed)
    send(shop, topics.clicks, b"u1", cut)
    send(shop, topics.clicks, os.urandom(LARGE), cut)
    send(shop, topics.items, b"i1", cut)

    def too_large() -> list[Any]:
        """Key, value and what the headers tell of their lengths."""
        found = []
        for record in read(shop, topics.dead_letters):
            told = {name.removeprefix("freshet-"): value for name, value in record.headers()}
            assert told["reason"] == b"value_too_large"
            lengths = told.get("value-bytes"), told.get("key-bytes")
            found.append((told["topic"].decode(), record.key(), record.value(), *lengths))
        return sorted(found, key=str)

    found = wait_for(too_large, 5, worker)
    length = b"%d" % len(cut)
    expected = [
        (topics.clicks, b"u1", whole, None, None),
        (topics.clicks, b"u1", packed, None, None),
        (topics.clicks, b"u1", b"", length, None),
        (topics.clicks, None, b"", length, b"%d" % LARGE),
        (topics.items, b"i1", b"", length, None)
        if broker.kind == "kafka"
        else (topics.items, b"i1", cut, None, None),  # not refused there
    ]
    assert found == sorted(expected, key=str)
    shop.produce(100)
    shop.flush()
    wait_for(lambda: read(shop, topics.recommendations), 1, worker)
    assert worker.stop() == 0, worker.tail()
    if broker.kind == "kafka":  # the next one starts all the same, and says what it will do
        worker = shop.worker()
        worker.wait_until_ready()
        assert "and a whole dead letter can take" in worker.tail()
        assert worker.stop() == 0, worker.tail()
