"""Counts on a broker: exactly once over a kill -9, told to others, trending published."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from stream.contracts import item_hash
from stream.contracts.trending import decode_trending
from stream.core.keys import ITEM_PREFIX
from stream.core.manifest import read_manifest
from stream.core.statistics.fading import rows_in
from stream.core.statistics.segments import Row
from stream.demo import sample
from stream.kafka.broker import BrokerProcess
from stream.placements import Explore
from tests.support.bundles import counts_key_in
from tests.support.freshet import Freshet, interrupt, producing, wait_for

PARTITIONS = 3  # of `Freshet`
WORKER = {
    "FRESHET_BUNDLE": str(sample.BUNDLE),
    "FRESHET_BROKER_SESSION_TIMEOUT_S": "6",
    "FRESHET_BROKER_HEARTBEAT_S": "1",
    "FRESHET_STATISTICS_TELL_EVERY_S": "0.1",
    "FRESHET_STATISTICS_TRENDING_EVERY_S": "0.3",
    "FRESHET_STATISTICS_TRENDING_K": "3",
}
ITEM, OTHER = "85123A", "22423"
WITHIN_S = 40.0
EXPLORE = Explore(temperature=0.25)


def send(
    freshet: Freshet, item: str, users: range, kind: str = "click", placement: str | None = None
) -> None:
    """An event of each user."""
    event = {"item_id": item, "type": kind, "event_time_ms": time.time_ns() // 1_000_000}
    event |= {} if placement is None else {"placement": placement}
    topic = freshet.topic["purchases" if kind == "purchase" else "clicks"]
    with producing(freshet.bootstrap) as producer:
        for number in users:
            user = f"user-{number}"
            value = json.dumps({**event, "user_id": user}).encode()
            producer.send(topic, key=user.encode(), value=value)


def newest(freshet: Freshet, topic: str) -> dict[tuple[int, bytes], bytes | None]:
    """What compaction would leave of a topic."""
    consumer: Any = KafkaConsumer(bootstrap_servers=freshet.bootstrap, group_id=None)
    where = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    found = {}
    try:
        consumer.assign(where)
        consumer.seek_to_beginning(*where)
        quiet_s = 0.0
        while quiet_s < 1.0:  # the embedded broker tells no exact end
            polled = consumer.poll(timeout_ms=200)
            quiet_s = 0.0 if polled else quiet_s + 0.2
            for records in polled.values():
                found.update({(r.partition, r.key): r.value for r in records})
    finally:
        consumer.close(autocommit=False)
    return found


def counts(freshet: Freshet, topic: str, prefix: bytes = b"") -> tuple[float, float, float]:
    """Clicks, purchases and recent ones of the item, as these rows have them."""
    key = prefix + item_hash(ITEM).to_bytes(8, "little")
    rows = rows_in([value for (_, name), value in newest(freshet, topic).items() if name == key])
    return (
        float(rows["clicks"].sum()),
        float(rows["purchases"].sum()),
        float(rows["recent"].sum()),
    )


def await_counts(freshet: Freshet, clicks: int, purchases: int) -> None:
    """Wait until both topics tell so many, a little faded, and no more."""
    group = freshet.environ["FRESHET_GROUP"]
    wanted = pytest.approx((clicks, purchases, clicks + purchases), rel=0.05, abs=0.05)
    places = [(f"{group}-statistics", b""), (f"{group}-interests-changelog", ITEM_PREFIX)]
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = [counts(freshet, *place) for place in places]
        if all(one == wanted for one in found):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.3)


def await_lists_counted(freshet: Freshet, impressions: int, clicks: int) -> None:
    """Wait until both topics tell of so many that came of the placement's lists, and no more."""
    group = freshet.environ["FRESHET_GROUP"]
    key = counts_key_in(read_manifest(sample.BUNDLE), "home", EXPLORE)
    wanted = pytest.approx((impressions, clicks), rel=0.01)
    deadline = time.monotonic() + WITHIN_S
    while True:
        found = []
        for topic in (f"{group}-statistics", f"{group}-interests-changelog"):
            told = {at: value for at, value in newest(freshet, topic).items() if at[1] == key}
            rows = [Row.of(value).counts.sum(axis=(1, 2)) for value in told.values() if value]
            found.append(tuple(sum(row[column] for row in rows) for column in range(2)))
        if all(one == wanted for one in found):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.3)


def await_popular(freshet: Freshet, *items: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        told = newest(freshet, freshet.topic["trending"])
        lists = {key: decode_trending(value) for (_, key), value in told.items() if value}
        found = [line.item_id for line in lists[b"product"].popular] if lists else []
        if found == list(items):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.3)


def test_counts_outlive_a_kill_and_what_is_popular_is_published(
    broker: BrokerProcess, unique: str
) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    with freshet.start("worker", environ=WORKER) as worker:
        wait_for(worker, "took partitions")
        send(freshet, ITEM, range(40))
        send(freshet, ITEM, range(5), "purchase")
        await_counts(freshet, 40, 5)
        await_popular(freshet, ITEM)
        worker.kill()
    send(freshet, ITEM, range(40, 60))
    send(freshet, OTHER, range(3))
    with freshet.start("worker", environ=WORKER) as worker:
        wait_for(worker, "took partitions")
        await_counts(freshet, 60, 5)
        await_popular(freshet, ITEM, OTHER)
        interrupt(worker)


def test_what_came_of_lists_outlives_a_kill(
    broker: BrokerProcess, unique: str, tmp_path: Path
) -> None:
    freshet = Freshet(broker.bootstrap, unique)
    freshet.run("topics", "create")
    file = tmp_path / "freshet.toml"
    file.write_text(f"[placements.home.explore]\ntemperature = {EXPLORE.temperature}\n")
    environ = {**WORKER, "FRESHET_CONFIG": str(file)}
    with freshet.start("worker", environ=environ) as worker:
        wait_for(worker, "took partitions")
        send(freshet, ITEM, range(40), "impression", "home")
        send(freshet, ITEM, range(5), "click", "home")
        send(freshet, ITEM, range(9), "click")
        await_lists_counted(freshet, 40, 5)
        worker.kill()
    send(freshet, ITEM, range(40, 60), "impression", "home")
    with freshet.start("worker", environ=environ) as worker:
        wait_for(worker, "took partitions")
        await_lists_counted(freshet, 60, 5)
        interrupt(worker)
