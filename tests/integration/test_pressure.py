"""A flood of everything, and a broker that stands still in it: the worker's memory has a bound."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from stream.config import Settings
from stream.demo import sample
from stream.kafka.broker import BrokerProcess
from stream.kafka.reader import ENOUGH_RECORDS, FETCH_BYTES
from tests.soak.samples import peak_mib, resident_mib, sums
from tests.soak.shop import PARTITIONS, Worker, make_topics, running

pytestmark = [
    pytest.mark.kafka_only,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

USERS = 500
EVENTS = 150_000
LARGE = 60
LARGE_BYTES = 900_000  # the topics take 1 MiB
BAD_ITEMS = 20_000
DONE_S = 90.0
STILL_S = 4.0  # shorter than the session

EVENT_BYTES = 165 + 250  # columns and bytes of an event
LIST_BYTES = 4_000  # of the sample's k = 20
STATE_BYTES = 1_300


def most_mib(settings: Settings) -> float:
    """What the flood may take: the formula of stream/kafka/README.md, "Memory"."""
    batch = settings.batch
    fetched = 2 * 3 * PARTITIONS * FETCH_BYTES  # clicks, purchases, items; the answer, and its copy
    waiting = (2 * batch.in_flight * batch.max_events + ENOUGH_RECORDS) * EVENT_BYTES
    waiting += 2 * batch.in_flight * LARGE_BYTES
    sending = 2 * batch.in_flight * batch.max_events * (LIST_BYTES + STATE_BYTES)
    sending += 2 * batch.in_flight * LARGE_BYTES
    letters = 2 * (8 << 20)
    return 1.25 * (fetched + waiting + sending + letters) / (1 << 20)


def wait_for(worker: Worker, condition: Callable[[dict[str, float]], bool]) -> None:
    """Wait until the worker's metrics fulfil `condition`."""
    deadline = time.monotonic() + DONE_S
    while not condition(told := defaultdict(float, sums(worker.page()))):
        worker.check()
        assert time.monotonic() < deadline, (told, worker.tail())
        time.sleep(0.2)


def flood(settings: Settings, events: int, large: int, bad_items: int) -> None:
    """Produce events in compressed batches, events that are too large, and bad items."""
    topics = settings.topics
    options = {
        "bootstrap.servers": settings.bootstrap,
        "partitioner": "murmur2_random",
        "linger.ms": 50,
        "queue.buffering.max.messages": 500_000,
        "log_level": 0,
    }
    packed = Producer({**options, "compression.type": "gzip"})
    now_ms = int(time.time() * 1000)
    items = [key for key, _ in sample.catalogue()]
    for number in range(events):
        user = b"u%d" % (number % USERS)
        bought = number % 10 == 0
        packed.produce(
            topics.purchases if bought else topics.clicks,
            key=user,
            value=b'{"event_id":"%d","user_id":"%s","item_id":"%s","type":"%s","event_time_ms":%d,'
            b'"properties":{"page":"%s"}}'
            % (
                number,
                user,
                items[number % len(items)],
                b"purchase" if bought else b"click",
                now_ms,
                b"x" * 100,
            ),
        )
        if number % 1000 == 0:
            packed.poll(0)
    for number in range(bad_items):
        packed.produce(topics.items, key=items[number % len(items)], value=b"{" * 100)
    plain = Producer(options)
    for number in range(large):
        topic = topics.clicks if number % 2 else topics.purchases
        plain.produce(topic, value=b"x" * LARGE_BYTES, partition=number // 2 % PARTITIONS)
    assert packed.flush(60) == 0
    assert plain.flush(60) == 0


def test_a_flood_and_a_broker_that_stands_still_take_no_more_memory_than_documented(
    own_broker: BrokerProcess, unique: str, tmp_path: Path
) -> None:
    settings = make_topics(own_broker.bootstrap, unique)
    log = tmp_path / "worker.log"
    with running(settings, log, FRESHET_BROKER_SESSION_TIMEOUT_S="30") as worker:
        worker.wait_until_ready()
        flood(settings, 4 * USERS, 0, 0)  # all users known, all code met
        wait_for(worker, lambda told: told["freshet_events_total"] == 4 * USERS)
        worker.process.send_signal(signal.SIGSTOP)
        try:
            flood(settings, EVENTS, LARGE, BAD_ITEMS)
        finally:
            worker.process.send_signal(signal.SIGCONT)
        before_mib = resident_mib(worker.pid)
        Path(f"/proc/{worker.pid}/clear_refs").write_text("5")  # the peak from here on
        wait_for(worker, lambda told: told["freshet_events_total"] > EVENTS / 5)
        assert own_broker.pid is not None
        os.kill(own_broker.pid, signal.SIGSTOP)
        try:
            time.sleep(STILL_S)
        finally:
            os.kill(own_broker.pid, signal.SIGCONT)
        wait_for(
            worker,
            lambda told: (
                told["freshet_events_total"] + told["freshet_events_skipped_total"]
                >= EVENTS + 4 * USERS
                and told["freshet_dead_letters_total"] >= LARGE + BAD_ITEMS
                and told["freshet_consumer_lag"] == 0
            ),
        )
        took_mib = peak_mib(worker.pid) - before_mib
        assert sums(worker.page())["freshet_state_users"] == USERS
    print(f"the flood took {took_mib:.0f} MiB of at most {most_mib(settings):.0f}")
    assert took_mib < most_mib(settings)
