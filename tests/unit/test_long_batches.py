"""A record batch of very many records, or of what unpacks to much, holds nobody up for long.

Times are of this thread's CPU, so that a busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import struct
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.util import decode_varint_py

from stream.contracts import Unreadable
from stream.kafka import framing
from stream.kafka.framing import HEADER_BYTES
from stream.kafka.reader import TAKEN_AT_ONCE, Reader, drain
from stream.kafka.unpack import StoredBatch, Stretch
from stream.kafka.walk import DAMAGED, end_of, has_more_headers
from tests.fuzz.bombs import Backlog, _Partition
from tests.support.stored import Sent, bomb, pack, seal, stored, varint

RECORDS = 300_000  # 2.7 MiB; each an event that holds nothing
NOT_UTF8 = b"\xff".decode("utf-8", "surrogateescape")
TP = TopicPartition("t0", 0)


@functools.cache
def empty_records() -> bytes:
    """All but the last."""
    bodies = (b"\0\0" + varint(number) + b"\1\1\0" for number in range(RECORDS - 1))
    return b"".join(bytes([2 * len(body)]) + body for body in bodies)


def long_batch(headers: list[tuple[str, bytes | None]]) -> bytes:
    """Records without key and value, and a last one with headers."""
    last = pack([Sent(None, None, headers)])[1:]
    body = last[:2] + varint(RECORDS - 1) + last[3:]
    packed = empty_records() + varint(len(body)) + body
    raw = bytearray(stored([Sent(None, None)], codec="zstd", records=packed))
    raw[23:27], raw[57:61] = struct.pack(">i", RECORDS - 1), struct.pack(">i", RECORDS)
    return seal(raw)


def looks(backlog: Backlog) -> list[tuple[float, int]]:
    """Of each look: seconds of CPU, and how many records it took."""
    found = []
    gc.disable()  # here it goes through all that the tests have imported; a worker freezes that
    try:
        while backlog._records:
            began_s = time.thread_time()
            taken = drain(backlog, backlog.partitions)
            found.append((time.thread_time() - began_s, sum(map(len, taken.values()))))
    finally:
        gc.enable()
    return [look for look in found if look[1]]


def more_headers_in_python(plain: bytes, records: int, most: int) -> int:
    """`has_more_headers`, record by record without a compiler."""
    number, at, found = decode_varint_py, HEADER_BYTES, 0
    try:
        for _ in range(records):
            length, at = number(plain, at)
            end = at + length
            for _ in range(3):  # attributes, timestamp, offset
                while plain[at] > 0x7F:
                    at += 1
                at += 1
            for _ in range(2):  # key, value
                size, at = number(plain, at)
                at += max(0, size)
            headers, at = number(plain, at)
            found += headers
            if found > most:
                return 1
            if headers < 0 or not at <= end <= len(plain):
                return DAMAGED
            at = end
    except (IndexError, ValueError):
        return DAMAGED
    return 0


def end_in_python(plain: bytes, records: int) -> int:
    """`end_of`, likewise."""
    at = HEADER_BYTES
    try:
        for _ in range(records):
            length, at = decode_varint_py(plain, at)
            if not 0 <= length <= len(plain) - at:
                return DAMAGED
            at += length
    except (IndexError, ValueError):
        return DAMAGED
    return at


@functools.cache
def python_took_s() -> float:
    """Seconds of CPU to go through the headers of so many records without a compiler."""
    plain = bytes(HEADER_BYTES) + empty_records()
    began_s = time.thread_time()
    assert more_headers_in_python(plain, RECORDS - 1, 0) == 0
    return time.thread_time() - began_s


@pytest.mark.parametrize("headers", [[], [(NOT_UTF8, None)]], ids=["sound", "not UTF-8"])
def test_no_look_at_a_batch_of_many_records_takes_long(
    headers: list[tuple[str, bytes | None]],
) -> None:
    """aiokafka refuses the last of the others once it has read all the rest."""
    found = looks(Backlog(long_batch(headers), 1, 1))
    assert [count for _, count in found[:-1]] == [TAKEN_AT_ONCE] * (RECORDS // TAKEN_AT_ONCE)
    assert sum(count for _, count in found) == RECORDS
    assert max(took_s for took_s, _ in found) < python_took_s() / 2


def test_what_stands_before_the_position_is_passed_over_in_as_many_looks() -> None:
    """A worker that starts again amid the batch is sent all of it."""
    start = RECORDS - 5
    backlog = Backlog(b"", 0, 0)
    backlog.partitions[TP] = partition = _Partition(b"", 0)
    partition.position = start
    fetched = PartitionRecords(TP, Stretch(long_batch([])), [], start, None, None, True, 0)
    result = FetchResult(TP, assignment=backlog, partition_records=fetched, backoff=0)
    backlog._records[TP] = result
    reader = reader_of(backlog)
    found = [asyncio.run(reader.fetch([TP], 60.0)) for _ in range(1 + RECORDS // TAKEN_AT_ONCE)]
    assert found[:-1] == [{}] * (RECORDS // TAKEN_AT_ONCE), "without waiting for more"
    assert found[-1][TP].offsets == list(range(start, RECORDS))
    assert partition.position == RECORDS


def reader_of(fetcher: Any) -> Reader:
    """A reader of this fetcher, which waits for nothing."""
    fetcher._closed = False
    fetcher._subscriptions.fetch_context = contextlib.nullcontext
    reader = Reader.__new__(Reader)
    reader.consumer = SimpleNamespace(_closed=False, _fetcher=fetcher)
    return reader


def test_a_look_ends_with_what_unpacks_to_too_much() -> None:
    """Thousands of these stand in one fetch."""
    backlog = Backlog(bomb("zstd", 40 << 20), 3, 9)
    assert [count for _, count in looks(backlog)] == [1] * 9


def test_others_have_their_turn_before_each_look() -> None:
    backlog = Backlog(bomb("zstd", 100), 1, 1)
    order: list[bool] = []

    async def run() -> None:
        reader, partitions = reader_of(backlog), list(backlog.partitions)
        asyncio.get_running_loop().call_soon(lambda: order.append(bool(backlog._records)))
        assert await reader.fetch(partitions, 0.0, lambda: False) == {}
        assert backlog._records, "nothing is taken that nobody wants any more"
        asyncio.get_running_loop().call_soon(lambda: order.append(bool(backlog._records)))
        assert await reader.fetch(partitions, 0.0)

    asyncio.run(run())
    assert order == [True, True]
    assert not backlog._records


def test_aiokafka_reads_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoredBatch, "_with_care", None)
    batch = StoredBatch(stored([Sent(b"a", None), Sent(b"b", None), Sent(b"c", None)]))
    assert [batch.take(1)[0].key for _ in range(3)] == [b"a", b"b", b"c"]
    assert batch.take(1) == []


def test_what_is_damaged_behind_many_records_is_found_at_its_place() -> None:
    sent = [Sent(b"k", b"v")] * 40
    packed = pack(sent)
    raw = stored(sent, codec="lz4", base=100, records=packed[:-3])
    batch, found = StoredBatch(raw), []
    while records := batch.take(7):
        found += records
    assert [record.offset for record in found] == list(range(100, 140))
    rest = found[-1].value
    assert isinstance(rest, Unreadable)
    assert (rest.first_offset, rest.last_offset) == (139, 139)


def test_a_walk_counts_and_ends_as_records_read_one_by_one() -> None:
    """Of sound batches and damaged ones."""
    chance = random.Random(7)
    seen = 0
    answers: Counter[int] = Counter()  # of damaged ones
    for _ in range(2_000):
        sent = [
            Sent(None, b"v" * chance.choice((0, 1, 200)), [("n", None)] * chance.randrange(4))
            for _ in range(chance.randrange(1, 6))
        ]
        plain = bytearray(stored(sent))
        for _ in range(chance.randrange(3)):
            plain[chance.randrange(HEADER_BYTES, len(plain))] = chance.randrange(256)
        data, most = np.frombuffer(bytes(plain), np.uint8), chance.randrange(6)
        found = has_more_headers(data, HEADER_BYTES, len(sent), most)
        assert found == more_headers_in_python(bytes(plain), len(sent), most)
        assert end_of(data, HEADER_BYTES, len(sent)) == end_in_python(bytes(plain), len(sent))
        try:
            records = list(framing.records_of(bytes(plain)))
        except (IndexError, ValueError):
            answers[found] += 1
            continue
        seen += 1
        many = sum(len(record.headers) for record in records) > most
        # Who reads on takes a number below 0 for none.
        assert found == many or (found == DAMAGED and not all(record.headers for record in records))
        assert end_of(data, HEADER_BYTES, len(sent)) == len(plain)
        skip = chance.randrange(len(sent) + 1)
        assert list(framing.records_of(bytes(plain), skip)) == records[skip:]
    assert seen > 500
    assert min(answers[answer] for answer in (DAMAGED, 0, 1)) > 20


@pytest.mark.parametrize("size", range(12))
def test_a_walk_never_looks_beyond_the_end(size: int) -> None:
    """What stands behind would complete the record."""
    whole = pack([Sent(b"k", b"v", [("n", None)])])
    data = np.frombuffer(whole, np.uint8)
    assert len(data) > size
    assert has_more_headers(data[:size].copy(), 0, 1, 5) == DAMAGED
    assert end_of(data[:size].copy(), 0, 1) == DAMAGED
    assert has_more_headers(data, 0, 1, 5) == 0
    assert end_of(data, 0, 1) == len(data)
