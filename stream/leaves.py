"""The settings of a placement by their paths. In: the types of `placements`. Out: paths, fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo

from stream.placements import Placement, Variant
from stream.sections import Section


class Leaf(NamedTuple):
    """A setting of a placement, and its path below the placement's table; `[]` marks a list's."""

    path: str
    setting: FieldInfo


def share_of_variant() -> FieldInfo:
    """The one setting of a variant that is none of its placement."""
    return next(of for of in msgspec.structs.fields(Variant) if of.name == "share")


def _leaves(section: type[Struct], above: str = "") -> Iterator[Leaf]:
    for setting in msgspec.structs.fields(section):
        inner, mark = inner_section(setting.type)
        if setting.name == "variants":
            yield Leaf("variants.<variant>.share", share_of_variant())
        elif inner is None:
            yield Leaf(above + setting.name, setting)
        else:
            yield from _leaves(inner, f"{above}{setting.name}{mark}.")


def inner_section(kind: Any) -> tuple[type[Struct] | None, str]:
    """The table that a setting of this type is, or is a list of; and the mark of a list."""
    for part in getattr(kind, "__args__", ()):
        found, mark = inner_section(part)
        if found is not None:
            return found, mark or ("[]" if getattr(kind, "__origin__", None) is tuple else "")
    is_section = isinstance(kind, type) and issubclass(kind, Section)
    return (kind, "") if is_section else (None, "")


PLACEMENT_LEAVES: Final = tuple(_leaves(Placement))
