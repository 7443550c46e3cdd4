"""Why a record cannot be used. In: bytes that the decoder refused. Out: a reason and a field.

Slow and thorough; only refused records come here. Never puts a value into its answer: values are
users' data, and reasons end up in logs, headers and metric labels.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from stream.contracts.records import (
    ID_FIELDS,
    MAX_ID_BYTES,
    MAX_INT64,
    MIN_EVENT_TIME_MS,
    MIN_INT64,
)
from stream.errors import RecordError

REASONS: Final = frozenset(
    {
        "batch_too_large",  # a compressed record batch unpacks to more than 32 MiB, or headers
        "batch_unreadable",  # its compression or its records are damaged
        "empty_value",  # null or no bytes
        "value_too_large",  # over 64 KiB
        "not_utf8",
        "not_json",
        "not_object",
        "nested_too_deep",
        "missing_field",
        "wrong_type",
        "unknown_type",  # of event or request, or not one of this topic
        "unknown_kind",  # of item
        "unknown_placement",  # of a request
        "length_mismatch",  # as many relevances as candidates
        "empty_id",
        "id_too_long",  # over 256 bytes
        "lone_surrogate",
        "not_finite",  # NaN or infinite
        "integer_too_large",  # beyond 64 bits
        "out_of_range",
        "event_time_too_old",  # before 2000
        "event_time_ahead",  # more than a day
        "key_missing",
        "key_mismatch",
    }
)

_BEYOND_INT64: Final = MAX_INT64 + 1
_BOUNDED_NUMBERS: Final = frozenset(
    {"quantity", "unit_price", "price", "k", "weight", "deadline_ms"}
)
_LABELS: Final = frozenset({"placement", "list_name", "category"})


class _Field(NamedTuple):
    """A declared field; `alone` is a record of nothing else, which msgspec knows by heart."""

    required: bool
    alone: type[Struct]


@cache
def _fields(record: type[Struct]) -> dict[str, _Field]:
    # Asking msgspec for fields or types anew takes a third of a millisecond a record.
    return {
        field.encode_name: _Field(
            field.required, msgspec.defstruct(field.encode_name, [("value", field.type)])
        )
        for field in msgspec.structs.fields(record)
    }


def diagnose(record: type[Struct], value: bytes) -> RecordError:
    """Name what is wrong with a `value` that does not decode into `record`."""
    found = _read(value)
    if isinstance(found, str):
        return RecordError(found)
    fields = _fields(record)
    for name, field in fields.items():
        if name in found:
            reason = _flaw_of_field(name, field.alone, found[name])
            if reason is not None:
                return RecordError(reason, name)
        elif field.required:
            return RecordError("missing_field", name)
    # All declared fields are fine, so it is something in the rest that JSON does not allow and
    # Python's reader does. The name of an undeclared field is the user's data: not told.
    if (flaw := _flaw_of_value(found, depth=4)) is not None:
        return RecordError(flaw)
    return _flaw_of_repeated(fields, value) or RecordError("not_json")


def _read(value: bytes) -> dict[str, Any] | str:
    """The object in `value`, or the reason why there is none."""
    try:
        found = _loads(value.decode())
    except UnicodeDecodeError:
        return "not_utf8"
    except RecursionError:
        return "nested_too_deep"
    except ValueError:
        return "not_json"
    return found if isinstance(found, dict) else "not_object"


def _flaw_of_repeated(fields: dict[str, _Field], value: bytes) -> RecordError | None:
    """What is wrong with a field that is given more than once; the last one alone is not enough."""
    # Called for every object, the outermost last.
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found
        return dict(found)

    _loads(value.decode(), object_pairs_hook=keep)
    if len(pairs) == len(dict(pairs)):
        return None
    for name, given in pairs:
        if name in fields and (flaw := _flaw_of_field(name, fields[name].alone, given)):
            return RecordError(flaw, name)
    return None


def _loads(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, **hooks)
    except json.JSONDecodeError:
        raise
    except ValueError:  # int() refuses more than 4,300 digits
        return json.loads(text, parse_int=_parse_int, **hooks)


def _parse_int(digits: str) -> int:
    return int(digits) if len(digits) <= 20 else _BEYOND_INT64


def _flaw_of_field(name: str, alone: type[Struct], value: Any) -> str | None:
    """Reason why `value` is not what the field `name` takes, or None."""
    flaw = _flaw_of_value(value, depth=2)
    if flaw is None:
        try:
            msgspec.convert({"value": value}, alone)
        except msgspec.ValidationError:
            flaw = _flaw_of_type(name, value)
    if flaw is None and name in ID_FIELDS and len(str(value).encode()) > MAX_ID_BYTES:
        flaw = "id_too_long"
    return flaw


def _flaw_of_type(name: str, value: Any) -> str:
    """Reason why a sound JSON value does not fit the field `name`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = isinstance(value, str)
    if name in ID_FIELDS and text:
        return "id_too_long" if value else "empty_id"
    if name in {"type", "kind"} and text:
        return f"unknown_{name}"
    if name == "event_time_ms" and isinstance(value, int) and number:
        return "event_time_too_old" if value < MIN_EVENT_TIME_MS else "wrong_type"
    if (name in _BOUNDED_NUMBERS and number) or (name in _LABELS and text):
        return "out_of_range"
    if name in {"candidates", "relevance"} and isinstance(value, list):
        return _flaw_of_list(name, value)
    return "wrong_type"


def _flaw_of_list(name: str, values: list[Any]) -> str:
    """Reason why a list does not fit the field `name`: an element, or else its length."""
    if name == "candidates":
        ids = [value for value in values if isinstance(value, str)]
        wrong = any(isinstance(v, bool) or not isinstance(v, str | int) for v in values)
        if "" in ids and not wrong:
            return "empty_id"
        if not wrong and any(len(value) > MAX_ID_BYTES for value in ids):
            return "id_too_long"
    else:
        wrong = any(isinstance(v, bool) or not isinstance(v, int | float) for v in values)
    return "wrong_type" if wrong else "out_of_range"


def _flaw_of_value(value: Any, depth: int) -> str | None:
    """Reason why `value` is no decent JSON value of at most `depth` levels of containers."""
    if isinstance(value, list | dict):
        if depth == 0:
            return "nested_too_deep"
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        flaw = _flaw_of_scalars(parts)
        if flaw is None:
            inner = (part for part in parts if isinstance(part, list | dict))
            flaw = next((f for part in inner if (f := _flaw_of_value(part, depth - 1))), None)
        return flaw
    if isinstance(value, str):
        return None if _encodable(value) else "lone_surrogate"
    if isinstance(value, float):
        return None if math.isfinite(value) else "not_finite"
    if isinstance(value, int):
        return None if MIN_INT64 <= value <= MAX_INT64 else "integer_too_large"
    return None


def _flaw_of_scalars(values: list[Any]) -> str | None:
    """Reason why one of `values` is no decent text or number; a record may have 30,000 of them."""
    if not _encodable("".join([value for value in values if isinstance(value, str)])):
        return "lone_surrogate"
    if not all(map(math.isfinite, [value for value in values if isinstance(value, float)])):
        return "not_finite"
    whole = [value for value in values if isinstance(value, int)]
    if whole and not MIN_INT64 <= min(whole) <= max(whole) <= MAX_INT64:
        return "integer_too_large"
    return None


def _encodable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
