"""What records' types and docstrings say, for documents made from them. In: types. Out: texts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct


def summary_of(record: type[Struct]) -> str:
    """The docstring without its section `Attributes`, in one line."""
    text, _, _ = inspect.cleandoc(record.__doc__ or "").partition("\n\nAttributes\n")
    return " ".join(text.split())


def attributes_of(record: type[Struct]) -> dict[str, str]:
    """Field -> what the section `Attributes` says of it, of the record and its bases."""
    described: dict[str, str] = {}
    for base in reversed(record.__mro__):
        doc = inspect.cleandoc(vars(base).get("__doc__") or "")
        _, found, section = doc.partition("\n\nAttributes\n----------\n")
        entries = re.split(r"(?m)^(?=\w+(?:, \w+)* : )", section) if found else []
        for entry in filter(None, entries):
            names, _, words = entry.partition(" : ")
            described |= dict.fromkeys(names.split(", "), " ".join(words.split()))
    return described


def described(schema: dict[str, Any], words: str | None) -> dict[str, Any]:
    """A field's JSON schema with what its record says of it, before what its type says."""
    if words is None:
        return schema
    if "$ref" in schema:  # its neighbours do not count
        return {"description": words, "allOf": [schema]}
    own = schema.get("description")
    return {**schema, "description": f"{words}; {own}" if own else words}


def structs_of(kinds: Sequence[type[Struct]]) -> dict[str, type[Struct]]:
    """Name -> class, of these records and all that they hold."""
    found: dict[str, type[Struct]] = {}

    def look(kind: Any) -> None:
        if isinstance(kind, msgspec.inspect.StructType) and kind.cls.__name__ not in found:
            found[kind.cls.__name__] = kind.cls
            for field in kind.fields:
                look(field.type)
        for part in ("type", "item_type", "key_type", "value_type"):
            if (inner := getattr(kind, part, None)) is not None:
                look(inner)
        for inner in getattr(kind, "types", ()):
            look(inner)

    for kind in msgspec.inspect.multi_type_info(kinds):
        look(kind)
    return found
