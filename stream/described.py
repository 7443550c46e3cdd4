"""The settings in words: what each may be, and the rows of the table in SETTINGS.md.

In: the types of `settings`. Out: texts. Knows no value that somebody set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import NODEFAULT, inspect
from msgspec.structs import FieldInfo

from stream.leaves import PLACEMENT_LEAVES
from stream.settings import CONFIG_VARIABLE, FIELDS, SECRETS, variable


class Described(NamedTuple):
    """A row of the table in SETTINGS.md; no path: not in the file."""

    path: str
    environment: str
    default: str
    meaning: str


def allowed(setting: FieldInfo) -> str:
    """What a setting may be, in words."""
    return _words(inspect.type_info(setting.type))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            known = (kind.extra_json_schema or {}).get("title")
            words = str(known or _words(kind.type))
        case inspect.UnionType():
            words = " or ".join(
                _words(k) for k in kind.types if not isinstance(k, inspect.NoneType)
            )
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            low = f"above {kind.gt}" if kind.gt is not None else f"from {kind.ge}"
            high = f", under {kind.lt}" if kind.lt is not None else f" to {kind.le}"
            words = f"{noun} {low}{high}"
        case inspect.StructType():
            words = "a table"
        case inspect.LiteralType():
            words = ", ".join(map(str, kind.values[:-1])) + f" or {kind.values[-1]}"
        case inspect.VarTupleType():
            words = f"a list of {_words(kind.item_type)}"
        case inspect.BoolType():
            words = "true or false"
        case _:
            words = "a text that is not empty"
    return words


def describe_settings() -> list[Described]:
    """Every setting, for the table in SETTINGS.md and the test that compares the two."""
    rows = [Described("", CONFIG_VARIABLE, "", "this TOML file")]
    rows += [
        Described(
            "" if path in SECRETS else path,
            variable(path),
            _shown(setting.default),
            _meaning(setting),
        )
        for path, setting in FIELDS.items()
    ]
    rows += [
        Described(f"placements.<name>.{path}", "", _shown(setting.default), _meaning(setting))
        for path, setting in PLACEMENT_LEAVES
    ]
    return rows


def _meaning(setting: FieldInfo) -> str:
    kind = inspect.type_info(setting.type)
    schema = (kind.extra_json_schema if isinstance(kind, inspect.Metadata) else None) or {}
    return str(schema["description"])


def _shown(default: Any) -> str:
    """A default as TOML, without the quotes of a text; empty for none."""
    if default is None or default is NODEFAULT:
        return ""
    return default if isinstance(default, str) else msgspec.json.encode(default).decode()
