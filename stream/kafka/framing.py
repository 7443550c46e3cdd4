"""Records in a batch that is not compressed, byte by byte. In: the batch. Out: records.

For those that aiokafka refuses, and for headers, which it makes objects of whatever their number.
Knows nothing of compressions and of what the records mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from stream.contracts import Headers

MAX_HEADERS: Final = 1 << 19  # of a batch, of 64 bytes in memory at least: 32 MiB

# Where things stand in a batch, https://kafka.apache.org/documentation/#recordbatch
ATTRIBUTES_AT: Final = 21
_HEADER: Final = struct.Struct(">hiqqqhii")  # from the attributes on
HEADER_BYTES: Final = ATTRIBUTES_AT + _HEADER.size
_LOG_APPEND_TIME: Final = 0x08

_FRAMING_BYTES: Final = 6  # of a record, at least: its lengths and numbers
_LOOKED_AT_BYTES: Final = 1 << 20  # at once, for headers


class Record(NamedTuple):
    """What aiokafka's own records have."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    checksum: None = None


class _Cursor:
    """Reads a record's parts one after the other; IndexError, ValueError: not what they must be."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def number(self) -> int:
        """A zigzag varint."""
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise ValueError("a varint of more than 10 bytes")

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError("longer than what there is")
        self.at += size
        return self.data[self.at - size : self.at]

    def nullable(self) -> bytes | None:
        size = self.number()
        return None if size < 0 else self.take(size)


def records_of(plain: bytes) -> Iterator[Record]:
    """The records of a batch that is not compressed; names of headers may be any bytes."""
    fields = _HEADER.unpack_from(plain, ATTRIBUTES_AT)
    attributes, _, first_ms, newest_ms, *_, count = fields
    base = struct.unpack_from(">q", plain)[0]
    cursor = _Cursor(plain, HEADER_BYTES)
    for _ in range(count):
        end = cursor.number() + cursor.at
        cursor.take(1)
        timestamp = first_ms + cursor.number()
        if attributes & _LOG_APPEND_TIME:
            timestamp = newest_ms
        offset = base + cursor.number()
        key, value = cursor.nullable(), cursor.nullable()
        headers: Headers = []
        for _ in range(cursor.number()):
            name = cursor.take(cursor.number()).decode("utf-8", "surrogateescape")
            headers.append((name, cursor.nullable()))
        if cursor.at != end:
            raise ValueError("a record of another length than it says")
        yield Record(offset, timestamp, 0, key, value, headers)
    if cursor.at != len(plain):
        raise ValueError("more than the records")


def has_too_many_headers(plain: bytes) -> bool:
    """Whether a batch that was unpacked has more than `MAX_HEADERS`; what looks well is not read.

    So many that are small enough for what a batch may unpack to have a length below 16 each, thus a
    byte below 32, which text has not. Where records have no more of these than numbers of their
    own, their headers are few.
    """
    if len(plain) < 2 * MAX_HEADERS:
        return False
    data = np.frombuffer(plain, np.uint8)
    small = sum(
        np.count_nonzero(data[at : at + _LOOKED_AT_BYTES] < 32)
        for at in range(HEADER_BYTES, len(data), _LOOKED_AT_BYTES)
    )
    count = _HEADER.unpack_from(plain, ATTRIBUTES_AT)[-1]
    if small - _FRAMING_BYTES * count <= MAX_HEADERS:
        return False
    cursor, found = _Cursor(plain, HEADER_BYTES), 0
    try:
        for _ in range(count):
            end = cursor.number() + cursor.at
            cursor.take(1)
            for _ in range(2):
                cursor.number()
            for _ in range(2):
                length = cursor.number()
                cursor.at += max(0, length)
            found += max(0, cursor.number())
            if found > MAX_HEADERS:
                return True
            if end < cursor.at:
                break
            cursor.at = end
    except (IndexError, ValueError):
        pass  # damaged: who reads it will see
    return False
