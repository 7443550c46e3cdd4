"""Record batches from bytes: every codec, bombs, damage, names that are not UTF-8."""

from __future__ import annotations

import gzip
import random
import resource
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cramjam
import pytest
import zstandard
from aiokafka.errors import CorruptRecordException
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder

from stream.contracts import Unreadable
from stream.kafka import framing, unpack
from stream.kafka.unpack import StoredBatch, Stretch
from tests.support.stored import (
    CODECS,
    TEXT_HEADER,
    Sent,
    bomb,
    bomb_of_headers,
    pack,
    seal,
    stored,
)

SENT = [
    Sent(b"a", b"one", [("trace", b"\xff\x00"), ("trace", None), ("\u00e9", b"")]),
    Sent(None, None),
    Sent(b"", b""),
    Sent(b"b", b"x" * 1000),
]


def read(batch: StoredBatch, at_once: int = 2) -> list[Any]:
    found: list[Any] = []
    while records := batch.take(at_once):
        found += records
    return found


def as_sent(records: list[Any]) -> list[Sent]:
    return [Sent(record.key, record.value, list(record.headers)) for record in records]


def only_unreadable(raw: bytes) -> Unreadable:
    (record,) = read(StoredBatch(raw))
    assert isinstance(record.value, Unreadable)
    assert (record.key, record.headers, bytes(record.value)) == (None, [], raw)
    assert record.offset == record.value.last_offset
    return record.value


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("at_once", [1, 3, 4, 5, 100])
def test_a_batch_of_any_codec_is_read_as_it_was_sent(codec: str, at_once: int) -> None:
    raw = stored(SENT, codec=codec, base=40)
    batch = StoredBatch(raw)
    assert batch.validate_crc()
    records = read(batch, at_once)
    assert as_sent(records) == SENT
    assert [record.offset for record in records] == [40, 41, 42, 43]
    assert batch.next_offset == 44
    assert as_sent(list(StoredBatch(raw))) == SENT  # as aiokafka's own consumers go through it


def test_what_java_and_librdkafka_write_as_snappy_are_two_formats() -> None:
    blocks = b"".join(
        struct.pack(">i", len(block)) + block
        for block in (bytes(cramjam.snappy.compress_raw(part)) for part in (b"12", b"345"))
    )
    java = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + blocks
    assert unpack.unpacked(2, memoryview(java), 5) == b"12345"
    assert unpack.unpacked(2, memoryview(bytes(cramjam.snappy.compress_raw(b"12345"))), 5)
    for cut in (java[:-1], java + b"\0\0\0\xff", java + b"\xff\xff\xff\xff"):
        with pytest.raises(ValueError, match="longer than what there is"):
            unpack.unpacked(2, memoryview(cut), 5)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_bomb_is_stopped_at_the_limit(codec: str) -> None:
    packed = bomb(codec, 256 << 20, base=7)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unreadable = only_unreadable(packed)
    assert (unreadable.reason, unreadable.first_offset) == ("batch_too_large", 7)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 3 * unpack.MAX_UNPACKED_BYTES >> 10


def test_a_bomb_of_headers_is_stopped_before_they_are_objects() -> None:
    """1.2 GiB, and 15 s, before they were counted; in one record, or in a thousand."""
    for raw in (bomb_of_headers(15 << 20, base=7), bomb_of_headers(15 << 10, 7, 1000)):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unreadable = only_unreadable(raw)
        assert (unreadable.reason, unreadable.first_offset) == ("batch_too_large", 7)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 3 * unpack.MAX_UNPACKED_BYTES >> 10


def test_headers_are_counted_where_they_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bomb_of_headers(300, records=4)
    monkeypatch.setattr(framing, "MAX_HEADERS", 1200)
    batch = StoredBatch(raw)
    assert [len(record.headers) for record in read(batch)] == [300] * 4
    assert batch.unpacked_bytes > 1200 * 140
    monkeypatch.setattr(framing, "MAX_HEADERS", 1100)
    assert only_unreadable(raw).reason == "batch_too_large"
    longer = stored([Sent(b"k", b"v" * 40, [("name", b"value")] * 2)] * 400, codec="zstd")
    assert len(read(StoredBatch(longer))) == 400


@pytest.mark.parametrize(
    "hidden",
    [
        {"count": 900_000, "header": TEXT_HEADER},
        {"count": 900, "records": 1000, "header": TEXT_HEADER},
        {"count": 1_600_000, "header": b" " + b"n" * 16 + b"!"},  # of a value of -17 bytes
        {"count": 600_000, "said": 1_000_000},
        {"count": 600_000, "attributes": b"\x80\x80\x00"},
        {"count": 600_000, "header": b"\x80\x00\x81\x00"},
    ],
    ids=["text", "text of many records", "negative", "said", "attributes", "padded"],
)
def test_no_form_of_headers_hides_how_many_they_are(hidden: dict[str, Any]) -> None:
    raw = bomb_of_headers(**hidden)
    assert len(unpack.unpacked(4, memoryview(raw)[61:], 1 << 30)) < unpack.MAX_UNPACKED_BYTES
    assert only_unreadable(raw).reason == "batch_too_large"


def test_a_number_beyond_64_bits_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka drops what is beyond, and would go on to the headers."""
    monkeypatch.setattr(framing, "MAX_HEADERS", 10)
    beyond = b"\x80" * 9 + b"\x02"  # 2**64, or 0
    raw = bomb_of_headers(20, attributes=beyond)
    plain = unpack.unpacked(4, memoryview(raw)[61:], 1 << 20)
    assert only_unreadable(raw).reason == "batch_too_large"
    cut = plain.index(b"\x02u\x02x")  # the key's length becomes one of 2**64 + 1
    spoilt = plain[:cut] + b"\x82" + b"\x80" * 8 + b"\x02" + plain[cut + 1 :]
    raw = stored([Sent(None, None)], codec="zstd", records=spoilt)
    assert only_unreadable(raw).reason == "batch_unreadable"


def test_headers_are_charged_as_what_they_take() -> None:
    sent = [Sent(b"k", None, [("n" * 20, b"v" * 30), ("n" * 20, None)])] * 100
    batch = StoredBatch(stored(sent, codec="zstd"))
    records = batch.take(1000)
    headers = [header for record in records for header in record.headers]
    objects = [part for header in headers for part in (header, *header) if part is not None]
    places = 8 * len(headers)
    taken = sum(map(sys.getsizeof, objects)) + places
    assert taken <= batch.unpacked_bytes <= 1.2 * taken
    assert batch.taken_bytes == batch.unpacked_bytes


def test_a_count_of_headers_that_lies_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is damaged is found by who counts, as by who reads."""
    monkeypatch.setattr(framing, "MAX_HEADERS", 10)
    for at in range(62, 80):
        plain = bytearray(stored([Sent(b"k", b"v", [("", None)] * 20)] * 3))
        for value in (0x01, 0x7F, 0xFF):
            plain[at] = value
            with suppress(IndexError, ValueError):
                assert framing.has_too_many_headers(bytes(plain))
                continue
            with pytest.raises((IndexError, ValueError)):
                list(framing.records_of(bytes(plain)))


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_bomb_below_the_limit_is_a_record(codec: str) -> None:
    (record,) = read(StoredBatch(bomb(codec, 3_000_000)))
    assert (record.key, record.value) == (b"u", bytes(3_000_000))


@pytest.mark.parametrize("codec", CODECS[1:])
def test_the_limit_itself_is_read(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = stored(SENT, codec=codec)
    size = len(stored(SENT, codec="none")) - 61
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", size)
    assert as_sent(read(StoredBatch(raw))) == SENT
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", size - 1)
    assert only_unreadable(raw).reason == "batch_too_large"


def _lying_snappy(_: bytes) -> bytes:
    return b"\xff\xff\xff\xff\x0f" + b"x"  # says that it is 4 GiB


@pytest.mark.parametrize(
    ("codec", "spoil"),
    [
        ("gzip", lambda data: data[:-9]),
        ("gzip", lambda data: data[:20] + b"\xff\xff" + data[22:]),
        ("lz4", lambda data: data[:-9]),
        ("zstd", lambda data: data[:-3]),
        ("snappy", lambda data: data[:-3]),
        ("zstd", gzip.compress),
        ("gzip", lambda data: bytes(zstandard.compress(data))),
        ("lz4", lambda data: b""),
        ("snappy", lambda data: b""),
        ("zstd", lambda data: b""),
        ("gzip", lambda data: b""),
    ],
)
def test_a_damaged_payload_is_one_unreadable(codec: str, spoil: Callable[[bytes], bytes]) -> None:
    raw = stored(SENT, codec=codec, base=5, spoil=spoil)
    unreadable = only_unreadable(raw)
    assert unreadable.reason == "batch_unreadable"
    assert (unreadable.first_offset, unreadable.last_offset) == (5, 8)


def test_a_length_that_lies_is_not_believed() -> None:
    raw = stored(SENT, codec="snappy", spoil=_lying_snappy)
    assert only_unreadable(raw).reason == "batch_too_large"


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_codec_is_unreadable(codec: int) -> None:
    raw = bytearray(stored(SENT))
    raw[22] |= codec
    assert only_unreadable(seal(raw)).reason == "batch_unreadable"


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("at_once", [1, 2, 10])
def test_what_stands_before_the_damage_is_read(codec: str, at_once: int) -> None:
    records = pack(SENT)
    cut = records[:-500]
    raw = stored(SENT, codec=codec, base=10, records=cut)
    found = read(StoredBatch(raw), at_once)
    assert as_sent(found[:-1]) == SENT[:3]
    rest = found[-1].value
    assert isinstance(rest, Unreadable)
    assert rest == raw
    assert (rest.reason, rest.first_offset, rest.last_offset) == ("batch_unreadable", 13, 13)


NOT_TEXT = [(b"\xff".decode("utf-8", "surrogateescape"), b"")]  # which aiokafka refuses


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("at_once", [1, 2, 10])
@pytest.mark.parametrize("headers", [[], NOT_TEXT], ids=["plain", "with care"])
@pytest.mark.parametrize(
    ("offsets", "good"),
    [
        ([0, 1, 2, 3], 4),
        ([0, -50, -50, 3], 1),
        ([2, 0, 1, 3], 1),
        ([0, 1, 1, 3], 2),
        ([0, 1, 9, 3], 2),
        ([0, 1, 2, 4], 3),
        ([-1, 0, 1, 3], 0),
        ([0, 1, 2**63 - 1, 3], 2),
    ],
)
def test_offsets_that_do_not_rise_within_the_batch_end_it(
    offsets: list[int], good: int, headers: Any, at_once: int, codec: str
) -> None:
    """Brokers take them where nothing is compressed."""
    sent = [Sent(b"u", b"v", headers, offset) for offset in offsets]
    found = read(StoredBatch(stored(sent, codec=codec, base=10)), at_once)
    assert [record.offset for record in found[:good]] == [10 + at for at in offsets[:good]]
    if good < len(offsets):
        (rest,) = found[good:]
        assert isinstance(rest.value, Unreadable)
        assert (rest.value.reason, rest.offset) == ("batch_unreadable", 13)
        assert good == 0 or rest.value.first_offset == found[good - 1].offset + 1


@pytest.mark.parametrize("headers", [[], NOT_TEXT], ids=["plain", "with care"])
def test_a_timestamp_is_a_number_of_64_bits(headers: Any) -> None:
    sent = [Sent(b"u", b"v", headers, time_ms=time_ms) for time_ms in (0, 2**63 - 1, -(2**63))]
    found = read(StoredBatch(stored(sent, timestamp_ms=1 << 62)))
    assert [record.timestamp for record in found] == [2**62, 2**62 - 2**63 - 1, 2**62 - 2**63]


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_may_have_any_name(codec: str) -> None:
    """Brokers take them, Java replaces what is not UTF-8; aiokafka refuses the whole batch."""
    name = b"\xff\xed\xa0\x80ok".decode("utf-8", "surrogateescape")
    sent = [*SENT, Sent(b"u", b"v", [(name, b"1"), ("b", None)]), *SENT]
    assert as_sent(read(StoredBatch(stored(sent, codec=codec)), 3)) == sent


def test_the_old_formats_are_read_and_bounded() -> None:
    for magic in (0, 1):
        for compression in (0, 1):
            builder = LegacyRecordBatchBuilder(magic, compression, 1 << 20)
            builder.append(0, 5, b"k", b"v")
            raw = bytes(builder.build())
            (record,) = read(StoredBatch(raw))
            assert (record.key, record.value) == (b"k", b"v")
            assert record.timestamp == (5 if magic else 0)
    builder = LegacyRecordBatchBuilder(1, 1, 100 << 20)
    builder.append(0, 5, b"k", bytes(40 << 20))
    assert only_unreadable(bytes(builder.build())).reason == "batch_too_large"


def test_a_stretch_is_cut_into_its_batches() -> None:
    first, second = stored(SENT, base=0), stored(SENT, codec="lz4", base=4)
    stretch = Stretch(first + second + first[:-1])
    assert stretch.size_in_bytes() == 2 * len(first) + len(second) - 1
    batches = [stretch.next_batch() for _ in range(2)]
    assert [batch.base_offset for batch in batches if batch] == [0, 4]
    assert not stretch.has_next()
    assert stretch.next_batch() is None


def test_a_stretch_ends_where_enough_was_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for aiokafka, which asks for the next, and for kafka-python, which takes until None."""
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 2000)
    for raw, few in ((bomb("zstd", 900), 3), (bomb_of_headers(5), 3), (stored(SENT[1:]), 9)):
        stretch = Stretch(raw * 9)
        found = 0
        while (batch := stretch.next_batch()) is not None:
            found += 1
            assert len(read(batch)) == len(list(StoredBatch(raw)))
        assert found == few
        assert not stretch.has_next()


def test_bytes_at_random_never_raise_more_than_corrupt() -> None:
    """Any batch with a right checksum comes out as records and at most one unreadable, the last."""
    chance = random.Random(4)
    for _ in range(3_000):
        raw = bytearray(stored(SENT, codec=chance.choice(CODECS), base=3))
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(21, len(raw))
            raw[at] = chance.randrange(256)
        if chance.random() < 0.1:
            raw = raw[: chance.randrange(61, len(raw))]
        try:
            batch = StoredBatch(seal(raw))
        except CorruptRecordException:
            continue
        assert batch.validate_crc()
        found = read(batch, chance.choice((1, 3, 100)))
        assert not any(isinstance(record.value, Unreadable) for record in found[:-1])
