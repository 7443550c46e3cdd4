"""Parts of the Kafka room that need no broker: sizes, turns, replay, the watchdog's count."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from aiokafka import TopicPartition

from stream.config import Batch, Placement, Settings, State
from stream.core.bundle import read_manifest
from stream.core.wire import Layout
from stream.demo import sample
from stream.errors import StateError
from stream.kafka.applied import APPLIED_KEY, Applied, encode_applied
from stream.kafka.batches import RecordBatch
from stream.kafka.cluster import Cluster
from stream.kafka.holding import Holding
from stream.kafka.liveness import Stillness
from stream.kafka.reader import Reader
from stream.kafka.replay import Replay
from stream.kafka.sizes import changelog_batch_bytes, lists_bytes, user_bytes
from stream.kafka.turn import Turn


class Shard:
    """States that refuse a value of theirs."""

    nbytes = 0

    def __len__(self) -> int:
        return 0

    def load(self, keys: list[bytes], values: list[bytes | None]) -> None:
        if b"bad" in values:
            raise StateError("a state of another layout")


class Table:
    """Takes what a turn sends; the broker never answers."""

    async def send(self, *_: Any) -> list[asyncio.Future[Any]]:
        return [asyncio.get_running_loop().create_future()]


def test_a_users_size_follows_ring_and_bundle() -> None:
    plain = Settings()
    assert user_bytes(Settings(state=State(ring=255))) == user_bytes(plain) + 205 * 16
    state = read_manifest(sample.BUNDLE).state
    named = Settings(bundle=str(sample.BUNDLE))
    largest = Layout(state.size, state.storage, 50, 1).max_bytes + 256
    assert largest < user_bytes(named) < largest + 100 < user_bytes(plain)
    few = Settings(batch=Batch(max_events=1))
    assert changelog_batch_bytes(plain) - changelog_batch_bytes(few) == 2047 * (
        user_bytes(plain)
        + (256 + 64)  # a tombstone of a user that leaves meanwhile
        + 2 * (49 + 16 + 64)  # an item's counts, and those of one that is let go
    )


def test_the_size_of_lists_follows_the_placements() -> None:
    many = Settings(placements={"a": Placement(k=1000), "b": Placement(k=1000)})
    assert lists_bytes(many) > 2000 * 512 > lists_bytes(Settings())


@pytest.mark.parametrize("renewal", [True, False])
def test_a_renewal_of_the_fence_leaves_a_batchs_turn_open(renewal: bool) -> None:
    async def run() -> bool:
        table: Any = Table()
        holding = Holding(0, Shard())
        holding.open = True
        batch = None if renewal else record_batch([b"u"], [b"v"])
        await Turn(table, holding, batch).commit(None, {})
        return holding.open

    assert asyncio.run(run()) is renewal


def record_batch(keys: list[bytes | None], values: list[bytes | None]) -> RecordBatch:
    offsets = list(range(7, 7 + len(keys)))
    return RecordBatch("log", 3, 7, 7 + len(keys), keys, values, offsets, [0] * len(keys))


def replay_of_partition_3(reader: Any) -> Replay:
    return Replay(
        reader,
        {3: Holding(3, Shard())},
        trust_ends=True,
        timeout_s=60,
        on_progress=lambda partition, ratio: None,
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (None, b"x", "changelog log, partition 3: a record without a key at offset 8"),
        (b"u", b"bad", "changelog log, partition 3: a state of another layout"),
    ],
)
def test_a_record_that_cannot_be_loaded_is_named(
    key: bytes | None, value: bytes, message: str
) -> None:
    replay = replay_of_partition_3(None)
    with pytest.raises(StateError, match=message):
        replay._load(record_batch([b"u", key], [b"v", value]))


def test_a_fence_does_not_take_back_what_was_applied_before_it() -> None:
    """It tells what its owner had read by then; the older one may have written since."""
    replay = replay_of_partition_3(None)
    written = encode_applied(Applied({"clicks": 100, "purchases": 7}, 1, 4, "older"))
    fence = encode_applied(Applied({"clicks": 90, "purchases": 7}, 1, 5, "newer"))
    replay._load(record_batch([b"u", APPLIED_KEY, APPLIED_KEY], [b"v", written, fence]))
    assert replay._holdings[3].applied == {"clicks": 100, "purchases": 7}


class SlowReader:
    """A partition of 1,000 records, 100 a fetch, each fetch taking a second of `now`."""

    def __init__(self, now: list[float], fetch_s: float) -> None:
        self._now, self._fetch_s, self._at = now, fetch_s, 0
        self.consumer = self

    async def position(self, tp: TopicPartition) -> int:
        return self._at

    def progress(self) -> dict[TopicPartition, Any]:
        return {}

    async def fetch(self, todo: set[TopicPartition], wait_s: float) -> dict[Any, RecordBatch]:
        self._now[0] += self._fetch_s
        self._at += 100
        return {tp: record_batch([b"u"] * 100, [b"v"] * 100) for tp in todo}


@pytest.mark.parametrize(
    ("fetch_s", "lines"),
    [
        (0.19, []),
        (
            1.0,
            [
                "recovering partitions [3]: 20%, 200 records so far, 100 records/s",
                "recovering partitions [3]: 70%, 700 records so far, 100 records/s",
            ],
        ),
    ],
)
def test_a_long_recovery_tells_how_far_it_is(
    fetch_s: float,
    lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    replay = replay_of_partition_3(SlowReader(now, fetch_s))
    monkeypatch.setattr("stream.kafka.replay.monotonic", lambda: now[0])
    at = TopicPartition("log", 3)
    with caplog.at_level(logging.INFO, "stream.kafka.replay"):
        asyncio.run(replay.read_to({at: 0}, {at: 1000}))
    assert caplog.messages == lines


def test_stillness_counts_only_while_work_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    still = Stillness()
    assert still.seconds(waiting=True, seen=1) == 0
    now[0] += 5
    assert still.seconds(waiting=True, seen=1) == 5
    assert still.seconds(waiting=False, seen=1) == 0
    now[0] += 5
    assert still.seconds(waiting=True, seen=2) == 0


def test_a_partition_that_a_rebalance_takes_meanwhile_gets_no_position() -> None:
    calls: list[str] = []
    first, second = TopicPartition("clicks", 0), TopicPartition("clicks", 1)

    class Consumer:
        def __init__(self) -> None:
            self.mine = {first, second}

        def assignment(self) -> set[TopicPartition]:
            return self.mine

        async def seek_to_beginning(self, partition: TopicPartition) -> None:
            calls.append("first")
            self.mine = set()

        def seek(self, partition: TopicPartition, offset: int) -> None:
            raise AssertionError("not assigned")

        def resume(self, *partitions: TopicPartition) -> None:
            assert not partitions

    reader = Reader(Cluster.of(Settings()))
    reader.consumer = Consumer()
    asyncio.run(reader.start_at({first: None, second: 5}))
    assert calls == ["first"]
