"""Keys of a partition's changelog: what a record is of. In: a key. Out: its kind.

    the user's id, or a pseudonym   -> a state
    b"\\xff\\x01" + 16 bytes          -> a mark of an erasure (`marks.py`)
    b"\\xff\\x02"                     -> the salt of the marks
    b"\\xff\\x03" + 8 bytes           -> an item's counts (`statistics/counts.py`)
    b"\\xff\\x04" + 8 bytes           -> rewards of an arm's lists (`statistics/segments.py`)

No user key begins like the others: 0xFF is not UTF-8. Knows nothing of values, nor of
b"\\xff\\x00", which is for what the changelog says of itself.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from stream.errors import StateError

MARK_PREFIX: Final = b"\xff\x01"
SALT_KEY: Final = b"\xff\x02"
ITEM_PREFIX: Final = b"\xff\x03"
SEGMENTS_PREFIX: Final = b"\xff\x04"  # also where workers tell each other, unlike an item's
SEGMENTS_KEY_BYTES: Final = len(SEGMENTS_PREFIX) + 8
_NOT_UTF8: Final = b"\xff"


class Kind(Enum):
    """What a record is of."""

    USER = auto()
    MARK = auto()  # or the salt of marks
    ITEM = auto()
    SEGMENTS = auto()


def of_segments(key: bytes) -> bool:
    """Whether a key is an arm's.

    Where workers tell each other an item's has no prefix: it may begin like it, and is shorter.
    """
    return len(key) == SEGMENTS_KEY_BYTES and key.startswith(SEGMENTS_PREFIX)


def kind_of(key: bytes) -> Kind:
    """What the record of a changelog key is of.

    Raises
    ------
    StateError : a kind that this version does not know
    """
    if key[:1] != _NOT_UTF8:
        return Kind.USER
    prefix = key[:2]
    if prefix == ITEM_PREFIX:
        return Kind.ITEM
    if prefix == MARK_PREFIX or key == SALT_KEY:
        return Kind.MARK
    if of_segments(key):
        return Kind.SEGMENTS
    raise foreign("a record of a kind that this version does not know")


def foreign(what: str) -> StateError:
    """The error for what another version wrote."""
    return StateError(
        f"the changelog holds {what}. Run the version that wrote it, or start a new group to fold "
        "the events again."
    )
