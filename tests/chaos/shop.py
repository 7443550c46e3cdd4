"""A shop on a real broker: topics, settings, traffic, a subscriber and workers.

A test that breaks single things has `worker`, `produce` and `wait_until_done`; a storm of faults
(`storm.py`) has `fleet` and `drain`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from stream.config import Settings, load_settings
from stream.core.bundle import Bundle
from stream.kafka.specs import changelog_topic
from stream.kafka.topics import create_topics
from tests.chaos import segments
from tests.chaos.changelog import Changelog, FreshetChangelog
from tests.chaos.fleet import FRESHET, Engine, Fleet, Worker
from tests.chaos.history import Journal, SeenList
from tests.chaos.keeping import PLAIN, Keeping
from tests.chaos.logs import Logs, Writer, Writers
from tests.chaos.names import Names
from tests.chaos.subscriber import Subscriber
from tests.chaos.traffic import DIM, ITEMS, Shoppers, Traffic
from tests.support.bundles import random_decay_bundle

__all__ = ["ITEMS", "PARTITIONS", "SESSION_S", "Shop", "Shoppers", "Worker"]

PARTITIONS = 4
SESSION_S = 1.5  # short, so that a killed worker's partitions are free again soon
DONE_S = 90.0
SETTLED_S = 0.3  # within which the broker has what sleeping workers sent
LETTERS_S = 2.0  # within which a bad catalogue record is in the dead letters

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
trending = "trending-{unique}"
partitions = {partitions}
[batch]
max_events = 256
[broker]
session_timeout_s = {session_s}
heartbeat_s = 0.4
commit_every_s = 0.2
[placements.{placement}]
k = 3
exclude_seen = true
[placements.{placement}.explore]
temperature = {temperature}
half_life_s = {half_life_s}
"""


class Shop:
    """All of one run but the faults.

    Parameters
    ----------
    unique : suffix of its topics and group
    folder : for the bundle, the histories and the workers' logs
    seed : of the traffic
    engine, changelog : what its workers are, and how their changelog is read
    keeping : how they keep states
    """

    def __init__(
        self,
        bootstrap: str,
        unique: str,
        folder: Path,
        seed: int,
        engine: Engine = FRESHET,
        changelog: Callable[[Logs, str], Changelog] = FreshetChangelog,
        keeping: Keeping = PLAIN,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.keeping = keeping
        self.bundle: Bundle = random_decay_bundle(folder / "bundle", ITEMS, dim=DIM)
        self.config = folder / "freshet.toml"
        self.config.write_text(
            SETTINGS.format(
                bootstrap=bootstrap,
                unique=unique,
                bundle=self.bundle.path,
                partitions=PARTITIONS,
                session_s=SESSION_S,
                placement=segments.PLACEMENT,
                temperature=segments.TEMPERATURE,
                half_life_s=segments.HALF_LIFE_MS / 1000,
            )
        )
        self.settings: Settings = load_settings(self.config)
        create_topics(self.settings)
        topics = self.settings.topics
        self._kept: list[tuple[dict[int, list[SeenList]], list[Writers]]] = []
        self._journals = [Journal(folder / f"{name}.jsonl") for name in ("produced", "seen")]
        names = Names(seed)
        self.traffic = Traffic(bootstrap, topics, seed, self._journals[0], names)
        self.subscriber = Subscriber(bootstrap, topics, self._journals[1], names)
        self.fleet = Fleet(self.config, folder, engine.where(keeping.environment))
        self.logs = Logs(bootstrap)
        self.changelog = changelog(self.logs, changelog_topic(self.settings))
        quiet = {"bootstrap.servers": bootstrap, "log_level": 0}
        # One reader for all: it knows its way after the first read. A short wait: the end of a
        # partition is an empty answer.
        wait = {"enable.partition.eof": True, "fetch.wait.max.ms": 20, "enable.auto.commit": False}
        self._reader = Consumer({**quiet, **wait, "group.id": "none"})
        # Looks at the workers' group and never joins it.
        self._group = Consumer({**quiet, "group.id": self.settings.group})
        self._sources = [
            TopicPartition(topic, partition)
            for topic in (topics.clicks, topics.purchases, topics.erasures)
            for partition in range(PARTITIONS)
        ]

    def close(self) -> None:
        self.fleet.close()
        self.subscriber.close()
        self._reader.close()
        self._group.close()
        for journal in self._journals:
            journal.close()

    def subscribe(self) -> None:
        """Let the subscriber read, from the beginning, unless it does already."""
        if self.subscriber.ident is None:
            self.subscriber.start()

    # -- one worker at a time --------------------------------------------------------------

    def worker(self, module: str = "stream.cli", **environment: str) -> Worker:
        """Start a worker, or another module in its place; nobody looks after it."""
        engine = self.fleet.engine.instead(module, **environment)
        return self.fleet.start(engine, bound_to_end=True, log="worker.log")

    def produce(self, count: int) -> None:
        self.traffic.produce(count)

    def flush(self) -> None:
        self.traffic.flush()

    def wait_until_done(self, worker: Worker, timeout_s: float = DONE_S) -> None:
        """Wait until the group has committed the end of every source partition."""
        deadline = time.monotonic() + timeout_s
        # The ends move on: a worker answers erasures with nulls on their own topic.
        while (done := self.committed()) != (ends := self.ends()):
            assert worker.alive, worker.tail()
            assert time.monotonic() < deadline, f"{done} of {ends}:\n{worker.tail()}"
            time.sleep(0.2)
        time.sleep(LETTERS_S if self.traffic.new_items else 0)

    def drain(self, timeout_s: float = DONE_S) -> bool:
        """Let the fleet work until everything sent is committed; False when it takes too long."""
        self.traffic.flush()
        done = self.fleet.wait_until(lambda: self.lag() == 0, timeout_s)
        self.fleet.wait(LETTERS_S)
        return done

    # -- lists, whose topic may be made anew --------------------------------------------------

    def keep_lists(self) -> None:
        """Set aside the lists, for their topic goes; nobody may be writing to it.

        `subscriber.read_anew` goes on once it is there again.
        """
        topic = self.settings.topics.recommendations
        time.sleep(SETTLED_S)
        self.logs.find()
        writers = [self.logs.writers(topic, at) for at in range(PARTITIONS)]
        self._kept.append((self.subscriber.let_go(), writers))

    def lists(self, partition: int) -> Iterator[tuple[SeenList, Writer]]:
        """All that the subscriber saw of a partition, and who wrote it."""
        now = self.logs.writers(self.settings.topics.recommendations, partition)
        for seen, writers in (
            *((kept[partition], writers[partition]) for kept, writers in self._kept),
            (self.subscriber.seen.lists[partition], now),
        ):
            for one in seen:
                yield one, writers.of(one.offset)

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

    def ends(self) -> list[int]:
        """End offset of every source partition."""
        return [self._group.get_watermark_offsets(tp, timeout=10)[1] for tp in self._sources]

    def lag(self) -> int:
        """Events that the group has not committed; -1 while the broker does not tell."""
        try:
            return sum(self.ends()) - sum(self.committed())
        except KafkaException:
            return -1
