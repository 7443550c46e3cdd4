"""Records packed into record batches. In: columns of records. Out: batches that aiokafka sends.

Knows nothing of brokers, of the right to write and of what the records mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, repeat
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from stream.contracts import Headers
from stream.kafka.batches import Records

NONE, GZIP = 0, 1  # compression, as in the attributes of a record batch

_NO_HEADERS: Headers = []


class PlainBatch(BatchBuilder):  # type: ignore[misc]  # aiokafka is untyped
    """One record batch, filled in one go; uncompressed unless told.

    Upstream: aiokafka BatchBuilder (0.14); `append` costs a serializer call and a metadata object
    a record.
    """

    _builder: Any

    def __init__(self, max_bytes: int, compression: int = NONE) -> None:
        super().__init__(max_bytes, compression)
        self._max_bytes = max_bytes

    def fill(self, records: Records, first: int, timestamp_ms: int) -> int:
        """Append records from position `first` on; returns the position of the first left out."""
        append = self._builder.append
        keys, values = islice(records.keys, first, None), islice(records.values, first, None)
        headers: Iterable[Headers] = repeat(_NO_HEADERS)
        if records.headers is not None:
            headers = islice(records.headers, first, None)
        count = 0
        try:
            for key, value, header in zip(keys, values, headers, strict=False):
                if append(count, timestamp_ms, key, value, header) is None:
                    break
                count += 1
        except UnicodeEncodeError:  # a header's name is no UTF-8: a batch of its own
            if not count:
                self._builder = _any_names(self._max_bytes)
                named = [(_AnyName(name), given) for name, given in header]
                self._builder.append(0, timestamp_ms, key, value, named)
                count = 1
        self._relative_offset += count
        self.close()
        return first + count

    def _set_producer_state(self, producer_id: int, producer_epoch: int, sequence: int) -> None:
        """Upstream: BatchBuilder._set_producer_state, which knows the builder in C alone."""
        self._builder.set_producer_state(producer_id, producer_epoch, sequence)


class _AnyName(str):
    """A header's name of any bytes, as text with `surrogateescape`."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> bytes:
        return str.encode(self, encoding, "surrogateescape")


def _any_names(max_bytes: int) -> Any:
    """The builder in Python, which has names encode themselves; it takes a first record always."""
    return _DefaultRecordBatchBuilderPy(2, NONE, 0, -1, -1, 0, max_bytes)
