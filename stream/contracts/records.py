"""Every record that Freshet reads or writes, as a type.

The fields here are the wire format: JSON objects with these names. What the annotations say (length
of an id, sign of a price) is checked while decoding. Bytes are `codec`'s business.
"""

from __future__ import annotations

import hashlib
import zlib
from enum import IntEnum
from typing import Annotated, Final, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_ID_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 64 * 1024
MIN_EVENT_TIME_MS: Final = 946_684_800_000  # 2000-01-01: a smaller number is seconds, or a bug
MAX_AHEAD_MS: Final = 86_400_000  # a day: more than any time zone mistaken for UTC
MAX_AMOUNT: Final = 1e15  # of one purchase that counts: sums of them stay finite
MIN_INT64: Final = -(2**63)
MAX_INT64: Final = 2**63 - 1

ClickType = Literal[
    "view", "click", "add_to_cart", "remove_from_cart", "like", "dislike", "impression"
]
PurchaseType = Literal["purchase", "cancel"]


class EventType(IntEnum):
    """What a user did. The number is what states and models hold; 0 means none."""

    VIEW = 1
    CLICK = 2
    ADD_TO_CART = 3
    REMOVE_FROM_CART = 4
    LIKE = 5
    DISLIKE = 6
    IMPRESSION = 7
    PURCHASE = 8
    CANCEL = 9


EVENT_TYPES: Final[dict[str, EventType]] = {t.name.lower(): t for t in EventType}
CLICK_TYPES: Final[frozenset[str]] = frozenset(get_args(ClickType))
PURCHASE_TYPES: Final[frozenset[str]] = frozenset(get_args(PurchaseType))

# A number as an id becomes its decimal string. Lengths are characters here; `codec` counts the
# bytes of ids that are not ASCII.
Int64 = Annotated[int, Meta(ge=MIN_INT64, le=MAX_INT64)]
TextId = Annotated[
    str, Meta(min_length=1, max_length=MAX_ID_BYTES, description="at most 256 bytes of UTF-8")
]
Id = TextId | Annotated[Int64, Meta(description="becomes its decimal text")]
ID_FIELDS: Final = frozenset({"user_id", "item_id", "event_id", "session_id", "request_id"})
Label = Annotated[str, Meta(max_length=MAX_ID_BYTES)]
EventTimeMs = Annotated[
    int,
    Meta(
        ge=MIN_EVENT_TIME_MS,
        le=MAX_INT64,
        description="milliseconds since 1970, not before 2000, at most a day ahead",
    ),
]
Amount = Annotated[int, Meta(ge=0, le=MAX_INT64)] | Annotated[float, Meta(ge=0)]
Quantity = Annotated[int, Meta(gt=0, le=MAX_INT64)] | Annotated[float, Meta(gt=0)]
Scalar = str | Int64 | float | bool | None
MAX_RATING: Final = 5
Rating = (
    Annotated[int, Meta(ge=0, le=MAX_RATING)] | Annotated[float, Meta(ge=0, le=float(MAX_RATING))]
)
Properties = dict[str, Scalar | list[Scalar] | dict[str, Scalar]]


ANY_TYPE: Final = 256  # length of a table by event type that no byte of a stored ring can leave


def item_hash(item_id: str) -> int:
    """64 bits that stand for an item in a user's ring, the same in every version; never 0."""
    digest = hashlib.blake2b(item_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def event_hash(event_id: str) -> int:
    """32 bits that tell a repeated event from a new one; never 0, which means "no event_id"."""
    return zlib.crc32(event_id.encode()) or 1


class Click(Struct, frozen=True, gc=False, omit_defaults=True):
    """A record of `clicks`. Key: user_id.

    Attributes
    ----------
    event_id : a repeated one within the user's last interactions counts once
    placement : of the list that it was done on
    list_name : the `name` of that list; without it, it is taken for the user's newest one
    properties : scalars, or lists and objects of them
    """

    user_id: Id
    item_id: Id
    type: ClickType
    event_time_ms: EventTimeMs
    event_id: Id | None = None
    session_id: Id | None = None
    placement: Label | None = None
    list_name: Label | None = None
    properties: Properties | None = None


class Purchase(Struct, frozen=True, gc=False, omit_defaults=True):
    """A record of `purchases`. Key: user_id.

    Attributes
    ----------
    event_id : a repeated one within the user's last interactions counts once
    placement : of the list that it was done on
    list_name : the `name` of that list; without it, it is taken for the user's newest one
    properties : scalars, or lists and objects of them
    unit_price : in `currency`
    """

    user_id: Id
    item_id: Id
    type: PurchaseType
    event_time_ms: EventTimeMs
    event_id: Id | None = None
    session_id: Id | None = None
    placement: Label | None = None
    list_name: Label | None = None
    properties: Properties | None = None
    quantity: Quantity | None = None
    unit_price: Amount | None = None
    currency: Label | None = None


ItemKind = Literal["product", "shop", "coupon", "ad", "content"]
ITEM_KINDS: Final[tuple[str, ...]] = get_args(ItemKind)


class Item(Struct, frozen=True, gc=False, omit_defaults=True):
    """A record of `items`. Key: item_id; a null value takes the item out of the catalogue.

    Attributes
    ----------
    kind : a placement may list some kinds alone
    price : in the shop's currency, >= 0
    available : false keeps it out of all lists
    shop : whose it is, where several sell here
    bid : of an ad, what a click on it pays
    rating : of a shop or another item by those who know it, from 0 to 5
    budget, budget_period_s : of an ad, what its clicks may cost in so long; a day unless given
    repurchase_s : of a consumable, how long until it is bought again
    embedding : the model's item vector of an item that it was not trained on, shape (dim,); or that
        of an image or a text, where the model was trained with such
    """

    item_id: TextId
    kind: ItemKind = "product"
    title: str | None = None
    category: str | None = None
    brand: str | None = None
    price: Amount | None = None
    available: bool = True
    tags: tuple[str, ...] = ()
    embedding: tuple[float, ...] | None = None
    shop: str | None = None
    bid: Amount | None = None
    repurchase_s: Quantity | None = None
    rating: Rating | None = None
    budget: Amount | None = None
    budget_period_s: Quantity | None = None


# Reasons without an item behind them, by their code in a column of reasons. 1 to 9 are the
# `EventType` of the interaction that speaks for the item.
PLAIN_REASONS: Final[dict[str, int]] = {
    "popular": 0,
    "pinned": 10,
    "exploring": 11,
    "trending": 12,
    "new": 13,
    "boosted": 14,
    "bid": 15,
}


class Reason(Struct, frozen=True, gc=False):
    """Why an item is on a list: "view", "purchase", ... and the item behind it, or a plain one.

    Attributes
    ----------
    words : the same for people to read, where the settings want it here
    share : the score less the score without that interaction, where the placement wants it
    """

    code: str
    item_id: str | None = None
    words: str | UnsetType = UNSET
    share: float | UnsetType = UNSET


class ListedItem(Struct, frozen=True, gc=False):
    """One line of a list.

    Attributes
    ----------
    score : in [0, 1]
    rank : from 1
    explored : placed here to learn, not because of its score
    propensity : probability in (0, 1] of this item at its place, given the items before it
    price : as the catalogue has it; not there when it has none
    """

    item_id: str
    score: float
    rank: int
    reason: Reason
    explored: bool = False
    propensity: float = 1.0
    price: Amount | UnsetType = UNSET


class RankedList(Struct, frozen=True, gc=False):
    """The list of one placement, best first.

    Attributes
    ----------
    name : for the `list_name` of what is done on it; not there in records of earlier versions
    variant : of the placement, that the user gets; not there where it has none
    """

    items: list[ListedItem]
    name: str | UnsetType = UNSET
    variant: str | UnsetType = UNSET


class Cause(Struct, frozen=True, gc=False):
    """The newest event that a list reflects; subscribers drop repeats by it."""

    topic: str
    partition: int
    offset: int
    event_time_ms: int


class Recommendation(Struct, frozen=True, gc=False):
    """A record of `recommendations`. Key: user_id; a null value means the user was forgotten.

    Attributes
    ----------
    lists : placement -> list, all placements in one record
    model : bundle id
    variant : of the whole record, always "default": lists name their own
    settings : revision of the live settings that made the lists, 12 hexadecimal digits; not
        there in records of earlier versions
    """

    user_id: str
    lists: dict[str, RankedList]
    model: str
    variant: str
    cause: Cause
    generated_ms: int
    settings: str | UnsetType = UNSET
