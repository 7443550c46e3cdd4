"""Records in a batch that is not compressed, byte by byte. In: the batch. Out: records.

For those that aiokafka refuses, and for headers, which it makes objects of whatever their number.
Knows nothing of compressions and of what the records mean.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from aiokafka.record.util import decode_varint_py

from stream.contracts import Headers
from stream.kafka.walk import DAMAGED, end_of, has_more_headers

MAX_HEADERS: Final = 1 << 19  # of a batch

# Where things stand in a batch, https://kafka.apache.org/documentation/#recordbatch
ATTRIBUTES_AT: Final = 21
_HEADER: Final = struct.Struct(">hiqqqhii")  # from the attributes on
HEADER_BYTES: Final = ATTRIBUTES_AT + _HEADER.size
_LOG_APPEND_TIME: Final = 0x08

_LEAST_BYTES: Final = 2  # of a header


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
        """A zigzag varint. aiokafka's compiled reader of these looks beyond the end of the data."""
        value: int
        value, self.at = decode_varint_py(self.data, self.at)
        return value

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise ValueError("longer than what there is")
        self.at += size
        return self.data[self.at - size : self.at]

    def nullable(self) -> bytes | None:
        size = self.number()
        return None if size < 0 else self.take(size)


def records_of(plain: bytes, skip: int = 0) -> Iterator[Record]:
    """The records of a batch that is not compressed; names of headers may be any bytes.

    Parameters
    ----------
    skip : how many of the first to leave out

    Raises
    ------
    IndexError, ValueError : the next one is damaged, or one of those left out
    """
    fields = _HEADER.unpack_from(plain, ATTRIBUTES_AT)
    attributes, _, first_ms, newest_ms, *_, count = fields
    base = struct.unpack_from(">q", plain)[0]
    cursor = _Cursor(plain, _end_of(plain, skip))
    for _ in range(count - skip):
        end = cursor.number() + cursor.at
        cursor.number()  # its attributes: one byte in Kafka, but aiokafka takes any number
        timestamp = _int64(first_ms + cursor.number())
        if attributes & _LOG_APPEND_TIME:
            timestamp = newest_ms
        offset = _int64(base + cursor.number())
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


def _int64(number: int) -> int:
    """A sum as Kafka's clients have it, which add in 64 bits."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def has_too_many_headers(plain: bytes) -> bool:
    """Whether a batch that was unpacked has more than `MAX_HEADERS`.

    The records are gone through where its bytes are enough for so many.

    Raises
    ------
    ValueError : a record is damaged, and before it are not too many
    """
    if len(plain) < _LEAST_BYTES * MAX_HEADERS:
        return False
    records = _HEADER.unpack_from(plain, ATTRIBUTES_AT)[-1]
    found = has_more_headers(np.frombuffer(plain, np.uint8), HEADER_BYTES, records, MAX_HEADERS)
    if found == DAMAGED:
        raise ValueError("a record of another length than it says")
    return bool(found)


def _end_of(plain: bytes, records: int) -> int:
    """Where the first so many records end, which were read before."""
    if not records:
        return HEADER_BYTES
    end = end_of(np.frombuffer(plain, np.uint8), HEADER_BYTES, records)
    if end == DAMAGED:
        raise ValueError("a record of another length than it says")
    return end
