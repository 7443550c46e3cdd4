"""Bytes to records and back; JSON. The one place to change for another wire format.

In: the keys and values of a record batch. Out: the good events as columns, and a rejection for each
of the others. A good batch is decoded without a check per record: keys, lengths and times are
checked for all at once. Only when something is wrong is it taken apart record by record.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, Literal, NamedTuple, TypeVar
from zlib import crc32

import msgspec
import numpy as np

from stream.contracts.diagnosis import diagnose
from stream.contracts.events import Events
from stream.contracts.forgetting import Erasure
from stream.contracts.letters import Unreadable
from stream.contracts.records import (
    EVENT_TYPES,
    ID_FIELDS,
    MAX_AHEAD_MS,
    MAX_AMOUNT,
    MAX_ID_BYTES,
    MAX_VALUE_BYTES,
    Click,
    Id,
    Item,
    Purchase,
    Recommendation,
    event_hash,
)
from stream.errors import RecordError

Kind = Literal["clicks", "purchases"]
Event = Click | Purchase
R = TypeVar("R", bound=msgspec.Struct)

_RECORDS: Final[dict[Kind, type[Event]]] = {"clicks": Click, "purchases": Purchase}
_DECODERS: Final[dict[Kind, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(record) for kind, record in _RECORDS.items()
}
_CODES: Final[dict[str, int]] = {name: int(code) for name, code in EVENT_TYPES.items()}
# What a decoder raises: a RecursionError for nesting, a UnicodeDecodeError for bytes in a text.
_REFUSED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENCODE: Final = msgspec.json.Encoder().encode


class Rejection(NamedTuple):
    """A record that cannot be used: where it is in its batch, why, and the field at fault."""

    position: int
    reason: str
    field: str | None


def decode_events(
    kind: Kind,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    offsets: Sequence[int],
    now_ms: int,
) -> tuple[Events, list[Rejection]]:
    """Decode a record batch of `clicks` or `purchases`.

    Parameters
    ----------
    keys, values, offsets : n of each, in offset order
    now_ms : the clock, to refuse events from the future

    Returns
    -------
    the good events, and a rejection for each other record, both in offset order
    """
    events = _decode_together(kind, keys, values, offsets, now_ms)
    if events is not None:
        return events, []
    good: list[int] = []
    records: list[Event] = []
    rejections: list[Rejection] = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            records.append(_decode_alone(kind, key, value, now_ms))
            good.append(position)
        except RecordError as error:
            rejections.append(Rejection(position, error.reason, error.field))
    users = _utf8([record.user_id for record in records])
    return _columns(users, records, [offsets[position] for position in good]), rejections


def _decode_together(
    kind: Kind,
    keys: Sequence[bytes | None],
    values: Sequence[bytes | None],
    offsets: Sequence[int],
    now_ms: int,
) -> Events | None:
    """All events of the batch, or None when there is anything wrong with any of them."""
    try:
        joined = b"".join(values)  # type: ignore[arg-type]  # a null value is a TypeError
        decode = _DECODERS[kind].decode
        records = [decode(value) for value in values]  # type: ignore[arg-type]
        # Each value begins and ends with ASCII, so together they are UTF-8 or one is not.
        plain = _is_plain(joined)
    except (*_REFUSED, TypeError):
        return None
    users = _utf8([record.user_id for record in records])
    if users != list(keys):
        return None
    if len(joined) > MAX_VALUE_BYTES and max(map(len, values)) > MAX_VALUE_BYTES:  # type: ignore[arg-type]
        return None
    if not plain and any(map(_has_long_id, records)):
        return None
    events = _columns(users, records, offsets)
    if len(events) and events.times_ms.max() > now_ms + MAX_AHEAD_MS:
        return None
    return events


def _decode_alone(kind: Kind, key: bytes | None, value: bytes | None, now_ms: int) -> Event:
    """One event; raises RecordError. Agrees with `_decode_together` on what is good."""
    record = _decode(_DECODERS[kind], value)
    _check_ahead(record.event_time_ms, now_ms)
    check_key(key, "user_id", record.user_id)
    return record  # type: ignore[no-any-return]


def _columns(users: list[bytes], records: Sequence[Event], offsets: Sequence[int]) -> Events:
    event_ids = [record.event_id for record in records]
    try:
        hashes = np.array(list(map(crc32, map(str.encode, event_ids))), np.uint32)  # type: ignore[arg-type]
        hashes[hashes == 0] = 1
    except TypeError:  # some are missing or numbers
        hashes = np.array([0 if e is None else event_hash(str(e)) for e in event_ids], np.uint32)
    return Events(
        users=users,
        items=[str(record.item_id) for record in records],
        types=np.frombuffer(bytearray([_CODES[record.type] for record in records]), np.uint8),
        times_ms=np.fromiter([record.event_time_ms for record in records], np.int64, len(records)),
        event_hashes=hashes,
        offsets=np.array(offsets, np.int64),
        amounts=_amounts(records),
        placements=[record.placement for record in records],
        list_names=[record.list_name for record in records],
        properties=[record.properties for record in records],
    )


def _amounts(records: Sequence[Event]) -> np.ndarray:
    """What was paid for each purchase: `Events.amounts`; of clicks, 0."""
    if not records or not isinstance(records[0], Purchase):
        return np.zeros(len(records))
    paid = [
        min(float(record.unit_price) * float(record.quantity or 1), MAX_AMOUNT)  # type: ignore[union-attr]
        if record.unit_price  # type: ignore[union-attr]
        else 0.0
        for record in records
    ]
    return np.fromiter(paid, np.float64, len(paid))


def _utf8(ids: list[Id]) -> list[bytes]:
    try:
        return list(map(str.encode, ids))  # type: ignore[arg-type]
    except TypeError:  # some are numbers
        return [str(external_id).encode() for external_id in ids]


def _is_plain(value: bytes) -> bool:
    r"""True when texts hold ASCII alone, also as \u....; raises UnicodeDecodeError."""
    if not value.isascii():
        value.decode()
        return False
    return b"\\" not in value


@cache
def _id_fields(record: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name in record.__struct_fields__ if name in ID_FIELDS)


def _has_long_id(record: msgspec.Struct) -> bool:
    """True when an id that passed as 256 characters is more than 256 bytes."""
    for name in _id_fields(type(record)):
        value = getattr(record, name)
        # A character has 4 bytes at most, so that few ids need to be encoded.
        long = isinstance(value, str) and len(value) > MAX_ID_BYTES // 4
        if long and len(value.encode()) > MAX_ID_BYTES:
            return True
    return False


def _decode(
    decoder: msgspec.json.Decoder[R], value: bytes | None, max_bytes: int = MAX_VALUE_BYTES
) -> R:
    """One record on its own, all but its key checked; raises RecordError."""
    if isinstance(value, Unreadable):
        raise RecordError(value.reason)
    if not value:
        raise RecordError("empty_value")
    if len(value) > max_bytes:
        raise RecordError("value_too_large")
    try:
        record = decoder.decode(value)
        plain = _is_plain(value)
    except _REFUSED:
        raise diagnose(decoder.type, value) from None
    if not plain and _has_long_id(record):
        raise diagnose(decoder.type, value)
    return record


def _check_ahead(time_ms: int, now_ms: int) -> None:
    if time_ms > now_ms + MAX_AHEAD_MS:
        raise RecordError("event_time_ahead", "event_time_ms")


def check_key(key: bytes | None, field: str, external_id: str | int) -> None:
    """Raise RecordError for a key that is not the id in the record."""
    if key is None:
        raise RecordError("key_missing", field)
    if key != str(external_id).encode():
        raise RecordError("key_mismatch", field)


def _check_item_key(key: bytes | None) -> None:
    """Raise RecordError for a key that can be no item's."""
    if not key:
        raise RecordError("key_missing", "item_id")
    if len(key) > MAX_ID_BYTES:
        raise RecordError("id_too_long", "item_id")
    try:
        key.decode()
    except UnicodeDecodeError:
        raise RecordError("not_utf8", "item_id") from None


class _ItemRecord(Item, frozen=True, gc=False):
    """An `Item` as it comes: its item_id may be a number."""

    item_id: Id  # type: ignore[assignment]


@cache
def _decoder(record: type[R]) -> msgspec.json.Decoder[R]:
    return msgspec.json.Decoder(record)


def decode_item(key: bytes | None, value: bytes | None) -> Item | None:
    """A record of `items`; None for a tombstone. Raises RecordError."""
    if value is None:
        _check_item_key(key)
        return None
    record = _decode(_decoder(_ItemRecord), value)
    check_key(key, "item_id", record.item_id)
    return Item(**{**msgspec.structs.asdict(record), "item_id": str(record.item_id)})


def decode_erasures(
    keys: Sequence[bytes | None], values: Sequence[bytes | None], now_ms: int
) -> tuple[list[tuple[int, Erasure]], list[Rejection]]:
    """Records of `erasures` with their positions, and rejections; a null value is neither."""
    erasures, rejections = [], []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        if value is None and key is not None:
            continue
        try:
            erasure = _decode(_decoder(Erasure), value)
            _check_ahead(erasure.event_time_ms, now_ms)
            check_key(key, "user_id", erasure.user_id)
            erasures.append((position, erasure))
        except RecordError as error:
            rejections.append(Rejection(position, error.reason, error.field))
    return erasures, rejections


def decode_record(record: type[R], value: bytes | None, max_bytes: int = MAX_VALUE_BYTES) -> R:
    """Any other record, all but its key checked, such as a `Receipt`. Raises RecordError."""
    decoder: msgspec.json.Decoder[R] = _decoder(record)
    return _decode(decoder, value, max_bytes)


def decode_recommendation(value: bytes | None) -> Recommendation:
    """A record of `recommendations` that is no tombstone, of any size: lists may be long.

    Raises RecordError.
    """
    return decode_record(Recommendation, value, max_bytes=sys.maxsize)


def encode_record(record: msgspec.Struct) -> bytes:
    """Any record of this package: an event, an item, a recommendation, ..."""
    return _ENCODE(record)
