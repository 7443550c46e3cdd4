"""Runs toy workers against a broker and compares what they left with a reference fold."""

from __future__ import annotations

import collections
import os
import random
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stream.config import Settings
from stream.kafka.applied import APPLIED_KEY, Applied, decode_applied
from stream.kafka.specs import changelog_config, changelog_topic
from tests.support.process import Process
from tests.support.toy import DECAY, ECHO, ITEMS, PARTITIONS, VECTORS, Spec

ROOT = Path(__file__).parents[2]
START_S = 40.0


class Worker:
    """A toy worker in a process of its own; `log` is what it wrote."""

    def __init__(self, spec: Spec, log: Path) -> None:
        self.path = log
        log.write_bytes(b"")
        environment = {**os.environ, "TOY": msgspec.json.encode(spec).decode()}
        self.process = Process(["tests.support.toy"], environment, log)

    @property
    def log(self) -> str:
        return self.path.read_text(errors="replace")

    def wait_for(self, pattern: str, timeout_s: float = START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not re.search(pattern, self.log):
            assert self.process.poll() is None, f"ended by itself:\n{self.log[-3000:]}"
            assert time.monotonic() < deadline, f"no {pattern!r} in:\n{self.log[-3000:]}"
            time.sleep(0.05)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def stop(self) -> float:
        """End it in an orderly way; the seconds that took."""
        began = time.monotonic()
        self.send(signal.SIGTERM)
        assert self.wait(15) == 0, self.log[-3000:]
        assert "Traceback" not in self.log, self.log
        return time.monotonic() - began

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Load(threading.Thread):
    """Produces events at a steady rate until `finish`; users of one topic are in no other."""

    def __init__(
        self, run: ToyRun, rate: float, count: int = sys.maxsize, users: int = 2_000
    ) -> None:
        super().__init__(daemon=True)
        self._run, self._rate, self._count, self._users = run, rate, count, users
        self._ended = threading.Event()

    def run(self) -> None:
        chance = random.Random(7)
        sent, began = 0, time.monotonic()
        while sent < self._count and not self._ended.is_set():
            due = min(self._count, int((time.monotonic() - began) * self._rate))
            for _ in range(due - sent):
                number = chance.randrange(len(self._run.spec.sources))
                self._run.produce(number, chance.randrange(self._users), chance.randrange(ITEMS))
            sent = due
            self._run.producer.poll(0)
            time.sleep(0.01)

    def finish(self) -> None:
        self._ended.set()
        self.join()
        self._run.producer.flush()


class ToyRun:
    """Topics, group and workers of one test."""

    def __init__(
        self,
        bootstrap: str,
        unique: str,
        folder: Path,
        **options: Any,
    ) -> None:
        group = f"toy-{unique}"
        sources = (f"{group}-clicks", f"{group}-purchases")
        self.spec = Spec(bootstrap, group, sources, f"{group}-lists", **options)
        self.changelog = changelog_topic(Settings(group=group), "toy")
        self.bootstrap = bootstrap
        self._folder = folder
        self.workers: list[Worker] = []
        self.ends: dict[tuple[str, int], int] = {}
        self._created: set[str] = set()
        self.create(*sources, self.spec.output)
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                "log_level": 0,
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def create(self, *topics: str, **config: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        new = [NewTopic(topic, PARTITIONS, 1, config=config) for topic in topics]
        for future in admin.create_topics(new).values():
            future.result()
        self._created.update(topics)

    def configure(self, topic: str, **config: str) -> None:
        """Change a topic's configuration; what is not named stays."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        resource = ConfigResource(
            ResourceType.TOPIC,
            topic,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in config.items()
            ],
        )
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()

    def delete(self, *topics: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for future in admin.delete_topics(list(topics)).values():
            future.result()
        time.sleep(1)  # the broker deletes behind its answer

    def produce(self, number: int, user: int, item: int) -> None:
        name = f"{'cp'[number]}{user}"
        self.producer.produce(
            self.spec.sources[number],
            key=name,
            value=b'{"user_id":"%s","item_id":%d}' % (name.encode(), item),
            on_delivery=self._delivered,
        )

    def _delivered(self, error: Any, record: Any) -> None:
        assert error is None, error
        at = (record.topic(), record.partition())
        self.ends[at] = max(self.ends.get(at, 0), record.offset() + 1)

    def produce_many(self, count: int, users: int = 2_000) -> None:
        load = Load(self, rate=1e9, count=count, users=users)
        load.run()
        self.producer.flush()

    def worker(self, **changes: Any) -> Worker:
        """Start one and wait until it serves; `changes` to the specification."""
        worker = self.worker_starting(**changes)
        worker.wait_for("positions: ")
        return worker

    def worker_starting(self, **changes: Any) -> Worker:
        spec = msgspec.structs.replace(self.spec, **changes)
        if self.changelog not in self._created:
            self.create(self.changelog, **changelog_config(Settings()))
        worker = Worker(spec, self._folder / f"worker-{len(self.workers)}.log")
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()

    def wait_until_committed(self, timeout_s: float = 40.0) -> None:
        """Wait until the group committed the end of every source partition."""
        self.producer.flush()
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.spec.group})
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                wanted = [TopicPartition(*at) for at in self.ends]
                committed = consumer.committed(wanted, timeout=10)
                behind = [tp for tp in committed if tp.offset < self.ends[tp.topic, tp.partition]]
                if not behind:
                    return
                assert time.monotonic() < deadline, (behind, self.workers[-1].log[-3000:])
                time.sleep(0.1)
        finally:
            consumer.close()

    def read(self, topic: str) -> list[list[Any]]:
        """All records of a topic, by partition."""
        reader = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": "none", "enable.partition.eof": True}
        )
        found: list[list[Any]] = [[] for _ in range(PARTITIONS)]
        open_partitions = set(range(PARTITIONS))
        reader.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in open_partitions])
        while open_partitions:
            for record in reader.consume(10_000, 0.1):
                if record.error():
                    open_partitions.discard(record.partition())
                else:
                    found[record.partition()].append(record)
        reader.close()
        return found

    def check(self) -> Outcome:
        """Compare states and lists with what the source topics hold."""
        outcome = Outcome()
        logs = {t: self.read(t) for t in (*self.spec.sources, self.changelog, self.spec.output)}
        for partition in range(PARTITIONS):
            self._check_partition(partition, logs, outcome)
        return outcome

    def _check_partition(
        self, partition: int, logs: dict[str, list[list[Any]]], outcome: Outcome
    ) -> None:
        reference: dict[bytes, Any] = {}
        events = set()
        ends = {}
        for number, topic in enumerate(self.spec.sources):
            records = logs[topic][partition]
            ends[topic] = len(records)
            for record in records:
                item = int(msgspec.json.decode(record.value())["item_id"])
                state = reference.get(record.key(), np.float32(0))
                reference[record.key()] = state * DECAY + VECTORS[item]
                events.add((number, partition, record.offset()))
        states: dict[bytes, bytes] = {}
        applied = []
        for record in logs[self.changelog][partition]:
            if record.key() == APPLIED_KEY:
                applied.append(decode_applied(record.value(), self.changelog, partition))
            else:
                states[record.key()] = record.value()
        outcome.applied[partition] = applied
        outcome.events += len(events)
        outcome.wrong += sum(
            states.get(user) != state.tobytes() for user, state in reference.items()
        ) + len(states.keys() - reference.keys())
        if any(applied[-1].next.get(topic, 0) != end for topic, end in ends.items() if end):
            outcome.behind.append(partition)
        newest = -2
        listed: collections.Counter[tuple[int, int, int]] = collections.Counter()
        for record in logs[self.spec.output][partition]:
            number, from_partition, offset, epoch = ECHO.unpack(record.value()[: ECHO.size])
            listed[number, from_partition, offset] += 1
            outcome.stale += epoch < newest
            newest = max(newest, epoch)
        outcome.unlisted += len(events - listed.keys())
        outcome.repeated += sum(listed.values()) - len(listed)


class Outcome:
    """What differs from the reference.

    Attributes
    ----------
    wrong : users whose state is not bit for bit the reference's
    unlisted : events without a list; repeated : lists beyond the first of an event
    stale : lists of an older owner behind one of a newer owner
    behind : partitions whose applied offsets are not the ends of their sources
    applied : partition -> its `applied` records in order
    """

    def __init__(self) -> None:
        self.events = self.wrong = self.unlisted = self.repeated = self.stale = 0
        self.behind: list[int] = []
        self.applied: dict[int, list[Applied]] = {}

    def __str__(self) -> str:
        return (
            f"{self.events} events, {self.wrong} states wrong, {self.unlisted} events unlisted, "
            f"{self.repeated} lists repeated, {self.stale} stale, behind {self.behind}"
        )

    def assert_exact(self) -> None:
        assert self.events > 0
        assert (self.wrong, self.unlisted, self.stale, self.behind) == (0, 0, 0, []), str(self)
