"""Record batches for the commands' consumers. In: the bytes of a fetch. Out: records.

kafka-python unpacks whatever a batch claims to be and refuses names of headers that are not UTF-8;
the commands read the shop's topics and must bear both as a worker does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kafka.consumer import fetcher

from stream.contracts import Headers
from stream.kafka.unpack import StoredBatch, Stretch


class _Record(NamedTuple):
    """Upstream: kafka-python DefaultRecord."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    size_in_bytes: int
    checksum: None = None

    def validate_crc(self) -> bool:
        return True  # the batch was


class _Batch(StoredBatch):
    """Upstream: kafka-python DefaultRecordBatch and LegacyRecordBatch."""

    @property
    def magic(self) -> int:
        return self._stored[16]

    @property
    def leader_epoch(self) -> int:
        return int.from_bytes(self._stored[12:16], signed=True)

    def __iter__(self) -> Iterator[Any]:
        for record in super().__iter__():
            headers = [(_encodable(name), value) for name, value in record.headers]
            size = len(record.key or b"") + len(record.value or b"")
            yield _Record(
                record.offset,
                record.timestamp,
                record.timestamp_type,
                record.key,
                record.value,
                headers,
                size,
            )


def _encodable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Stretch(Stretch):
    """Upstream: kafka-python MemoryRecords."""

    batch = _Batch


def bound_unpacking() -> None:
    """Have kafka-python's consumers read record batches by this module.

    Upstream: kafka.consumer.fetcher.MemoryRecords, the name that Fetcher._parse_fetched_data looks
    up.
    """
    fetcher.MemoryRecords = _Stretch
