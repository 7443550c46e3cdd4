"""A posted body as records of a topic, checked as a worker would. In: JSON. Out: keys and values.

All of it or nothing: one record that cannot be used refuses the whole body. Values stay the bytes
that came. Knows nothing of HTTP.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from stream.contracts import Rejection, decode_erasures, decode_events, decode_item
from stream.contracts.records import Id
from stream.contracts.requests import Request, decode_requests
from stream.errors import RecordError

MAX_RECORDS: Final = 1000

_BAD: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_SPACE: Final = b" \t\r\n"


class _OfUser(Struct, gc=False):
    user_id: Id


class _OfItem(Struct, gc=False):
    item_id: Id


_USER: Final = msgspec.json.Decoder(_OfUser)
_ITEM: Final = msgspec.json.Decoder(_OfItem)
_MANY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_PARTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])

Check = Callable[[Sequence[bytes | None], Sequence[bytes], int], list[Rejection]]


class BodyError(Exception):
    """The body as a whole cannot be used; `error` is the reason."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


class Records(NamedTuple):
    """What a body holds: n keys, n values, and what is wrong with some of them.

    A key is None only where its record is rejected.
    """

    keys: list[bytes]
    values: list[bytes]
    rejections: list[Rejection]


def _clicks(keys: Sequence[bytes | None], values: Sequence[bytes], now_ms: int) -> list[Rejection]:
    return decode_events("clicks", keys, values, range(len(keys)), now_ms)[1]


def _purchases(
    keys: Sequence[bytes | None], values: Sequence[bytes], now_ms: int
) -> list[Rejection]:
    return decode_events("purchases", keys, values, range(len(keys)), now_ms)[1]


def _items(keys: Sequence[bytes | None], values: Sequence[bytes], now_ms: int) -> list[Rejection]:
    rejections = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        try:
            decode_item(key, value)
        except RecordError as error:
            rejections.append(Rejection(position, error.reason, error.field))
    return rejections


# Field of `Topics` -> what its records are checked by.
CHECKS: Final[dict[str, Check]] = {"clicks": _clicks, "purchases": _purchases, "items": _items}


def read_records(kind: str, body: bytes, now_ms: int) -> Records:
    """The records of a body: an object, or an array of up to `MAX_RECORDS`.

    Parameters
    ----------
    kind : of `CHECKS`
    now_ms : the clock, to refuse events from the future

    Raises
    ------
    BodyError : it is neither, or too many
    """
    values = _split(body)
    keys = [_key(kind, value) for value in values]
    rejections = CHECKS[kind](keys, values, now_ms)
    return Records([key or b"" for key in keys], values, rejections)


def read_request(
    body: bytes, placements: Collection[str]
) -> tuple[bytes, bytes, Request] | list[Rejection]:
    """Key and value of a request, which gets a `request_id` where it has none; or what is wrong.

    Parameters
    ----------
    placements : names that a request may ask for

    Raises
    ------
    BodyError : the body is no object
    """
    try:
        parts = _PARTS.decode(body)
    except _BAD:
        parts = {}  # what is wrong is told below
    value = body
    given = parts.get("request_id")
    if parts and (given is None or bytes(given) == b"null"):
        parts["request_id"] = msgspec.Raw(msgspec.json.encode(uuid.uuid4().hex))
        value = msgspec.json.encode(parts)
    key = _key("requests", value)
    found, rejections = decode_requests([key], [value], placements)
    if rejections:
        return rejections
    ((_, request),) = found
    assert key is not None, "a request without a key is rejected"
    return key, value, request


def erasure_of(user: str, now_ms: int) -> tuple[bytes, bytes] | list[Rejection]:
    """Key and value of the erasure that forgets a user up to now; or what is wrong."""
    key = user.encode()
    value = msgspec.json.encode({"user_id": user, "event_time_ms": now_ms})
    _, rejections = decode_erasures([key], [value], now_ms)
    return rejections or (key, value)


def _split(body: bytes) -> list[bytes]:
    body = body.strip(_SPACE)
    if not body.startswith(b"["):
        return [body]
    try:
        values = _MANY.decode(body)
    except _BAD:
        raise BodyError("not_json", "the body is no array of JSON objects") from None
    if len(values) > MAX_RECORDS:
        raise BodyError(
            "too_many_records",
            f"the array has {len(values)} records; send {MAX_RECORDS} at most at a time",
        )
    return list(map(bytes, values))


def _key(kind: str, value: bytes) -> bytes | None:
    """The record's id as text; None where it has none, which its check says then."""
    found: Any
    try:
        found = _ITEM.decode(value).item_id if kind == "items" else _USER.decode(value).user_id
    except _BAD:
        return None
    return str(found).encode()
