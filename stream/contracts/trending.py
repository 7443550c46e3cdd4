"""The record of `trending`: what trends and what is popular in a kind or category of items."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

_SLASH: Final = "/"


class TrendingItem(Struct, frozen=True, gc=False):
    """One line of it.

    Attributes
    ----------
    recent : clicks, views, carts and purchases of late, faded by the short half-life
    usual : as many as were to be expected by the item's usual share in its kind
    significance : standard deviations of the one above the other
    """

    item_id: str
    recent: float
    usual: float
    significance: float


class Trending(Struct, frozen=True, gc=False):
    """A record of `trending`. Key: `kind`; of a category `kind/category`; null: nothing is left.

    Attributes
    ----------
    category : null for all items of the kind
    trending : well above their usual level, the most significant first; may be empty
    popular : with the most interactions, by the long half-life
    event_time_ms : newest event time that it reflects
    """

    kind: str
    category: str | None
    trending: list[TrendingItem]
    popular: list[TrendingItem]
    event_time_ms: int
    generated_ms: int

    @property
    def key(self) -> bytes:
        """The record's key."""
        return trending_key(self.kind, self.category)

    @property
    def order(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Item ids of both lists: when these stay the same, the record is not published again."""
        lists = (self.trending, self.popular)
        first, second = (tuple(line.item_id for line in lines) for lines in lists)
        return first, second


def trending_key(kind: str, category: str | None) -> bytes:
    """Key of the record of a kind or a category of it; no kind has a slash."""
    return (kind if category is None else kind + _SLASH + category).encode()


decode_trending: Final = msgspec.json.Decoder(Trending).decode
