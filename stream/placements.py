"""Every setting of a placement, as types: which items a list may have, and how it is arranged.

Knows nothing of files: `tables` reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

from stream.contracts.records import ItemKind
from stream.sections import Seconds, Section, Text

MAX_K: Final = 1000

Moment = Annotated[
    datetime, Meta(tz=True, title="a date and time with its offset, such as 2026-12-01T00:00:00Z")
]
Cap = Annotated[int, Meta(ge=1, le=MAX_K)]


class Caps(Section, frozen=True):
    """Most items of a list that have an attribute in common; without it an item is not counted."""

    category: Annotated[Cap | None, Meta(description="most items of one category on a list")] = None
    brand: Annotated[Cap | None, Meta(description="most items of one brand on a list")] = None
    shop: Annotated[Cap | None, Meta(description="most items of one shop on a list")] = None


class Pin(Section, frozen=True):
    """An item that stands at one place of every list, whatever it scores."""

    item: Annotated[Text, Meta(description="id of an item that every list shows")]
    place: Annotated[
        int, Meta(ge=1, le=MAX_K, description="its place, from 1; one item at each place")
    ]
    start: Annotated[Moment | None, Meta(description="from when on; unset: always")] = None
    end: Annotated[Moment | None, Meta(description="until when; unset: for ever")] = None


class Placement(Section, frozen=True):
    """One list that users see."""

    k: Annotated[int, Meta(ge=1, le=MAX_K, description="length of the list")] = 20
    kinds: Annotated[
        tuple[ItemKind, ...], Meta(min_length=1, description="kinds of item that may be listed")
    ] = ("product",)
    beta: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(description="steepness of the score; unset: the bundle's"),
    ] = None
    theta: Annotated[float, Meta(ge=0, lt=1, description="items that score less are left out")] = (
        0.0
    )
    exclude_seen: Annotated[
        bool | None, Meta(description="leave out items seen lately; unset: the bundle's")
    ] = None
    seen_window_s: Annotated[
        Seconds | None,
        Meta(description="how long an item counts as seen; unset: while in the ring"),
    ] = None
    exclude_bought: Annotated[
        bool | None, Meta(description="leave out items bought lately; unset: the bundle's")
    ] = None
    pool: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(
            description="best items that a list is arranged of where diversity, pins or caps ask "
            "for it; unset: five times k"
        ),
    ] = None
    diversity: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="how much an item's likeness to one listed before it, a cosine up to 1, "
            "takes from the logit of its score; 0: nothing",
        ),
    ] = 0.0
    caps: Caps = Caps()
    pins: tuple[Pin, ...] = ()


class Leaf(NamedTuple):
    """A setting of a placement, and its path below the placement's table; `[]` marks a list's."""

    path: str
    setting: FieldInfo


def _leaves(section: type[Struct], above: str = "") -> Iterator[Leaf]:
    for setting in msgspec.structs.fields(section):
        inner, mark = inner_section(setting.type)
        if inner is None:
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
