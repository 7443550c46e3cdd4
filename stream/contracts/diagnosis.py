"""Why a record cannot be used. In: bytes that the decoder refused. Out: a reason and a field.

Slow and thorough; only refused records come here. Never puts a value into its answer: values are
users' data, and reasons end up in logs, headers and metric labels.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

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
        "batch_too_large",  # a compressed record batch unpacks to more than 32 MiB
        "batch_unreadable",  # its compression or its records are damaged
        "empty_value",  # null or no bytes
        "value_too_large",  # over 64 KiB
        "not_utf8",
        "not_json",
        "not_object",
        "nested_too_deep",
        "missing_field",
        "wrong_type",
        "unknown_type",  # of event, or not one of this topic
        "unknown_kind",  # of item
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


def diagnose(record: type[Struct], value: bytes) -> RecordError:
    """Name what is wrong with a `value` that does not decode into `record`."""
    found = _read(value)
    if isinstance(found, str):
        return RecordError(found)
    for field in msgspec.structs.fields(record):
        if field.encode_name in found:
            reason = _flaw_of_field(field.encode_name, field.type, found[field.encode_name])
            if reason is not None:
                return RecordError(reason, field.encode_name)
        elif field.required:
            return RecordError("missing_field", field.encode_name)
    # All declared fields are fine, so it is something in the rest that JSON does not allow and
    # Python's reader does. The name of an undeclared field is the user's data: not told.
    return RecordError(_flaw_of_value(found, depth=4) or "not_json")


def _read(value: bytes) -> dict[str, Any] | str:
    """The object in `value`, or the reason why there is none."""
    try:
        found = json.loads(value.decode(), parse_int=_parse_int)
    except UnicodeDecodeError:
        return "not_utf8"
    except RecursionError:
        return "nested_too_deep"
    except ValueError:
        return "not_json"
    return found if isinstance(found, dict) else "not_object"


def _parse_int(digits: str) -> int:
    # int() itself refuses more than 4,300 digits, which would read as "not JSON".
    return int(digits) if len(digits) <= 20 else _BEYOND_INT64


def _flaw_of_field(name: str, declared: Any, value: Any) -> str | None:
    """Reason why `value` is not a `declared`, or None."""
    flaw = _flaw_of_value(value, depth=2)
    if flaw is None:
        try:
            msgspec.convert(value, declared)
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
    if (name in {"quantity", "unit_price", "price", "k"} and number) or (
        name == "placement" and text
    ):
        return "out_of_range"
    return "wrong_type"


def _flaw_of_value(value: Any, depth: int) -> str | None:
    """Reason why `value` is no decent JSON value of at most `depth` levels of containers."""
    if isinstance(value, str):
        return "lone_surrogate" if any("\ud800" <= c <= "\udfff" for c in value) else None
    if isinstance(value, float):
        return None if math.isfinite(value) else "not_finite"
    if isinstance(value, int):
        return None if MIN_INT64 <= value <= MAX_INT64 else "integer_too_large"
    if isinstance(value, list | dict):
        if depth == 0:
            return "nested_too_deep"
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return next((f for p in parts if (f := _flaw_of_value(p, depth - 1))), None)
    return None
