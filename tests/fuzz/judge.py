"""What the contract says of a record, decided once more in plain Python.

In: a record. Out: whether it is good, or that the contract leaves it open. Written from the
README, with the standard library alone: shares nothing with `stream.contracts` but the limits'
numbers, which stand here again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, Literal

Verdict = Literal["good", "bad", "open"]

_MAX_BYTES: Final = 64 * 1024
_DAY_MS: Final = 86_400_000
_YEAR_2000_MS: Final = 946_684_800_000
_CLICKS: Final = (
    "view",
    "click",
    "add_to_cart",
    "remove_from_cart",
    "like",
    "dislike",
    "impression",
)
_PURCHASES: Final = ("purchase", "cancel")
_KINDS: Final = ("product", "shop", "coupon", "ad", "content")
_ASKED: Final = ("list", "rank", "similar", "together", "trending", "explain", "state")
_NEEDS: Final = {
    "rank": "candidates",
    "explain": "candidates",
    "similar": "item_id",
    "together": "item_id",
}
_DEEP: Final = 150  # nested deeper the contract names no limit but the interpreter's


class _BadError(Exception):
    pass


def _require(holds: bool) -> None:
    if not holds:
        raise _BadError


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)


def _text_id(value: Any) -> None:
    _require(_is_text(value) and 1 <= len(value.encode()) <= 256)


def _id(value: Any) -> None:
    if not _is_whole(value):
        _text_id(value)


def _label(value: Any) -> None:
    _require(_is_text(value) and len(value) <= 256)


def _text(value: Any) -> None:
    _require(_is_text(value))


def _amount(value: Any) -> None:
    _require(_is_number(value) and value >= 0)


def _quantity(value: Any) -> None:
    _require(_is_number(value) and value > 0)


def _time(value: Any) -> None:
    _require(_is_whole(value) and value >= _YEAR_2000_MS)


def _scalar(value: Any) -> None:
    _require(value is None or isinstance(value, bool) or _is_number(value) or _is_text(value))


def _properties(value: Any) -> None:
    _require(isinstance(value, dict))
    for name, given in value.items():
        _text(name)
        parts = given if isinstance(given, list) else [given]
        if isinstance(given, dict):
            parts = list(given.values())
            for inner in given:
                _text(inner)
        for one in parts:
            _scalar(one)


def _one_of(names: tuple[str, ...]) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        _require(isinstance(value, str) and value in names)

    return check


def _list_of(
    check: Callable[[Any], None], least: int = 0, most: float = math.inf
) -> Callable[[Any], None]:
    def check_all(value: Any) -> None:
        _require(isinstance(value, list) and least <= len(value) <= most)
        for one in value:
            check(one)

    return check_all


def _flag(value: Any) -> None:
    _require(isinstance(value, bool))


def _number(value: Any) -> None:
    _require(_is_number(value))


def _k(value: Any) -> None:
    _require(_is_whole(value) and 1 <= value <= 1000)


def _weight(value: Any) -> None:
    _require(_is_number(value) and 0 <= value <= 1)


_EVENT: Final = {
    "event_id": _id,
    "session_id": _id,
    "placement": _label,
    "list_name": _label,
    "properties": _properties,
}
_REQUIRED: Final[dict[str, dict[str, Callable[[Any], None]]]] = {
    "clicks": {"user_id": _id, "item_id": _id, "type": _one_of(_CLICKS), "event_time_ms": _time},
    "purchases": {
        "user_id": _id,
        "item_id": _id,
        "type": _one_of(_PURCHASES),
        "event_time_ms": _time,
    },
    "items": {"item_id": _id},
    "requests": {"request_id": _id, "user_id": _id, "type": _one_of(_ASKED)},
    "erasures": {"user_id": _id, "event_time_ms": _time},
}
_NULLABLE: Final[dict[str, dict[str, Callable[[Any], None]]]] = {
    "clicks": _EVENT,
    "purchases": {
        **_EVENT,
        "quantity": _quantity,
        "unit_price": _amount,
        "currency": _label,
    },
    "items": {
        "title": _text,
        "category": _text,
        "brand": _text,
        "price": _amount,
        "embedding": _list_of(_number),
    },
    "requests": {
        "placement": _label,
        "k": _k,
        "item_id": _id,
        "candidates": _list_of(_id, 1, 1000),
        "relevance": _list_of(_number, 0, 1000),
        "weight": _weight,
        "kind": _one_of(_KINDS),
        "category": _label,
        "deadline_ms": _time,
    },
    "erasures": {},
}
_NEVER_NULL: Final[dict[str, dict[str, Callable[[Any], None]]]] = {
    "items": {"kind": _one_of(_KINDS), "available": _flag, "tags": _list_of(_text)},
}


def judge(
    topic: str, key: bytes | None, value: bytes | None, now_ms: int, embedding_dim: int
) -> Verdict:
    """Whether a record of `topic` (a setting's name) can be used.

    A null value is good on `items` and `erasures` with a key that an id may have.
    """
    try:
        if value is None:
            return _tombstone(topic, key)
        pairs = _object(value)
        found = dict(pairs)
        _require(all(name in found for name in _REQUIRED[topic]))
        never_null = _REQUIRED[topic] | _NEVER_NULL.get(topic, {})
        for name, given in pairs:  # of a field given twice the last counts, and all must be sound
            if name in never_null:
                never_null[name](given)
            elif name in _NULLABLE[topic] and given is not None:
                _NULLABLE[topic][name](given)
        _require(found.get("event_time_ms", 0) <= now_ms + _DAY_MS)
        id_of_key = found["item_id" if topic == "items" else "user_id"]
        _require(key == str(id_of_key).encode())
        if topic == "items" and found.get("embedding") is not None:
            _direction(found["embedding"], embedding_dim)
        if topic == "requests":
            _request(found)
    except _BadError:
        return "bad"
    except RecursionError:
        return "bad" if value[:1] == b"[" else "open"
    return "open" if _depth(value) > _DEEP else "good"


def _request(found: dict[str, Any]) -> None:
    """Fields of a request that depend on each other."""
    _require(found.get("placement") in (None, "home"))  # a name is looked up of what counts alone
    needed = _NEEDS.get(found["type"])
    _require(needed is None or found.get(needed) is not None)
    candidates, relevance = found.get("candidates") or [], found.get("relevance")
    _require(found["type"] != "explain" or len(candidates) <= 100)
    _require(relevance is None or len(relevance) == len(candidates))


def _tombstone(topic: str, key: bytes | None) -> Verdict:
    if topic not in {"items", "erasures"} or key is None:
        return "bad"
    if topic == "erasures":
        return "good"
    try:
        _text_id(key.decode())
    except (UnicodeDecodeError, _BadError):
        return "bad"
    return "good"


class _Object(list[tuple[str, Any]]):
    """The fields of a JSON object, each as often as it was given."""


def _object(value: bytes) -> list[tuple[str, Any]]:
    _require(0 < len(value) <= _MAX_BYTES)

    def refuse(_: str) -> None:
        raise _BadError

    def whole(digits: str) -> int:
        return int(digits) if len(digits) < 100 else 2**70

    try:
        found = json.loads(
            value.decode(), parse_constant=refuse, parse_int=whole, object_pairs_hook=_Object
        )
    except ValueError:
        raise _BadError from None
    _require(isinstance(found, _Object))
    # A lone surrogate cannot be put into UTF-8, whatever the field.
    _require(_surrogates(found))
    return [(name, _plain(given)) for name, given in found]


def _plain(value: Any) -> Any:
    if isinstance(value, _Object):
        return {name: _plain(given) for name, given in value}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _surrogates(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, _Object):
        return all(_is_text(name) and _surrogates(part) for name, part in value)
    return all(map(_surrogates, value)) if isinstance(value, list) else True


def _depth(value: bytes) -> int:
    """At least how deep a value is nested, by its brackets; those in texts count as well."""
    return max(value.count(b"["), value.count(b"{"))


def _direction(embedding: list[float], dim: int) -> None:
    """An embedding is scaled to length 1, in float32."""
    largest = 3.4028235677973366e38
    _require(len(embedding) == dim)
    _require(all(abs(number) < largest for number in embedding))
    _require(any(abs(number) > 7.006492321624085e-46 for number in embedding))
