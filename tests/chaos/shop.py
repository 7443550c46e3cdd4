"""A shop on a real broker: topics, a stream of events with dirt in it, workers to be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from stream.config import Settings, load_settings
from stream.core.bundle import Bundle
from stream.kafka.broker import free_port
from stream.kafka.topics import create_topics
from tests.support.bundles import random_decay_bundle

ROOT = Path(__file__).parents[2]
PARTITIONS = 4
ITEMS = 300
USERS = 3_000
READY_S = 60.0
GARBAGE = (b"", b"not json", b'{"user_id":1}', b"\xff\xfe", b"[" * 2000, b'{"type":"click"}')
CLICKS = ("view", "view", "click", "click", "add_to_cart", "like", "dislike", "impression")

# A short session, so that a killed worker's partitions are free again soon.
SETTINGS = """
bootstrap = "{bootstrap}"
group = "shop-{unique}"
bundle = "{bundle}"
log_level = "info"
[topics]
clicks = "clicks-{unique}"
purchases = "purchases-{unique}"
items = "items-{unique}"
requests = "requests-{unique}"
erasures = "erasures-{unique}"
recommendations = "recommendations-{unique}"
answers = "answers-{unique}"
dead_letters = "dead-letters-{unique}"
receipts = "receipts-{unique}"
partitions = {partitions}
[batch]
max_events = 256
[broker]
session_timeout_s = 1.5
heartbeat_s = 0.4
commit_every_s = 0.2
[placements.home]
k = 3
exclude_seen = true
"""


class Worker:
    """A `freshet worker` in a process of its own, or another module in its place."""

    def __init__(self, config: Path, log: Path, module: str) -> None:
        self.port = free_port()
        self._log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "worker", "--config", str(config)],
                cwd=ROOT,
                env={**os.environ, "FRESHET_METRICS_PORT": str(self.port)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            body: bytes = answer.read()
            return body.decode()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            assert self.process.poll() is None, f"ended by itself:\n{self.tail()}"
            assert time.monotonic() < deadline, f"not ready:\n{self.tail()}"
            try:
                self.get("/readyz")
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it in an orderly way; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-4000:]


class Shop:
    """Topics, settings and a producer of their own for one test."""

    def __init__(self, bootstrap: str, unique: str, folder: Path, seed: int) -> None:
        self.bundle: Bundle = random_decay_bundle(folder / "bundle", ITEMS, dim=16)
        self.config = folder / "freshet.toml"
        self.config.write_text(
            SETTINGS.format(
                bootstrap=bootstrap,
                unique=unique,
                bundle=self.bundle.path,
                partitions=PARTITIONS,
            )
        )
        self.settings: Settings = load_settings(self.config)
        create_topics(self.settings)
        self._log = folder / "worker.log"
        self._workers: list[Worker] = []
        self._chance = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "log_level": 0,
            }
        )
        self._sent: list[tuple[str, bytes, bytes]] = []
        quiet = {"bootstrap.servers": bootstrap, "log_level": 0}
        # One reader for all: it knows its way after the first read. A short wait: the end of a
        # partition is an empty answer.
        wait = {"enable.partition.eof": True, "fetch.wait.max.ms": 20, "enable.auto.commit": False}
        self._reader = Consumer({**quiet, **wait, "group.id": "none"})
        # Looks at the workers' group and never joins it.
        self._group = Consumer({**quiet, "group.id": self.settings.group})
        self._sources = [
            TopicPartition(topic, partition)
            for topic in (self.settings.topics.clicks, self.settings.topics.purchases)
            for partition in range(PARTITIONS)
        ]

    def worker(self, module: str = "stream.cli") -> Worker:
        worker = Worker(self.config, self._log, module)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._reader.close()
        self._group.close()

    # -- events ----------------------------------------------------------------------------

    def produce(self, count: int) -> None:
        """Send `count` records: views to purchases, late, repeated, unknown and broken ones."""
        for _ in range(count):
            topic, key, value = self._record()
            self._producer.produce(topic, key=key, value=value)
        self._producer.poll(0)

    def _record(self) -> tuple[str, bytes, bytes]:
        chance, topics = self._chance, self.settings.topics
        if self._sent and chance.random() < 0.02:
            return chance.choice(self._sent[-200:])  # the shop's own retry
        user = f"u{int(USERS * chance.random() ** 2)}"
        if chance.random() < 0.005:
            return topics.clicks, user.encode(), chance.choice(GARBAGE)
        bought = chance.random() < 0.15
        event = {
            "event_id": f"{chance.getrandbits(64):x}",
            "user_id": user,
            "item_id": f"i{chance.randrange(1, ITEMS + 20)}",
            "type": chance.choice(("purchase", "purchase", "cancel") if bought else CLICKS),
            "event_time_ms": int(time.time() * 1000) - chance.choice((0, 0, 0, 90_000_000)),
        }
        topic = topics.purchases if bought else topics.clicks
        record = (topic, user.encode(), msgspec.json.encode(event))
        self._sent.append(record)
        return record

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    # -- reading ---------------------------------------------------------------------------

    def read(self, topic: str, partition: int) -> list[Any]:
        """All records of a partition, confluent_kafka messages in offset order."""
        found: list[Any] = []
        self._reader.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        while True:
            for record in self._reader.consume(10_000, 0.05):
                error = record.error()
                if error is None:
                    found.append(record)
                elif error.code() == KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise KafkaException(error)

    def committed(self) -> list[int]:
        """Offsets that the group committed, of every source partition; 0 where none."""
        found = self._group.committed(self._sources, timeout=10)
        return [max(0, source.offset) for source in found]

    def wait_until_done(self, worker: Worker, timeout_s: float = 90.0) -> None:
        """Wait until the group has committed the end of every source partition."""
        ends = [
            self._group.get_watermark_offsets(source, timeout=10)[1] for source in self._sources
        ]
        deadline = time.monotonic() + timeout_s
        while (done := self.committed()) != ends:
            assert worker.process.poll() is None, worker.tail()
            assert time.monotonic() < deadline, f"{done} of {ends}:\n{worker.tail()}"
            time.sleep(0.2)


class Shoppers(threading.Thread):
    """Produces at a steady rate until `finish`."""

    def __init__(self, shop: Shop, rate: int) -> None:
        super().__init__(daemon=True)
        self._shop, self._rate = shop, rate
        self._ended = threading.Event()

    def run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._ended.wait(0.02):
            due = int((time.monotonic() - began) * self._rate)
            self._shop.produce(due - sent)
            sent = due

    def finish(self) -> None:
        self._ended.set()
        self.join()
        self._shop.flush()
