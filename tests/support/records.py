"""Events as they come: good ones, and one for each way to be refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from stream.contracts import CLICK_TYPES, MAX_AHEAD_MS, MAX_VALUE_BYTES, MIN_EVENT_TIME_MS, Kind

NOW_MS = 1_795_316_495_213
ZERO = "aoggjgnckaaa"  # its crc32 is 0
Record = tuple[bytes | None, bytes | None]

ids = st.text(min_size=1, max_size=60).filter(lambda text: len(text.encode()) <= 256)


def event(**changes: Any) -> dict[str, Any]:
    """A good click, with changes; a field set to ... is left out."""
    fields = {
        "event_id": "e1",
        "user_id": "u1",
        "item_id": "i9",
        "type": "click",
        "event_time_ms": NOW_MS,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def click(**changes: Any) -> bytes:
    return json.dumps(event(**changes)).encode()


def purchase(**changes: Any) -> bytes:
    return click(**{"type": "purchase", **changes})


def raw(name: str, literal: str) -> bytes:
    """A click with JSON text of ours as the value of a field."""
    return click(**{name: "@"}).replace(b'"@"', literal.encode())


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + "1" + closing * depth


# Case -> kind, value, reason, field. The key is u1 throughout.
NASTY: dict[str, tuple[Kind, bytes | None, str, str | None]] = {
    "null": ("clicks", None, "empty_value", None),
    "no bytes": ("clicks", b"", "empty_value", None),
    "not JSON": ("clicks", b"user=u1&item=i9", "not_json", None),
    "blanks": ("clicks", b"  ", "not_json", None),
    "half a record": ("clicks", click()[:-1], "not_json", None),
    "two records": ("clicks", click() + click(), "not_json", None),
    "byte order mark": ("clicks", b"\xef\xbb\xbf" + click(), "not_json", None),
    "zero bytes": ("clicks", b"\0" * 100, "not_json", None),
    "not UTF-8": ("clicks", b"\xff\xfe\x00", "not_utf8", None),
    "not UTF-8 in an id": ("clicks", click().replace(b"i9", b"\xff"), "not_utf8", None),
    "not UTF-8 in an unknown field": (
        "clicks",
        click(note="@").replace(b"@", b"\xc3"),
        "not_utf8",
        None,
    ),
    "surrogate in UTF-8": ("clicks", click().replace(b"i9", b"\xed\xa0\x80"), "not_utf8", None),
    "array": ("clicks", b"[" + click() + b"]", "not_object", None),
    "text": ("clicks", b'"u1"', "not_object", None),
    "JSON null": ("clicks", b"null", "not_object", None),
    "no user": ("clicks", click(user_id=...), "missing_field", "user_id"),
    "no item": ("clicks", click(item_id=...), "missing_field", "item_id"),
    "no type": ("clicks", click(type=...), "missing_field", "type"),
    "no time": ("clicks", click(event_time_ms=...), "missing_field", "event_time_ms"),
    "empty object": ("clicks", b"{}", "missing_field", "user_id"),
    "user is null": ("clicks", click(user_id=None), "wrong_type", "user_id"),
    "user is a float": ("clicks", click(user_id=1.0), "wrong_type", "user_id"),
    "user is a boolean": ("clicks", click(user_id=True), "wrong_type", "user_id"),
    "item is a list": ("clicks", click(item_id=["i9"]), "wrong_type", "item_id"),
    "item is a float": ("clicks", raw("item_id", "1e2"), "wrong_type", "item_id"),
    "event id is a float": ("clicks", click(event_id=0.5), "wrong_type", "event_id"),
    "type is a number": ("clicks", click(type=2), "wrong_type", "type"),
    "time is a text": ("clicks", click(event_time_ms=str(NOW_MS)), "wrong_type", "event_time_ms"),
    "time has a fraction": (
        "clicks",
        click(event_time_ms=NOW_MS + 0.5),
        "wrong_type",
        "event_time_ms",
    ),
    "time is a boolean": ("clicks", click(event_time_ms=True), "wrong_type", "event_time_ms"),
    "properties are a list": ("clicks", click(properties=[1]), "wrong_type", "properties"),
    "placement is a number": ("clicks", click(placement=3), "wrong_type", "placement"),
    "list's name is a number": ("clicks", click(list_name=3), "wrong_type", "list_name"),
    "long name of a list": (
        "purchases",
        purchase(list_name="n" * 257),
        "out_of_range",
        "list_name",
    ),
    "unknown type": ("clicks", click(type="stare"), "unknown_type", "type"),
    "type in capitals": ("clicks", click(type="CLICK"), "unknown_type", "type"),
    "purchase among clicks": ("clicks", click(type="purchase"), "unknown_type", "type"),
    "click among purchases": ("purchases", purchase(type="click"), "unknown_type", "type"),
    "empty user": ("clicks", click(user_id=""), "empty_id", "user_id"),
    "empty item": ("clicks", click(item_id=""), "empty_id", "item_id"),
    "empty event id": ("clicks", click(event_id=""), "empty_id", "event_id"),
    "long item": ("clicks", click(item_id="i" * 257), "id_too_long", "item_id"),
    "long event id": ("clicks", click(event_id="i" * 257), "id_too_long", "event_id"),
    "long session": ("clicks", click(session_id="i" * 257), "id_too_long", "session_id"),
    "long item in bytes alone": (
        "clicks",
        json.dumps(event(item_id="é" * 129), ensure_ascii=False).encode(),
        "id_too_long",
        "item_id",
    ),
    "long item in bytes alone, escaped": (
        "clicks",
        click(item_id="é" * 129),
        "id_too_long",
        "item_id",
    ),
    "surrogate in the user": ("clicks", raw("user_id", '"\\ud800"'), "lone_surrogate", "user_id"),
    "surrogate in the item": ("clicks", raw("item_id", '"a\\udc00b"'), "lone_surrogate", "item_id"),
    "surrogate in a property": (
        "clicks",
        raw("properties", '{"a": "\\ud800"}'),
        "lone_surrogate",
        "properties",
    ),
    "surrogate in an unknown field": ("clicks", raw("note", '"\\ud800x"'), "lone_surrogate", None),
    "NaN as time": ("clicks", raw("event_time_ms", "NaN"), "not_finite", "event_time_ms"),
    "infinite time": ("clicks", raw("event_time_ms", "1e999"), "not_finite", "event_time_ms"),
    "NaN in an unknown field": ("clicks", raw("note", "NaN"), "not_finite", None),
    "infinite property": ("clicks", raw("properties", '{"a": 1e999}'), "not_finite", "properties"),
    "infinite property in a list": (
        "clicks",
        raw("properties", '{"a": [-1e999]}'),
        "not_finite",
        "properties",
    ),
    "infinite price": (
        "purchases",
        purchase(unit_price="@").replace(b'"@"', b"1e999"),
        "not_finite",
        "unit_price",
    ),
    "-Infinity as quantity": (
        "purchases",
        purchase(quantity="@").replace(b'"@"', b"-Infinity"),
        "not_finite",
        "quantity",
    ),
    "bomb of lists": ("clicks", raw("note", nested(30_000)), "nested_too_deep", None),
    "bomb of objects": (
        "clicks",
        raw("note", nested(9_000, '{"a":', "}")),
        "nested_too_deep",
        None,
    ),
    "bomb as value": ("clicks", b"[" * 60_000, "nested_too_deep", None),
    "bomb as user": ("clicks", raw("user_id", nested(20_000)), "nested_too_deep", None),
    "deep property": ("clicks", click(properties={"a": [[1]]}), "nested_too_deep", "properties"),
    "wide user": ("clicks", raw("user_id", "9" * 19), "integer_too_large", "user_id"),
    "very wide user": ("clicks", raw("user_id", "9" * 6_000), "integer_too_large", "user_id"),
    "wide time": ("clicks", raw("event_time_ms", "9" * 30), "integer_too_large", "event_time_ms"),
    "wide negative time": (
        "clicks",
        raw("event_time_ms", "-" + "9" * 30),
        "integer_too_large",
        "event_time_ms",
    ),
    "wide property": ("clicks", click(properties={"a": 2**64}), "integer_too_large", "properties"),
    "wide price": ("purchases", purchase(unit_price=2**70), "integer_too_large", "unit_price"),
    "time in seconds": (
        "clicks",
        click(event_time_ms=NOW_MS // 1000),
        "event_time_too_old",
        "event_time_ms",
    ),
    "time before 1970": ("clicks", click(event_time_ms=-1), "event_time_too_old", "event_time_ms"),
    "the last of 1999": (
        "clicks",
        click(event_time_ms=MIN_EVENT_TIME_MS - 1),
        "event_time_too_old",
        "event_time_ms",
    ),
    "over a day ahead": (
        "clicks",
        click(event_time_ms=NOW_MS + MAX_AHEAD_MS + 1),
        "event_time_ahead",
        "event_time_ms",
    ),
    "another's key": ("clicks", click(user_id="u2"), "key_mismatch", "user_id"),
    "too large": ("clicks", click(note="x" * MAX_VALUE_BYTES), "value_too_large", None),
    "no quantity at all": ("purchases", purchase(quantity=0), "out_of_range", "quantity"),
    "negative price": ("purchases", purchase(unit_price=-0.01), "out_of_range", "unit_price"),
    "price as text": ("purchases", purchase(unit_price="1.5"), "wrong_type", "unit_price"),
    "currency as number": ("purchases", purchase(currency=978), "wrong_type", "currency"),
}

GOOD: dict[Kind, list[bytes]] = {
    "clicks": [
        click(),
        click(event_id=...),
        click(event_id=None, session_id=None, placement=None, list_name=None, properties=None),
        click(list_name=""),
        click(list_name="é \0" * 85, placement="home"),
        click(event_id=7, item_id=-3, session_id=2**63 - 1),
        click(item_id="é" * 128, event_id="ключ"),
        json.dumps(event(item_id="naïve 🛒"), ensure_ascii=False).encode(),
        click(properties={"a": 1, "b": [1.5, None, "x", True], "c": {"d": 2}}, placement="home"),
        click(note={"deep": [[[{"a": 2**70}]]]}, another=1),
        click(event_time_ms=MIN_EVENT_TIME_MS),
        click(event_time_ms=NOW_MS + MAX_AHEAD_MS),
        b" " + click(item_id="\0") + b"\n",
        click(note="x" * (MAX_VALUE_BYTES - 200)),
        *(click(type=name) for name in sorted(CLICK_TYPES)),
    ],
    "purchases": [
        purchase(),
        purchase(type="cancel"),
        purchase(quantity=2, unit_price=0, currency="EUR"),
        purchase(quantity=0.5, unit_price=1e300, currency=None),
    ],
}
