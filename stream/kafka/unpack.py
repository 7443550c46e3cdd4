"""Record batches as a broker stores them. In: the bytes of a fetch. Out: records, some at a time.

aiokafka unpacks a compressed batch whole, however large it gets (1 MiB of zstd may be 32 GiB), and
refuses one for a header's name that is not UTF-8. Either would end a worker, again at each start.
Here what a batch unpacks to is bounded, in bytes and in headers: one of 34 bytes becomes objects of
216. What cannot be read comes out as an `Unreadable` in the place of its records, so that
offsets move on. Knows nothing of what the records mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain, islice
from operator import attrgetter, lt
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from stream.contracts import Unreadable
from stream.kafka.codecs import TooLargeError, unpacked
from stream.kafka.framing import (
    ATTRIBUTES_AT,
    HEADER_BYTES,
    Record,
    has_too_many_headers,
    records_of,
)

MAX_UNPACKED_BYTES: Final = 32 << 20  # of a batch; the one that reaches it ends a stretch
_HEADER_OBJECTS_BYTES: Final = 146  # a place in a list, a tuple, a str and a bytes, all empty

# Where things stand in a batch, https://kafka.apache.org/documentation/#recordbatch
_LENGTH_AT: Final = 8
_AFTER_LENGTH: Final = 12
_MAGIC_AT: Final = 16
_LEGACY_ATTRIBUTES_AT: Final = 17
_CODEC: Final = 0x07
_offset, _key, _value, _headers = map(attrgetter, ("offset", "key", "value", "headers"))


class StoredBatch:
    """One record batch, read from its start some records at a time.

    Upstream: aiokafka DefaultRecordBatch and LegacyRecordBatch, in C; they read whatever is sound.

    Attributes
    ----------
    unpacked_bytes : what its payload unpacked to, and what the headers take that were taken. The
        payload counts once it is read, and only if it came compressed.
    taken_bytes : of these, the part of the records that were taken
    decompressed_bytes : what was unpacked so far, kept or not; the most that may be, where it is
        not known how much
    """

    def __init__(self, stored: bytes) -> None:
        self._stored = stored
        magic = stored[_MAGIC_AT]
        self._legacy = magic < 2
        if not self._legacy and len(stored) < HEADER_BYTES:
            raise CorruptRecordException("a record batch is shorter than its header")
        self._plain = stored
        self._batch = (
            LegacyRecordBatch(stored, magic) if self._legacy else DefaultRecordBatch(stored)
        )
        self._records: Iterator[Any] | None = None
        self._taken = 0
        self._after = 0 if self._legacy else self._batch.base_offset
        self._payload_bytes = self._payload_bytes_taken = self._headers_bytes = 0
        self.decompressed_bytes = 0

    @property
    def unpacked_bytes(self) -> int:
        return self._payload_bytes + self._headers_bytes

    @property
    def taken_bytes(self) -> int:
        return self._payload_bytes_taken + self._headers_bytes

    def __getattr__(self, name: str) -> Any:
        """What aiokafka asks a batch: next_offset, is_control_batch, validate_crc, ..."""
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        while records := self.take(512):
            yield from records

    def take(self, limit: int) -> list[Any]:
        """The next records; fewer than `limit` at the batch's end, and only there."""
        try:
            if self._records is None:
                self._records = self._open()
            records = list(islice(self._records, limit))
            if not self._rise(records):
                raise CorruptRecordException("offsets that do not rise, or are not the batch's")
        except Exception as error:  # whatever aiokafka, or a codec, has against these bytes
            self._records = self._with_care(error)
            records = list(islice(self._records, limit))
        self._taken += len(records)
        if records:
            self._after = records[-1].offset + 1
        self._count(records, is_end=len(records) < limit)
        if self._legacy:  # the oldest have no timestamp
            records = [
                Record(r.offset, r.timestamp or 0, r.timestamp_type or 0, r.key, r.value, r.headers)
                for r in records
            ]
        return records

    def _rise(self, records: list[Any]) -> bool:
        """Whether offsets go on from those taken, each above the one before, within the batch's.

        A broker looks at no more than the last one of a batch that is not compressed. Whoever reads
        goes by them: what is below the offset that was applied, he takes for folded.
        """
        offsets = [self._after - 1, *map(_offset, records), self._batch.next_offset]
        return all(map(lt, offsets, islice(offsets, 1, None)))

    def _count(self, records: list[Any], *, is_end: bool) -> None:
        if any(map(_headers, records)):
            self._headers_bytes += _HEADER_OBJECTS_BYTES * sum(map(len, map(_headers, records)))
        if is_end:
            self._payload_bytes_taken = self._payload_bytes
        elif self._payload_bytes:
            parts = (map(_key, records), map(_value, records), _parts_of_headers(records))
            self._payload_bytes_taken += sum(map(len, filter(None, chain(*parts))))

    def _open(self) -> Iterator[Any]:
        """The records, as aiokafka reads them."""
        # `chain`: islice() asks for `iter` at each take; aiokafka's batches refuse it once begun.
        if self._legacy:
            codec = self._stored[_LEGACY_ATTRIBUTES_AT] & _CODEC
            if codec:  # aiokafka unpacks it once more; nobody writes these since Kafka 0.11
                plain = unpacked(codec, _legacy_value(self._stored), MAX_UNPACKED_BYTES)
                self._payload_bytes = len(plain)
            return chain(self._batch)
        codec = self._batch.compression_type
        if not codec:
            return chain(self._batch)
        header = bytearray(self._stored[:HEADER_BYTES])
        header[ATTRIBUTES_AT + 1] &= ~_CODEC & 0xFF
        self.decompressed_bytes = MAX_UNPACKED_BYTES  # unless it comes to its end
        payload = memoryview(self._stored)[HEADER_BYTES:]
        plain = b"".join((header, unpacked(codec, payload, MAX_UNPACKED_BYTES)))
        self._plain, self._payload_bytes = plain, len(plain) - HEADER_BYTES
        self.decompressed_bytes = self._payload_bytes
        if has_too_many_headers(plain):
            self._plain, self._payload_bytes = self._stored, 0
            raise TooLargeError
        return chain(DefaultRecordBatch(plain))

    def _with_care(self, error: Exception) -> Iterator[Record]:
        """The records after those taken, as far as they can be read, and an `Unreadable`."""
        packed = self._plain is self._stored and self._codec()
        reason = "batch_too_large" if isinstance(error, TooLargeError) else "batch_unreadable"
        last = self._batch.next_offset - 1
        following = last if self._legacy else self._after
        if not self._legacy and not packed:
            try:
                for record in records_of(self._plain, skip=self._taken):
                    if not following <= record.offset <= last:
                        raise ValueError("an offset that does not follow")
                    following = record.offset + 1
                    yield record
                return
            except (IndexError, ValueError):
                pass
        rest = Unreadable.of(self._stored, reason, min(following, last), last)
        timestamp = 0 if self._legacy else self._batch.max_timestamp
        yield Record(last, timestamp, 0, None, rest, [])

    def _codec(self) -> int:
        return self._stored[_LEGACY_ATTRIBUTES_AT if self._legacy else ATTRIBUTES_AT + 1] & _CODEC


def _parts_of_headers(records: list[Any]) -> Iterator[str | bytes | None]:
    return chain.from_iterable(chain.from_iterable(map(_headers, records)))


def _legacy_value(stored: bytes) -> memoryview:
    """The value of a record of the old formats, which holds the records packed into it."""
    at = 18 if stored[_MAGIC_AT] == 0 else 26
    key_bytes = struct.unpack_from(">i", stored, at)[0]
    at += 4 + max(0, key_bytes)
    return memoryview(stored)[at + 4 : at + 4 + struct.unpack_from(">i", stored, at)[0]]


class Stretch:
    """The record batches of a fetch, as far as they unpack to `MAX_UNPACKED_BYTES`.

    It ends behind the batch that reaches so much. Those who read it then fetch from there on: a
    kilobyte may unpack to the most that a batch may, and a fetch has a thousand of these.

    Upstream: aiokafka MemoryRecords.
    """

    batch = StoredBatch

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._at = 0
        self._unpacked_bytes = 0
        self._last: StoredBatch | None = None

    def size_in_bytes(self) -> int:
        return len(self._data)

    def _end(self) -> int:
        """Where the next batch ends; 0 when none is left that is whole and may be unpacked."""
        if self._last is not None:
            self._unpacked_bytes += self._last.unpacked_bytes
            self._last = None
        if self._unpacked_bytes >= MAX_UNPACKED_BYTES:
            return 0
        if len(self._data) - self._at < _AFTER_LENGTH:
            return 0
        length: int = struct.unpack_from(">i", self._data, self._at + _LENGTH_AT)[0]
        end = self._at + _AFTER_LENGTH + length
        return end if end <= len(self._data) else 0

    def has_next(self) -> bool:
        return self._end() > 0

    def next_batch(self) -> StoredBatch | None:
        end = self._end()
        if not end:
            return None
        if end - self._at <= _LEGACY_ATTRIBUTES_AT:
            raise CorruptRecordException("a record batch is shorter than any can be")
        stored = self._data[self._at : end]
        self._at = end
        self._last = self.batch(stored)
        return self._last


def bound_unpacking() -> None:
    """Have all of aiokafka's consumers read record batches by this module.

    Upstream: aiokafka.consumer.fetcher.MemoryRecords, the name that Fetcher._proc_fetch_request
    looks up.
    """
    fetcher.MemoryRecords = Stretch
