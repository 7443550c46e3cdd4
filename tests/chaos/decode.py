"""What a record means, decoded anew: events, catalogue, `applied`, and a state's bytes.

Written apart from the engine, in plain Python and the slow way, after the contracts as they are
documented: whoever reads them from here and from there must come to the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Collection
from typing import Any, NamedTuple

LAYOUT = 4  # of a state
APPLIED_FORMAT = 2
HEADER = struct.Struct("<BBHBBHIIqqfIfH")
ENTRY = struct.Struct("<QII")  # the item and the type, the event's time, its hash
APPLIED_KEY = b"\xff\x00applied"
MARK = b"\xff\x01"  # of a user that was erased; a salted hash follows
SALT_KEY = b"\xff\x02"
COUNTS = b"\xff\x03"  # of an item's counts; its hash follows
COUNTS_ROW = struct.Struct("<Bqddddd")
SEGMENTS = b"\xff\x04"  # of what came of lists; a hash of their settings follows
SEGMENTS_ROW = struct.Struct("<BBBqd24d")
NAME = struct.Struct("<4sB7s")  # of a list: its maker, its cell, what it shows
NAME_CHARACTERS = re.compile(r"[A-Za-z0-9_-]{16}")
LONGEST_NAME = 256

CLICKS = ("view", "click", "add_to_cart", "remove_from_cart", "like", "dislike", "impression")
PURCHASES = ("purchase", "cancel")
TYPES = {name: number for number, name in enumerate((*CLICKS, *PURCHASES), 1)}
KINDS = ("product", "shop", "coupon", "ad", "content")
OLDEST_MS = 946_684_800_000  # 2000-01-01
NEWEST_MS = 4_102_444_800_000  # 2100-01-01: nobody sends one a little ahead of its time

At = tuple[str, int]  # topic, offset; within one partition


class Event(NamedTuple):
    """An event that can be used.

    Attributes
    ----------
    named : hash of its event_id, 0 without one
    kind : number of its type
    paid : for a purchase, or paid back
    sent_ms : timestamp of its record; the event counts as none of a later time
    placement : in whose list it happened; empty where it names none
    list_name : on which list it was done, whether there is one or not; empty where it says nothing
    """

    user: bytes
    item_id: str
    named: int
    kind: int
    time_ms: int
    paid: float = 0.0
    sent_ms: int = NEWEST_MS
    placement: str = ""
    list_name: str = ""


class Erasure(NamedTuple):
    """What asks to forget a user, and the newest event time that is to stay forgotten."""

    user: bytes
    time_ms: int


class Applied(NamedTuple):
    """An `applied` record: next offset by source topic, and who wrote it."""

    following: dict[str, int]
    owner: str


class BadRecordError(Exception):
    """A record that belongs into the dead letters."""


def event(key: bytes | None, value: bytes | None, types: Collection[Any]) -> Event:
    """An event of a topic that takes `types`.

    Raises
    ------
    BadRecordError : it cannot be used
    """
    fields = _object(value)
    user, item = _id(fields, "user_id"), _id(fields, "item_id")
    if key != user.encode():
        raise BadRecordError("key")
    if fields.get("type") not in types:
        raise BadRecordError("type")
    time_ms = _time_ms(fields)
    named = fields.get("event_id")
    named = 0 if named is None else zlib.crc32(_id(fields, "event_id").encode()) or 1
    paid = 0.0
    if types is PURCHASES:
        paid = _amount(fields, "unit_price", 0) * _amount(fields, "quantity", 1)
    list_name = "" if fields.get("list_name") is None else fields["list_name"]
    if not isinstance(list_name, str) or len(list_name) > LONGEST_NAME:
        raise BadRecordError("list_name")
    known = (user.encode(), item, named, TYPES[fields["type"]], time_ms, min(paid, 1e15))
    return Event(*known, placement=fields.get("placement") or "", list_name=list_name)


def erasure(key: bytes | None, value: bytes | None) -> Erasure | None:
    """A record of `erasures`; None says that one is done.

    Raises
    ------
    BadRecordError : it cannot be used
    """
    if value is None and key is not None:
        return None
    fields = _object(value)
    user = _id(fields, "user_id")
    if key != user.encode():
        raise BadRecordError("key")
    return Erasure(user.encode(), _time_ms(fields))


def item(key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
    """A record of the catalogue; None takes the item out.

    Raises
    ------
    BadRecordError : it cannot be used
    """
    if value is None and key:
        return None
    fields = _object(value)
    if key != _id(fields, "item_id").encode():
        raise BadRecordError("key")
    if fields.get("kind", "product") not in KINDS:
        raise BadRecordError("kind")
    price = fields.get("price", 0)
    if type(price) not in (int, float) or price < 0:
        raise BadRecordError("price")
    return fields


def applied(value: bytes) -> Applied:
    found = json.loads(value)
    if found["format"] != APPLIED_FORMAT:
        raise ValueError(f"an `applied` record of format {found['format']}, not {APPLIED_FORMAT}")
    return Applied(found["next"], found["owner"])


def item_hash(item_id: str) -> int:
    digest = hashlib.blake2b(item_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class ListName(NamedTuple):
    """What the name of a list says: who made it, and where what came of it counts."""

    maker: bytes
    cell: int


def list_name(told: str) -> ListName | None:
    """What a name says, if it can be one."""
    if NAME_CHARACTERS.fullmatch(told) is None:
        return None
    maker, cell, _ = NAME.unpack(base64.b64decode(told, b"-_"))
    return ListName(maker, cell)


def list_maker(arm: str, counts_key: bytes) -> bytes:
    """By what names tell that an arm made a list, whose counts stand under this key."""
    maker = hashlib.blake2b(counts_key + arm.encode(), digest_size=8).digest()[:4]
    return maker if any(maker) else b"\x01\x00\x00\x00"


def pseudonym(user: bytes, secret: bytes) -> bytes:
    """The key of a user's state where a secret is set: 128 bits of a keyed hash, as hex digits."""
    key = hashlib.blake2b(secret).digest()
    digest = hashlib.blake2b(user, key=key, digest_size=16, person=b"freshet user")
    return digest.hexdigest().encode()


def _object(value: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads((value or b"").decode())
    except (ValueError, RecursionError) as error:
        raise BadRecordError("not JSON") from error
    if not isinstance(found, dict):
        raise BadRecordError("not an object")
    return found


def _time_ms(fields: dict[str, Any]) -> int:
    found = fields.get("event_time_ms")
    if type(found) is not int or not OLDEST_MS <= found < NEWEST_MS:
        raise BadRecordError("event_time_ms")
    return found


def _id(fields: dict[str, Any], name: str) -> str:
    found = fields.get(name)
    if type(found) not in (str, int) or not 1 <= len(str(found).encode()) <= 256:
        raise BadRecordError(name)
    return str(found)


def _amount(fields: dict[str, Any], name: str, default: float) -> float:
    found = fields.get(name)
    found = default if found is None else found
    if type(found) not in (int, float) or found < 0 or (name == "quantity" and found == 0):
        raise BadRecordError(name)
    return float(found)
