"""Parquet files of events. In: columns named like the fields of an event. Out: events as JSON.

A row is what a line of `events` is. `event_time_ms` may also be a timestamp. Reads some thousand
rows at a time, and none of the columns that an event has no use for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any, Final

import msgspec

from stream.contracts import Click, Purchase
from stream.errors import UsageError
from stream.logs.lines import BadLines, Line, OtherFormatError

_ROWS: Final = 8192
_ABOUT: Final = ("title", "category", "brand", "price")
_NEEDED: Final = ("user_id", "item_id", "type", "event_time_ms")


def parquet(raw: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """The rows of a Parquet file, numbered from 1."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UsageError(
            "Parquet files need pyarrow: pip install 'freshet[parquet]', or give JSON lines"
        ) from None
    try:
        file = ParquetFile(raw)
        names = set(file.schema_arrow.names)
        if missing := [name for name in _NEEDED if name not in names]:
            raise OtherFormatError(f"no column {', '.join(missing)}")
        fields = names & {*Click.__struct_fields__, *Purchase.__struct_fields__}
        number = 0
        for batch in file.iter_batches(_ROWS, columns=sorted(fields | names & set(_ABOUT))):
            for row in batch.to_pylist():
                number += 1
                yield _line(number, row, fields)
    except ArrowException as error:
        raise OtherFormatError(str(error).splitlines()[0]) from None


def _line(number: int, row: dict[str, Any], fields: set[str]) -> Line:
    about = {name: str(row[name]) for name in _ABOUT if row.get(name) not in (None, "")}
    event = {name: row[name] for name in fields if row[name] is not None}
    moment = event.get("event_time_ms")
    if isinstance(moment, datetime):
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        event["event_time_ms"] = round(moment.timestamp() * 1000)
    return Line(number, msgspec.json.encode(event), about)
