"""One placement of a published record, taken out without decoding the lists.

In: the value of a record of `recommendations`. Out: JSON bytes. Knows no field but `lists`, so that
what else a record says of itself goes along.
"""

from __future__ import annotations

import msgspec

_Parts = dict[str, msgspec.Raw]
_DECODE = msgspec.json.Decoder(_Parts).decode
_ENCODE = msgspec.json.Encoder().encode


def placement_of(value: bytes, placement: str) -> bytes | None:
    """The record with one list in the place of all: `user_id`, `placement`, the rest, `items`.

    Returns
    -------
    None where the record has no such placement

    Raises
    ------
    msgspec.DecodeError : it is no record of lists
    """
    record = _DECODE(value)
    lists = record.pop("lists", None)
    if lists is None:
        raise msgspec.DecodeError("a record without lists")
    found = _DECODE(lists).get(placement)
    if found is None:
        return None
    of_user = {name: record.pop(name) for name in ("user_id",) if name in record}
    return _ENCODE({**of_user, "placement": placement, **record, **_DECODE(found)})


def one_line(value: bytes) -> bytes:
    """JSON without line breaks, which can only stand between its parts."""
    return value.replace(b"\n", b" ").replace(b"\r", b" ")
