"""What a dead letter says of the record that it holds. In: a refused record. Out: its headers.

A letter has the record's own headers first, in their order, and Freshet's after them. So of each
`freshet-...` name the last one is ours, whatever the record claims, and `freshet-headers`, the last
of all that were there from the start, tells how many of the first are the record's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

# Names as text with `surrogateescape`: a producer's need not be UTF-8. A value may be null.
Headers: TypeAlias = list[tuple[str, bytes | None]]


class Unreadable(bytes):
    """The bytes of a stored record batch, or the rest of it, that no record can be taken from.

    Stands among a batch's values as one record at `last_offset`, without a key.

    Attributes
    ----------
    reason : one of `REASONS`
    first_offset, last_offset : the records that it stands for; those before were read
    """

    reason: str
    first_offset: int
    last_offset: int

    @classmethod
    def of(cls, stored: bytes, reason: str, first_offset: int, last_offset: int) -> Unreadable:
        made = cls(stored)
        made.reason, made.first_offset, made.last_offset = reason, first_offset, last_offset
        return made


def dead_letter_headers(
    reason: str,
    field: str | None,
    topic: str,
    partition: int,
    offset: int,
    *,
    sent: Sequence[tuple[str, bytes | None]] = (),
    value: bytes | None = None,
) -> Headers:
    """Headers that say of a dead letter why and from where; key and value stay as they were.

    Parameters
    ----------
    sent : the record's own headers
    value : the record's; an `Unreadable` has more than one offset
    """
    unreadable = value if isinstance(value, Unreadable) else None
    headers: Headers = [
        *sent,
        ("freshet-reason", reason.encode()),
        ("freshet-field", b"" if field is None else field.encode()),
        ("freshet-topic", topic.encode()),
        ("freshet-partition", b"%d" % partition),
        ("freshet-offset", b"%d" % (offset if unreadable is None else unreadable.first_offset)),
    ]
    if unreadable is not None:
        headers.append(("freshet-last-offset", b"%d" % unreadable.last_offset))
    headers.append(("freshet-headers", b"%d" % len(sent)))
    return headers


class Origin(Protocol):
    """The batch that a record came in."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def values(self) -> Sequence[bytes | None]: ...
    @property
    def offsets(self) -> Sequence[int]: ...
    @property
    def headers(self) -> Mapping[int, Headers]: ...


def headers_of_rejected(batch: Origin, position: int, reason: str, field: str | None) -> Headers:
    """`dead_letter_headers` for the record at a position of its batch."""
    return dead_letter_headers(
        reason,
        field,
        batch.topic,
        batch.partition,
        batch.offsets[position],
        sent=batch.headers.get(position, ()),
        value=batch.values[position],
    )
