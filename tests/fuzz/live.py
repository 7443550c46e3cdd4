"""Fuzzing a real worker on a real broker. In: records. Out: counts, and what went wrong.

Every topic gets the whole corpus and records at random in batches of every compression, and batches
written byte by byte: bombs, damage, names that are not UTF-8, transactions. Then each bad record
must be a dead letter, exactly as sent; each user's state must be what the good records make of it;
and no log line or metric may show an id.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from confluent_kafka import Producer

from stream.app import load_engine
from stream.contracts import Headers, Unreadable
from stream.core.state import UserShard
from stream.core.users import Users
from stream.kafka.batches import RecordBatch
from stream.kafka.cluster import Cluster
from stream.kafka.reader import Reader
from stream.kafka.specs import changelog_topic
from stream.kafka.unpack import StoredBatch
from tests.chaos.shop import PARTITIONS, Shop, Worker
from tests.fuzz.inside import DIM, batch_of, read_headers
from tests.fuzz.judge import judge
from tests.fuzz.nasties import MARK, VALUES
from tests.fuzz.records import TOPICS, Record, Records
from tests.support.freshet import ROOT
from tests.support.parts import Part
from tests.support.stored import CODECS, Sent, bomb, seal, stored

_MOST = {"lz4": 230 << 20, "snappy": 20 << 20}
UNDER_WAY = 2_000  # records of a producer
_ODD_NAME = b"\xff\xed\xa0\x80".decode("utf-8", "surrogateescape")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u202e\u2066-\u2069]")
_FORBIDDEN = re.compile(f"{MARK}|{_CONTROL.pattern}")


class At(NamedTuple):
    """Where a record stands."""

    topic: str  # the setting's name
    partition: int
    offset: int


@dataclass
class Live:
    """What a run did and found."""

    sent: dict[At, Record] = field(default_factory=dict)
    unreadable: dict[At, bytes] = field(default_factory=dict)  # at the last offset, as stored
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # by the broker
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    letters: int = 0
    good: int = 0
    users: int = 0
    memory_mib: float = 0.0
    grown_mib: float = 0.0
    took_s: float = 0.0


class Session:
    """One worker, fed with what a seed gives."""

    def __init__(self, bootstrap: str, unique: str, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.found = Live()
        self._shop = Shop(bootstrap, unique, folder, seed)
        self._log = folder / "worker.log"
        self._bootstrap = bootstrap
        self._topics = {name: getattr(self._shop.settings.topics, name) for name in TOPICS}
        self._now_ms = int(time.time() * 1000)
        self._records = Records(seed, apart=True, now_ms=self._now_ms)

    def run(self, records: int, bomb_bytes: int) -> Live:
        """Send about `records` records, wait for the worker, and compare."""
        worker = self._shop.worker()
        try:
            worker.wait_until_ready()
            before = _peak_mib(worker)
            started = time.monotonic()
            for codec in CODECS:
                self._produce(codec, records // len(CODECS))
            self._produce_in_transactions()
            asyncio.run(self._produce_raw(bomb_bytes))
            self._wait(worker)
            self.found.took_s = time.monotonic() - started
            self.found.memory_mib = _peak_mib(worker)
            self.found.grown_mib = self.found.memory_mib - before
            self._compare_letters()
            self._compare_states()
            self._look_for_ids(worker)
            self._run_commands()
            if (status := worker.stop()) != 0:
                self.found.wrong.append(f"the worker ended with status {status}: {worker.tail()}")
        finally:
            self._shop.close()
        return self.found

    # -- producing -------------------------------------------------------------------------

    def _produce(self, codec: str, count: int) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "partitioner": "murmur2_random",
                "compression.type": codec,
                "linger.ms": 20,
                "message.max.bytes": 1_000_000,
                "log_level": 0,
            }
        )
        for topic in TOPICS:
            for value in VALUES:
                self._send(
                    producer, self._records.whole(topic)._replace(value=value, made="corpus")
                )
        for number in range(count):
            self._send(producer, self._records.draw(TOPICS[number % len(TOPICS)]))
        assert producer.flush(60) == 0

    def _send(self, producer: Any, record: Record) -> None:
        def delivered(error: Any, message: Any) -> None:
            if error is not None:
                self.found.refused[record.topic, error.name()] += 1
            else:
                at = At(record.topic, message.partition(), message.offset())
                self.found.sent[at] = record

        while len(producer) > UNDER_WAY:
            producer.poll(0.1)
        producer.produce(
            self._topics[record.topic],
            key=record.key,
            value=record.value,
            headers=record.headers,
            on_delivery=delivered,
        )

    def _produce_in_transactions(self) -> None:
        """Real control records, of a commit and of an abort; both are read, uncommitted."""
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "transactional.id": self._topics["clicks"],
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )
        producer.init_transactions(30)
        for end in (producer.commit_transaction, producer.abort_transaction):
            producer.begin_transaction()
            for number in range(20):
                topic = ("clicks", "purchases")[number % 2]
                self._send(producer, self._records.draw(topic))
            producer.flush(30)
            end(30)

    async def _produce_raw(self, bomb_bytes: int) -> None:
        """Batches that no client would write, to partition 0 of each topic."""
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, max_request_size=8 << 20)
        await producer.start()
        try:
            for topic in TOPICS:
                good = self._records.whole(topic)
                odd = Sent(good.key, good.value, [(_ODD_NAME, b"1"), ("a", None)])
                bad = Sent(b"k", b"{", [(_ODD_NAME, None)])
                for codec in CODECS:
                    raw = stored([odd, bad], codec=codec, timestamp_ms=self._now_ms)
                    base = await self._send_raw(producer, topic, raw)
                    if base is not None:
                        for offset, sent in enumerate((odd, bad), base):
                            self.found.sent[At(topic, 0, offset)] = Record(
                                topic, sent.key, sent.value, sent.headers, "odd name"
                            )
                for codec in CODECS[1:]:
                    await self._send_broken(producer, topic, _bomb(codec, bomb_bytes))
                    for spoil in (lambda data: data[:-9], lambda data: b"\xff" * 40, lambda _: b""):
                        raw = stored([odd], codec=codec, timestamp_ms=self._now_ms, spoil=spoil)
                        await self._send_broken(producer, topic, raw)
                wrong = bytearray(stored([odd], codec="gzip", timestamp_ms=self._now_ms))
                for codec_number in range(8):
                    wrong[22] = codec_number
                    await self._send_broken(producer, topic, bytes(wrong))
        finally:
            await producer.stop()

    async def _send_broken(self, producer: Any, topic: str, raw: bytes) -> None:
        """A batch of one record that should not be there; some can be read after all."""
        raw = _sealed(raw)
        base = await self._send_raw(producer, topic, raw)
        if base is None:
            return
        (record,) = StoredBatch(raw).take(2)
        if isinstance(record.value, Unreadable):
            self.found.unreadable[At(topic, 0, base)] = raw
        else:
            made = Record(topic, record.key, record.value, list(record.headers), "bomb")
            self.found.sent[At(topic, 0, base)] = made

    async def _send_raw(self, producer: Any, topic: str, raw: bytes) -> int | None:
        batch: Any = RawBatch(_sealed(raw))
        try:
            answer = await producer.send_batch(batch, self._topics[topic], partition=0)
            return int((await answer).offset)
        except KafkaError as error:
            self.found.refused[topic, type(error).__name__] += 1
            return None

    # -- comparing -------------------------------------------------------------------------

    def _expected(self) -> set[At]:
        """Where records stand that must become letters."""
        found = self.found
        bad = {at for at, record in found.sent.items() if self._verdict(record) == "bad"}
        return bad | set(found.unreadable)

    def _verdict(self, record: Record) -> str:
        return judge(record.topic, record.key, record.value, self._now_ms, DIM)

    def _wait(self, worker: Worker) -> None:
        """Wait until as many letters are there as must be, and no more come for a moment."""
        due = len(self._expected())
        deadline, before, still_s = time.monotonic() + 240, -1, 0.0
        while still_s < 2.0 or before < due:
            if worker.process.poll() is not None:
                raise RuntimeError(f"the worker ended by itself:\n{worker.tail()}")
            if time.monotonic() > deadline:
                self.found.wrong.append(f"{before} letters of {due}, then none for long")
                return
            time.sleep(0.5)
            text = worker.get("/metrics")
            told = re.findall(r"freshet_(?:dead_letters|events)_total\{.*\} ([0-9.e+]+)", text)
            letters = re.findall(r"freshet_dead_letters_total\{.*\} ([0-9.e+]+)", text)
            lag = re.findall(r"freshet_consumer_lag\{.*\} ([0-9.e+]+)", text)
            done = sum(map(float, told)) + 1e12 * (sum(map(float, lag)) > 0)
            still_s = still_s + 0.5 if done == getattr(self, "_done", None) else 0.0
            self._done = done
            before = int(sum(map(float, letters)))

    def _read_letters(self) -> dict[At, Any]:
        names = {topic: name for name, topic in self._topics.items()}
        found: dict[At, Any] = {}
        for partition in range(PARTITIONS):
            topic = self._shop.settings.topics.dead_letters
            for key, value, headers in asyncio.run(self._read(topic, partition)):
                told = dict(headers)
                offset, reason, sent = read_headers(headers)
                offset = int(told.get("freshet-last-offset") or offset)
                name = names[(told["freshet-topic"] or b"").decode()]
                at = At(name, int(told["freshet-partition"] or -1), offset)
                if at in found:
                    self.found.wrong.append(f"{at}: two letters")
                found[at] = (key, value, sent)
                self.found.reasons[name, reason] += 1
                if "freshet-value-bytes" in dict(headers[len(sent) :]):
                    self.found.wrong.append(f"{at}: a letter was cut")
        return found

    async def _read(
        self, topic: str, partition: int
    ) -> list[tuple[bytes | None, bytes | None, Headers]]:
        """A partition's records: confluent_kafka cannot read names that are not UTF-8."""
        reader = Reader(Cluster(self._bootstrap), fetch_bytes=8 << 20)
        await reader.start()
        where = TopicPartition(topic, partition)
        found = []
        try:
            (end,) = (await reader.ends([where])).values()
            reader.assign([where])
            await reader.start_at({where: 0})
            while await reader.consumer.position(where) < end:
                for batch in (await reader.fetch([where], 1.0)).values():
                    columns = zip(batch.keys, batch.values, strict=True)
                    found += [
                        (key, value, batch.headers.get(at, []))
                        for at, (key, value) in enumerate(columns)
                    ]
        finally:
            await reader.stop()
        return found

    def _compare_letters(self) -> None:
        letters = self._read_letters()
        self.found.letters = len(letters)
        for at in self._expected() - set(letters):
            self.found.wrong.append(f"{at}: no letter ({self.found.sent.get(at)!a})"[:300])
        for at, letter in letters.items():
            record = self.found.sent.get(at)
            if at in self.found.unreadable:
                key, value, sent = letter
                same = _as_sent(value) == _as_sent(self.found.unreadable[at])
                if (key, sent) != (None, []) or not same:
                    self.found.wrong.append(f"{at}: an unreadable batch is not as it was stored")
            elif record is None:
                self.found.wrong.append(f"{at}: a letter of what nobody sent")
            elif letter != (record.key, record.value, record.headers):
                self.found.wrong.append(f"{at}: not as sent: {letter!a} of {record!a}"[:600])
            elif self._verdict(record) == "good":
                self.found.wrong.append(f"{at}: a good record got a letter: {record!a}"[:600])
        self._letters = letters

    def _compare_states(self) -> None:
        """Fold the good records of each partition, topic after topic, and look at the changelog."""
        engine = load_engine(self._shop.settings)
        for partition in range(PARTITIONS):
            shard = engine.new_shard(partition, PARTITIONS)
            for topic in ("clicks", "purchases", "erasures"):
                good = sorted(
                    at
                    for at in self.found.sent
                    if (at.topic, at.partition) == (topic, partition) and at not in self._letters
                )
                self.found.good += len(good)
                for start in range(0, len(good), 1024):
                    self._fold(engine, shard, good[start : start + 1024])
            self._compare_shard(shard, partition)

    def _fold(self, engine: Any, shard: UserShard, some: list[At]) -> None:
        records = [self.found.sent[at] for at in some]
        batch: RecordBatch = batch_of(
            self._topics[some[0].topic], records, [at.offset for at in some]
        )
        engine.step([Part(shard, batch)], self._now_ms)

    def _compare_shard(self, shard: UserShard, partition: int) -> None:
        stands: dict[bytes, bytes | None] = {}
        for record in self._shop.read(changelog_topic(self._shop.settings), partition):
            if not record.key().startswith(b"\xff"):  # bookkeeping; no user is called so
                stands[record.key()] = record.value()
        wanted = states_of(shard)
        self.found.users += len(wanted)
        kept = {key: value for key, value in stands.items() if value is not None}
        for key in wanted.keys() | kept.keys():
            if wanted.get(key) != kept.get(key):
                self.found.wrong.append(f"partition {partition}: another state of {key!a}")

    def _run_commands(self) -> None:
        """Commands that read the same topics: no traceback, nothing that a terminal obeys."""
        for command in (["doctor"], ["doctor", "--json"], ["simulate", "--events", "20"]):
            done = subprocess.run(
                [sys.executable, "-m", "stream.cli", *command, "--config", self._shop.config],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            said = done.stdout + done.stderr
            if done.returncode not in (0, 1) or "Traceback" in said or _CONTROL.search(said):
                self.found.wrong.append(f"freshet {command}: {done.returncode}, {said[-500:]!a}")

    def _look_for_ids(self, worker: Worker) -> None:
        for name, text in (
            ("log", self._log.read_text(errors="surrogateescape")),
            ("metrics", worker.get("/metrics")),
        ):
            if (shown := _FORBIDDEN.search(text)) is not None:
                around = text[max(0, shown.start() - 100) : shown.end() + 20]
                self.found.wrong.append(f"the {name} shows an id or a control: {around!a}")


class RawBatch:
    """Bytes in place of aiokafka's BatchBuilder."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def _build(self) -> bytes:
        return self._raw

    def _set_producer_state(self, *_: Any) -> None:
        pass

    def record_count(self) -> int:
        return int.from_bytes(self._raw[57:61])

    def size(self) -> int:
        return len(self._raw)

    def close(self) -> None:
        pass

    def closed(self) -> bool:
        return True


@cache
def _bomb(codec: str, size: int) -> bytes:
    """As large as asked, or as a topic takes: lz4 packs 255 to 1, snappy 21 to 1."""
    return bomb(codec, min(size, _MOST.get(codec, size)))


def states_of(shard: UserShard) -> dict[bytes, bytes]:
    """Key and changelog value of each user."""
    keys = list(shard.keys)
    return dict(zip(keys, Users.of(shard, keys).store(), strict=True)) if keys else {}


def _sealed(raw: bytes) -> bytes:
    return seal(bytearray(raw))


def _peak_mib(worker: Worker) -> float:
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kib) / 1024


def _as_sent(batch: bytes) -> bytes:
    """A record batch but for what a broker writes into it.

    That is offset, epoch and sum; and the kind and the newest of its times, where a topic has the
    broker's own (`message.timestamp.type=LogAppendTime`).
    """
    attributes = bytes([batch[21], batch[22] & ~0x08])
    return attributes + batch[23:35] + batch[43:]
