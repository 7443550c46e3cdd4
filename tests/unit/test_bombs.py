"""What a worker's memory grows by under bombs: by what they unpack to, never by how many they are.

Each letter is as large as its bomb, and packed as the worker packs it.
"""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from faust.types import TP

from stream.kafka import unpack
from stream.kafka.batches import RecordBatch
from stream.kafka.consumer import BatchConsumer
from stream.kafka.handed_out import HandedOut
from stream.kafka.reader import _unpack, drain
from stream.kafka.unpack import MAX_UNPACKED_BYTES, Stretch
from tests.fuzz.bombs import Backlog, cost
from tests.support.stored import Sent, bomb, stored

LIMIT_MIB = MAX_UNPACKED_BYTES >> 20
EACH = 8 << 20  # what a small bomb unpacks to
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@linux
@pytest.mark.parametrize("topics", [1, 5])
def test_memory_does_not_grow_with_the_number_of_bombs_that_are_read(topics: int) -> None:
    few, many = cost("zstd, 31 MiB", topics, 5), cost("zstd, 31 MiB", topics, 10)
    assert many.peak_mib < few.peak_mib + LIMIT_MIB
    assert many.peak_mib < 7 * LIMIT_MIB  # two in each of two looks, and a letter that is packed


@linux
def test_memory_does_not_grow_with_the_number_of_bombs_that_are_refused() -> None:
    few, many = cost("lz4, 100 MiB", 1, 1), cost("lz4, 100 MiB", 5, 15)
    assert many.peak_mib < few.peak_mib + LIMIT_MIB / 2
    assert many.peak_mib < 3 * LIMIT_MIB


@linux
def test_memory_does_not_grow_with_the_number_of_bombs_of_headers() -> None:
    few, many = cost("500,000 headers", 1, 4), cost("500,000 headers", 5, 9)
    assert many.peak_mib < few.peak_mib + LIMIT_MIB
    assert many.peak_mib < 6 * LIMIT_MIB


def looks(backlog: Backlog) -> list[list[RecordBatch]]:
    found = []
    while backlog._records:
        found.append(list(drain(backlog, backlog.partitions).values()))
    return [look for look in found if look]


@pytest.mark.parametrize("topics", [1, 3, 5])
def test_one_look_takes_so_much_of_all_partitions_together(topics: int) -> None:
    backlog = Backlog(bomb("zstd", EACH), topics, 13)
    found = looks(backlog)
    held = [sum(len(value or b"") for batch in look for value in batch.values) for look in found]
    assert max(held) < MAX_UNPACKED_BYTES + EACH
    assert sum(held) == 13 * EACH
    for tp, partition in backlog.partitions.items():
        offsets = [at for look in found for b in look if b.topic == tp.topic for at in b.offsets]
        assert offsets == list(range(partition.end))


SMALL = Sent(b"user", b"x" * 100)
LARGE = Sent(b"user", b"x" * EACH)
WITH_HEADERS = Sent(b"user", b"x" * 60, [("name", b"y" * 30), ("none", None)])


def _held(batch: RecordBatch) -> int:
    headers = [part for sent in batch.headers.values() for header in sent for part in header]
    parts = [part for part in (*batch.keys, *batch.values, *headers) if part is not None]
    return sum(map(len, parts)) + unpack._HEADER_OBJECTS_BYTES * (len(headers) // 2)


@pytest.mark.parametrize(
    "sent",
    [[SMALL] * 25, [WITH_HEADERS] * 25, [LARGE, *[SMALL] * 24], [*[SMALL] * 24, LARGE]],
    ids=["alike", "headers", "large first", "large last"],
)
def test_a_batch_that_is_read_in_pieces_counts_once(sent: list[Sent]) -> None:
    """Each piece as what it holds: what is large never comes with a piece that counts little."""
    tp = TopicPartition("clicks", 0)
    raw = stored(sent, codec="zstd")
    whole = PartitionRecords(tp, Stretch(raw), [], 0, None, None, True, 0)
    at_once = _unpack(tp, whole, len(sent) + 1).batch
    fetched = PartitionRecords(tp, Stretch(raw), [], 0, None, None, True, 0)
    pieces = [piece for _ in range(3) if (piece := _unpack(tp, fetched, 10).batch)]
    assert [len(piece) for piece in pieces] == [10, 10, 5]
    charged = [piece.unpacked_bytes for piece in pieces]
    held = [_held(piece) for piece in pieces]
    assert charged[:-1] == held[:-1]
    assert held[-1] <= charged[-1] <= held[-1] + 20 * len(sent)  # and the framing of all
    assert at_once is not None
    assert sum(charged) == at_once.unpacked_bytes


def _message(batch: RecordBatch) -> Any:
    return SimpleNamespace(tp=TP(batch.topic, batch.partition), value=batch)


def fetched_beside(handed_out: HandedOut) -> Any:
    """What the consumer fetches while so much waits; nothing there answers a fetch."""

    async def run() -> Any:
        settings = SimpleNamespace(batch=SimpleNamespace(in_flight=8))
        consumer: Any = SimpleNamespace(
            app=SimpleNamespace(settings=settings), _handed_out=handed_out, _room=asyncio.Event()
        )
        return await BatchConsumer._getmany(consumer, set(), 0.01)

    return asyncio.run(run())


def test_what_is_handed_out_is_enough_by_what_it_unpacked_to() -> None:
    (batch,) = looks(Backlog(bomb("zstd", EACH), 1, 4))[0]
    assert batch.unpacked_bytes > 4 * EACH
    pieces = batch.split(3)
    assert [piece.unpacked_bytes for piece in pieces] == [0, batch.unpacked_bytes]
    handed_out = HandedOut()
    for piece in pieces:
        assert not handed_out.is_enough(3)
        handed_out.add(_message(piece))
    assert handed_out.is_enough(3)
    assert handed_out.settle(pieces[0]) is not None
    assert handed_out.is_enough(3)  # its values are not all that came with it
    assert handed_out.settle(pieces[1]) is not None
    assert not handed_out.is_enough(3)
    handed_out.add(_message(batch))
    assert fetched_beside(handed_out) == {}  # without asking for any
    handed_out.clear()
    assert not handed_out.is_enough(3)
