"""Every setting of a placement, as types: which items a list may have, and how it is arranged.

Knows nothing of files: `tables` reads them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from stream.contracts.records import ItemKind
from stream.sections import Seconds, Section, Text

MAX_K: Final = 1000
MOST_DIVERSITY: Final = 1000
CONTROL: Final = "default"  # the variant of users who get none
MOST_WITH_SHARES: Final = 50  # places of a list whose reasons say their shares
MAX_RULES: Final = 62  # of a placement; which of them are in force is a number of 63 bits

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


Texts = Annotated[tuple[Text, ...], Meta(min_length=1)]
Number = Annotated[float, Meta(ge=0, le=1e15)]
Count = Annotated[int, Meta(ge=0, le=2**32)]


class Items(Section, frozen=True):
    """Which items a rule is about: those that meet all that is set; unset: any."""

    ids: Annotated[Texts | None, Meta(description="these items")] = None
    kinds: Annotated[
        Annotated[tuple[ItemKind, ...], Meta(min_length=1)] | None,
        Meta(description="items of these kinds"),
    ] = None
    categories: Annotated[Texts | None, Meta(description="items of these categories")] = None
    brands: Annotated[Texts | None, Meta(description="items of these brands")] = None
    shops: Annotated[Texts | None, Meta(description="items of these shops")] = None
    tags: Annotated[Texts | None, Meta(description="items with one of these tags")] = None
    price_from: Annotated[Number | None, Meta(description="items that cost as much or more")] = None
    price_to: Annotated[Number | None, Meta(description="items that cost as much or less")] = None


class Shoppers(Section, frozen=True):
    """Which users a rule is about: those that meet all that is set; unset: all."""

    events_from: Annotated[Count | None, Meta(description="users with so many events, or more")] = (
        None
    )
    events_to: Annotated[Count | None, Meta(description="users with so many events, or less")] = (
        None
    )
    purchases_from: Annotated[
        Count | None, Meta(description="users who bought so often, or more often")
    ] = None
    purchases_to: Annotated[
        Count | None, Meta(description="users who bought so often, or less often")
    ] = None
    spent_from: Annotated[Number | None, Meta(description="users who spent as much, or more")] = (
        None
    )
    spent_to: Annotated[Number | None, Meta(description="users who spent as much, or less")] = None
    bought_within_s: Annotated[
        Number | None, Meta(description="users whose newest purchase is so old, or less")
    ] = None
    bought_before_s: Annotated[
        Number | None, Meta(description="users whose newest purchase is older, or who have none")
    ] = None
    categories: Annotated[
        Texts | None, Meta(description="only purchases in these categories count for the others")
    ] = None


class PriceBand(Section, frozen=True):
    """Prices by the user's own level: the median of what the user turned to or bought."""

    low: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="items are left out that cost less than this part of the user's level"),
    ] = None
    high: Annotated[
        Annotated[float, Meta(ge=1, le=1e6)] | None,
        Meta(description="items are left out that cost more than so many times the user's level"),
    ] = None


class Rule(Section, frozen=True):
    """What is done with some items on some users' lists."""

    do: Annotated[
        Literal["leave_out", "keep", "reserve", "boost"],
        Meta(
            description="leave_out: these users do not get these items; keep: they get no others; "
            "reserve: only they get them; boost: the logit of the score is raised by `add`"
        ),
    ]
    items: Items = Items()
    users: Shoppers = Shoppers()
    add: Annotated[
        Annotated[float, Meta(ge=-1000, le=1000)] | None,
        Meta(description="of a boost, which may be below 0"),
    ] = None
    start: Annotated[Moment | None, Meta(description="from when on; unset: always")] = None
    end: Annotated[Moment | None, Meta(description="until when; unset: for ever")] = None


Share = Annotated[float, Meta(ge=0, le=1)]


class Explore(Section, frozen=True):
    """How much of a list is there to learn, and not because of its scores."""

    temperature: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="highest temperature, in logits, at which places are drawn in proportion "
            "to exp(logit / temperature); 0: nothing is drawn",
        ),
    ] = 0.0
    adapt: Annotated[
        bool,
        Meta(description="the surer a user's interest, the lower the temperature; false: one"),
    ] = True
    sure_after: Annotated[
        float,
        Meta(
            gt=0,
            le=1e6,
            description="weight of events that point the same way (a purchase has 1) from which "
            "on an interest counts as sure",
        ),
    ] = 0.5
    fresh: Annotated[
        Share, Meta(description="part of the temperature that a session's first event adds")
    ] = 0.0
    drift: Annotated[
        Share,
        Meta(
            description="part of it that a turn of the interest adds, where the model has a fast "
            "and a slow one"
        ),
    ] = 0.0
    learn: Annotated[
        bool,
        Meta(description="users share multipliers of their temperature by what these have brought"),
    ] = True
    optimism: Annotated[
        float,
        Meta(
            ge=0,
            le=10,
            description="standard deviations of an item's click rate that are hoped for, so that "
            "items seldom shown get a chance; 0: none",
        ),
    ] = 0.0
    half_life_s: Annotated[Seconds, Meta(description="half-life of what exploring has brought")] = (
        604_800.0
    )


class Frequency(Section, frozen=True):
    """How often a user may be shown an item with a bid."""

    most: Annotated[
        Annotated[int, Meta(ge=1, le=255)] | None,
        Meta(
            description="an item with a `bid` is left out once its user was shown it so often; "
            "takes `state.impressions`"
        ),
    ] = None
    window_s: Annotated[Seconds, Meta(description="within so long")] = 86_400.0


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
    bought_window_s: Annotated[
        Annotated[float, Meta(gt=0, le=3_153_600_000)] | None,
        Meta(
            description="how long an item counts as bought, unless its record has `repurchase_s`; "
            "unset: as the bundle has learned, else while in the ring"
        ),
    ] = None
    exclude_in_cart: Annotated[
        bool, Meta(description="leave out items that are in the user's cart")
    ] = False
    based_on: Annotated[
        Literal["history", "cart"],
        Meta(
            description="cart: items are scored by what is in the cart, as if its user had done "
            "nothing else; an empty cart: by history"
        ),
    ] = "history"
    by_bid: Annotated[
        bool,
        Meta(
            description="items are ordered by their record's `bid` times their score, and those "
            "without a bid are left out"
        ),
    ] = False
    frequency: Frequency = Frequency()
    rating_weight: Annotated[
        float,
        Meta(
            ge=-10,
            le=10,
            description="for each point that an item's `rating` is above 2.5, so much is added to "
            "the logit of its score, and taken from it below",
        ),
    ] = 0.0
    price_band: PriceBand = PriceBand()
    pool: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(
            description="best items that a list is arranged of where diversity, pins, caps "
            "or a price band ask for it; unset: five times k"
        ),
    ] = None
    diversity: Annotated[
        float,
        Meta(
            ge=0,
            le=MOST_DIVERSITY,
            description="how much an item's likeness to one listed before it, a cosine up to 1, "
            "takes from the logit of its score; 0: nothing",
        ),
    ] = 0.0
    explore: Explore = Explore()
    reason_shares: Annotated[
        bool,
        Meta(
            description="reasons say how much of its score an item owes to what they name; "
            f"for a k of {MOST_WITH_SHARES} at most"
        ),
    ] = False
    caps: Caps = Caps()
    pins: tuple[Pin, ...] = ()
    rules: Annotated[tuple[Rule, ...], Meta(max_length=MAX_RULES)] = ()
    variants: dict[str, Variant] = field(default_factory=dict)


class Variant(Struct, frozen=True):
    """Other settings of a placement, for a part of its users.

    Attributes
    ----------
    placement : all settings, those that it leaves as they are among them
    """

    share: Annotated[
        float, Meta(gt=0, le=1, description="part of the users who get this variant, for good")
    ]
    placement: Placement
