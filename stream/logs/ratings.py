"""Ratings as MovieLens publishes them. In: user, item, rating, seconds a line. Out: clicks as JSON.

A rating is a `click` whose properties hold it: whoever rated an item had turned to it, and models
of explicit feedback read the number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Final

import msgspec

from stream.logs.lines import BadLines, Line, OtherFormatError

_FIELDS: Final = 4


def ratings(text: IO[bytes], bad: BadLines) -> Iterator[Line]:
    """`user::item::rating::seconds` (1M, 10M), or CSV with a header (20M and later)."""
    separator = "::"
    for number, line in enumerate(text, 1):
        cells = line.decode("utf-8", "replace").strip().split(separator)
        if number == 1 and len(cells) == 1:
            separator = ","
            if len(cells[0].split(separator)) != _FIELDS:
                raise OtherFormatError(
                    "line 1 is no user::item::rating::seconds, and no CSV header"
                )
            continue
        if cells == [""]:
            continue
        try:
            user_id, item_id, rating, seconds = cells
            fields = {
                "user_id": user_id,
                "item_id": item_id,
                "type": "click",
                "event_time_ms": int(seconds) * 1000,
                "properties": {"rating": float(rating)},
            }
        except ValueError as error:
            bad.append((number, str(error)))
            continue
        yield Line(number, msgspec.json.encode(fields))
