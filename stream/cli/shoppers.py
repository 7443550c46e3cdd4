"""Shoppers with tastes of their own, over a catalogue. In: items, lists. Out: what they do next.

A shopper likes a few categories. Shown a list, they walk down its first items and click the first
that tempts them: likely within their tastes, hardly outside. Otherwise they browse by themselves.
Tastes may drift, and new items may arrive, as copies of others under a new id. Since the chance of
every click is known, so is what the best list would have had. Knows nothing of Kafka.
"""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from msgspec.structs import replace

from stream.contracts import Item

TASTES = 3  # categories a shopper likes
LOOKED_AT = 8  # items of a list that a shopper looks at
TEMPTED = 0.25  # chance that an item within the tastes is clicked
MISLED = 0.02  # the same for any other item
LOOKS = 0.7  # chance to look at the list when there is a new one, rather than browse
BUYS = 0.1  # chance that a click is followed by a purchase
STRAYS = 0.2  # chance that browsing leaves the tastes
_NAMED = "shopper-"


@dataclass
class Shopper:
    """One user: tastes, and the newest list not looked at yet.

    Attributes
    ----------
    shown_name : of that list
    saw : items of a list that came into view with the last step
    list_name : of that list, where it has one
    """

    user_id: str
    tastes: frozenset[str]
    shown: list[str] = field(default_factory=list)
    shown_name: str | None = None
    wants: str | None = None  # clicked, and bought with the next step
    saw: list[str] = field(default_factory=list)
    list_name: str | None = None


@dataclass
class Tally:
    """Counts of some time.

    Attributes
    ----------
    seen, seen_new : items that came into view, and those that arrived lately among them
    expected, best : clicks that were to be expected of the lists looked at, and of the best ones
    """

    sent: int = 0
    lists: int = 0
    looks: int = 0
    clicks: int = 0
    seen: int = 0
    seen_new: int = 0
    expected: float = 0.0
    best: float = 0.0
    delays_ms: list[int] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the counts as fields; rates that nothing is known of are None."""
        looks = self.looks
        return {
            "events": self.sent,
            "lists": self.lists,
            "looks": looks,
            "click_through": round(self.clicks / looks, 4) if looks else None,
            "regret": round((self.best - self.expected) / looks, 4) if looks else None,
            "new_items": round(self.seen_new / self.seen, 4) if self.seen else None,
            "event_to_list_ms": statistics.median(self.delays_ms) if self.delays_ms else None,
        }

    def add(self, other: Tally) -> None:
        """Count what another one counted, too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def category_of(item: Item) -> str:
    """The item's category; without one the last word of its title, which is often its noun."""
    return item.category or (item.title or "").rpartition(" ")[2].upper()


def is_simulated(key: bytes | None) -> bool:
    """Whether a record's key is a simulated shopper's."""
    return (key or b"").startswith(_NAMED.encode())


def to_choose_from(items: Mapping[str, Item]) -> Mapping[str, Item]:
    """The products; in a shop without any, everything."""
    products = {item_id: item for item_id, item in items.items() if item.kind == "product"}
    return products or items


class Shop:
    """The shoppers over one catalogue; pure, so that a test needs no broker.

    Parameters
    ----------
    items : the catalogue by item_id, not empty
    users : > 0
    drift : chance that a step begins with one taste less and another one more

    Attributes
    ----------
    arrived : items that were not there at first, in their order
    shown_new : those of them that anybody was shown
    """

    def __init__(
        self, items: Mapping[str, Item], users: int, seed: int, drift: float = 0.0
    ) -> None:
        self._dice = random.Random(seed)
        self._drift = drift
        self._seed = seed
        self._items = dict(items)
        self._category = {item_id: category_of(items[item_id]) for item_id in sorted(items)}
        self._of_category: dict[str, list[str]] = defaultdict(list)
        for item_id, category in self._category.items():
            self._of_category[category].append(item_id)
        self._all = list(self._category)
        self.arrived: dict[str, Item] = {}
        self.shown_new: set[str] = set()
        self.shoppers = [
            # A category is liked as often as it is large: tastes come by way of random items.
            Shopper(
                f"{_NAMED}{seed}-{number}",
                frozenset(self._category[self._dice.choice(self._all)] for _ in range(TASTES)),
            )
            for number in range(users)
        ]

    def chance_of_random_list(self) -> float:
        """Click-through that lists of random items would have, to compare with."""
        stay = []
        for shopper in self.shoppers:
            liked = sum(len(self._of_category[taste]) for taste in shopper.tastes) / len(self._all)
            stay.append((1 - liked * TEMPTED - (1 - liked) * MISLED) ** LOOKED_AT)
        return 1 - statistics.fmean(stay)

    def arrive(self) -> Item:
        """A new item of the shop, like another one but for its id."""
        like = self._items[self._dice.choice(self._all)]
        item_id = f"new-{self._seed}-{len(self.arrived)}"
        item = replace(like, item_id=item_id, available=True, embedding=None)
        self.arrived[item_id] = self._items[item_id] = item
        category = category_of(item)
        self._category[item_id] = category
        self._of_category[category].append(item_id)
        self._all.append(item_id)
        return item

    def act(self, shopper: Shopper, tally: Tally) -> tuple[str, str, bool]:
        """Return what the shopper does next: event type, item_id, whether it came from the list."""
        shopper.saw = []
        if self._drift and self._dice.random() < self._drift:
            self._turn(shopper)
        if shopper.wants is not None:
            item_id, shopper.wants = shopper.wants, None
            return "purchase", item_id, False
        if shopper.shown and self._dice.random() < LOOKS:
            shown, shopper.shown = shopper.shown[:LOOKED_AT], []
            shopper.list_name = shopper.shown_name
            self._judge(shopper, shown, tally)
            for item_id in shown:
                shopper.saw.append(item_id)
                if self._dice.random() < self._chance(shopper, item_id):
                    tally.clicks += 1
                    shopper.wants = item_id if self._dice.random() < BUYS else None
                    return "click", item_id, True
        if self._dice.random() < STRAYS:
            return "view", self._dice.choice(self._all), False
        taste = self._dice.choice(sorted(shopper.tastes))
        return "view", self._dice.choice(self._of_category[taste]), False

    def _chance(self, shopper: Shopper, item_id: str) -> float:
        return TEMPTED if self._category.get(item_id) in shopper.tastes else MISLED

    def _turn(self, shopper: Shopper) -> None:
        gone = self._dice.choice(sorted(shopper.tastes))
        come = self._category[self._dice.choice(self._all)]
        shopper.tastes = shopper.tastes - {gone} | {come}

    def _judge(self, shopper: Shopper, shown: list[str], tally: Tally) -> None:
        """Count a look at a list, beside the best one for these tastes."""
        liked = sum(len(self._of_category[taste]) for taste in shopper.tastes)
        best = [TEMPTED if place < liked else MISLED for place in range(LOOKED_AT)]
        tally.looks += 1
        tally.seen += len(shown)
        new = self.arrived.keys() & shown
        tally.seen_new += len(new)
        self.shown_new |= new
        tally.expected += 1 - prod(1 - self._chance(shopper, item_id) for item_id in shown)
        tally.best += 1 - prod(1 - chance for chance in best)

    def next_shopper(self) -> Shopper:
        """Return whose turn it is."""
        return self._dice.choice(self.shoppers)
