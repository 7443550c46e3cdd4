"""Payloads that show what a record looks like, made from its type: the document's examples.

In: a record's type. Out: objects that decode into it. A field has the value that stands here by its
name, where that fits its type, else the plainest one of the type.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct, inspect
from msgspec.structs import FieldInfo

from stream.contracts import partition_of
from stream.revision import revision_of
from stream.settings import Settings, Topics

# In the past of every clock, as some events of the tests are.
TIME_MS: Final = 1_700_000_000_000
USER: Final = "u1"

# The first that fits is taken.
BY_NAME: Final[Mapping[str, Sequence[Any]]] = {
    "user_id": [USER],
    "item_id": ["85123A"],
    "type": ["click", "purchase", "list"],
    "kind": ["product"],
    "event_id": ["e-1"],
    "session_id": ["s-1"],
    "request_id": ["r-1"],
    "placement": ["home"],
    "list_name": ["oVkPcf8AKRcwjUVi"],
    "name": ["oVkPcf8AKRcwjUVi"],
    "event_time_ms": [TIME_MS],
    "properties": [{"colour": "white", "sizes": ["S", "M"], "gift": {"wrapped": True}}],
    "quantity": [6],
    "unit_price": [2.55],
    "price": [2.55],
    "currency": ["GBP"],
    "title": ["White hanging heart T-light holder"],
    "category": ["candles"],
    "brand": ["Hearts"],
    "tags": [["heart", "candle"]],
    "shop": ["hearts-and-more"],
    "bid": [0.2],
    "budget": [50],
    "budget_period_s": [86_400],
    "repurchase_s": [30 * 86_400],
    "candidates": [["85123A", "22423"]],
    "relevance": [[0.5, 2]],
    "k": [5],
    "score": [0.83],
    "rank": [1],
    "explored": [False],
    "propensity": [1.0],
    "code": ["click"],
    "model": ["b1946ac92492d234"],
    "variant": ["default"],
    "settings": [revision_of(Settings().placements)],
    "topic": [Topics().clicks],
    "partition": [partition_of(USER.encode(), Topics().partitions)],
    "offset": [41],
    "erasure": [
        {
            "topic": Topics().erasures,
            "partition": partition_of(USER.encode(), Topics().partitions),
            "offset": 0,
            "event_time_ms": TIME_MS,
        }
    ],
    "newest_event_ms": [TIME_MS],
    "state_bytes": [181],
    "generated_ms": [TIME_MS + 12],
    "deadline_ms": [TIME_MS + 1000],
    "completed_ms": [TIME_MS + 1000],
    "user_hash": ["6f1ed002ab5595859014ebf0951522d9"],
    "removed": [[Topics().recommendations]],
    "copies_until_ms": [{Topics().recommendations: TIME_MS + 86_400_000, Topics().clicks: None}],
    "copies_unknown": [[Topics().answers]],
    "without_user_ids": [[Topics().trending, Topics().receipts]],
}
KEYS: Final[Mapping[str, str]] = {"lists": "home"}  # of objects with names of their own
# What a bundle must have been made for.
LEFT_OUT: Final = frozenset({"embedding"})


def examples(record: type[Struct]) -> list[dict[str, Any]]:
    """An AsyncAPI example of the fields that a record needs, and one of all, where it has more."""
    needed = payload(record, [f for f in msgspec.structs.fields(record) if f.required])
    every = payload(record)
    shown = [{"name": "needed", "summary": "what must be there", "payload": needed}]
    if every != needed:
        shown.append({"name": "every", "summary": "with all that may be there", "payload": every})
    return shown


def payload(record: type[Struct], fields: Sequence[FieldInfo] | None = None) -> dict[str, Any]:
    """Return an object of these fields, or of all."""
    return {
        field.encode_name: _value(field.encode_name, field.type)
        for field in (msgspec.structs.fields(record) if fields is None else fields)
        if field.encode_name not in LEFT_OUT
    }


def _value(name: str, kind: Any) -> Any:
    for value in (*BY_NAME.get(name, ()), _plainest(name, inspect.type_info(kind))):
        with contextlib.suppress(msgspec.ValidationError):  # the name means something else here
            msgspec.convert(value, kind)
            return value
    raise TypeError(f"no example of {name} is known: add one to BY_NAME")


def _plainest(name: str, kind: inspect.Type) -> Any:
    """Return the plainest value of a type."""
    value: Any = name
    match kind:
        case inspect.Metadata():
            value = _plainest(name, kind.type)
        case inspect.UnionType():
            something = (k for k in kind.types if not isinstance(k, inspect.NoneType))
            value = _plainest(name, next(something))
        case inspect.StructType():
            value = payload(kind.cls)
        case inspect.LiteralType():
            value = kind.values[0]
        case inspect.DictType():
            value = {KEYS.get(name, "name"): _plainest(name, kind.value_type)}
        case inspect.ListType() | inspect.VarTupleType():
            value = [_plainest(name, kind.item_type)]
        case inspect.BoolType():
            value = True
        case inspect.IntType():
            value = max(1, kind.ge or 0)
        case inspect.FloatType():
            value = 0.5
    return value
