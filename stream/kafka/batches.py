"""Batches of records, as columns. In: nothing. Out: what the reader hands in and the writer takes.

Knows nothing of Faust, of aiokafka and of what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stream.contracts import Headers


@dataclass(slots=True, eq=False)
class RecordBatch:
    """A stretch of one topic partition in offset order; every column has one entry a record.

    Attributes
    ----------
    base : offset of the first record
    next : offset after the last one; larger than `offsets[-1] + 1` where the log has holes
    timestamps_ms : the records' own timestamps, milliseconds since 1970
    headers : position -> headers, of those records alone that have any
    unpacked_bytes : about what those of these records take in memory that came compressed. Of the
        pieces of a `split`, the last has all of it: the others may share its record batches.
    """

    topic: str
    partition: int
    base: int
    next: int
    keys: list[bytes | None]
    values: list[bytes | None]
    offsets: list[int]
    timestamps_ms: list[int]
    headers: dict[int, Headers] = field(default_factory=dict)
    unpacked_bytes: int = 0

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, max_records: int) -> list[RecordBatch]:
        """Cut into batches of at most `max_records`; together they cover the same offsets."""
        size = len(self.offsets)
        if size <= max_records:
            return [self]
        pieces = []
        for start in range(0, size, max_records):
            stop = min(start + max_records, size)
            pieces.append(
                RecordBatch(
                    topic=self.topic,
                    partition=self.partition,
                    base=self.offsets[start],
                    next=self.offsets[stop] if stop < size else self.next,
                    keys=self.keys[start:stop],
                    values=self.values[start:stop],
                    offsets=self.offsets[start:stop],
                    timestamps_ms=self.timestamps_ms[start:stop],
                    headers=self._headers_of(range(start, stop)),
                    unpacked_bytes=self.unpacked_bytes if stop == size else 0,
                )
            )
        return pieces

    def _headers_of(self, positions: range) -> dict[int, Headers]:
        if not self.headers:
            return {}
        first = positions.start
        return {at - first: self.headers[at] for at in positions if at in self.headers}


@dataclass(slots=True, eq=False)
class Records:
    """Records to send, in order. A value of None deletes its key; no headers at all is None."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None

    def __len__(self) -> int:
        return len(self.keys)
