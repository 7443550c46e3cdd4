"""`freshet simulate`: shoppers who react to their lists. In: the catalogue and lists. Out: events.

A shopper likes a few categories. Shown a list, they walk down its first items and click the first
that tempts them: likely within their tastes, hardly outside. Otherwise they browse by themselves.
What they do depends on when lists arrive, so a seed fixes tastes and dice, not the exact run.
"""

from __future__ import annotations

import random
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
import msgspec

from stream.cli.clients import open_consumer, open_producer
from stream.cli.common import complete_placement, examples, print_json, with_settings
from stream.cli.lists import ListReader
from stream.config import Settings
from stream.contracts import PURCHASE_TYPES, Item, decode_recommendation
from stream.errors import RecordError, UsageError
from stream.kafka.cluster import Cluster

TASTES = 3  # categories a shopper likes
LOOKED_AT = 8  # items of a list that a shopper looks at
TEMPTED = 0.25  # chance that an item within the tastes is clicked
MISLED = 0.02  # the same for any other item
LOOKS = 0.7  # chance to look at the list when there is a new one, rather than browse
BUYS = 0.1  # chance that a click is followed by a purchase
STRAYS = 0.2  # chance that browsing leaves the tastes


@dataclass
class Shopper:
    """One user: tastes, and the newest list not looked at yet."""

    user_id: str
    tastes: frozenset[str]
    shown: list[str] = field(default_factory=list)
    wants: str | None = None  # clicked, and bought with the next step


@dataclass
class Tally:
    """Counts of one second."""

    sent: int = 0
    lists: int = 0
    looks: int = 0
    clicks: int = 0
    delays_ms: list[int] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return the counts as fields; rates that nothing is known of are None."""
        return {
            "events": self.sent,
            "lists": self.lists,
            "looks": self.looks,
            "click_through": round(self.clicks / self.looks, 4) if self.looks else None,
            "event_to_list_ms": statistics.median(self.delays_ms) if self.delays_ms else None,
        }


def category_of(item: Item) -> str:
    """The item's category; without one the last word of its title, which is often its noun."""
    return item.category or (item.title or "").rpartition(" ")[2].upper()


class Shop:
    """The shoppers over one catalogue; pure, so that a test needs no broker.

    Parameters
    ----------
    items : the catalogue by item_id, not empty
    users : > 0
    """

    def __init__(self, items: Mapping[str, Item], users: int, seed: int) -> None:
        self._dice = random.Random(seed)
        self._category = {item_id: category_of(items[item_id]) for item_id in sorted(items)}
        self._of_category: dict[str, list[str]] = defaultdict(list)
        for item_id, category in self._category.items():
            self._of_category[category].append(item_id)
        self._all = list(self._category)
        self.shoppers = [
            # A category is liked as often as it is large: tastes come by way of random items.
            Shopper(
                f"shopper-{seed}-{number}",
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

    def act(self, shopper: Shopper, tally: Tally) -> tuple[str, str, bool]:
        """Return what the shopper does next: event type, item_id, whether it came from the list."""
        if shopper.wants is not None:
            item_id, shopper.wants = shopper.wants, None
            return "purchase", item_id, False
        if shopper.shown and self._dice.random() < LOOKS:
            shown, shopper.shown = shopper.shown[:LOOKED_AT], []
            tally.looks += 1
            for item_id in shown:
                fits = self._category.get(item_id) in shopper.tastes
                if self._dice.random() < (TEMPTED if fits else MISLED):
                    tally.clicks += 1
                    shopper.wants = item_id if self._dice.random() < BUYS else None
                    return "click", item_id, True
        if self._dice.random() < STRAYS:
            return "view", self._dice.choice(self._all), False
        taste = self._dice.choice(sorted(shopper.tastes))
        return "view", self._dice.choice(self._of_category[taste]), False

    def next_shopper(self) -> Shopper:
        """Return whose turn it is."""
        return self._dice.choice(self.shoppers)


def event_record(
    user_id: str, done: str, item_id: str, *, event_id: str, time_ms: int, placement: str | None
) -> bytes:
    """Return the value of the record that tells what a shopper did."""
    event = {
        "event_id": event_id,
        "user_id": user_id,
        "item_id": item_id,
        "type": done,
        "event_time_ms": time_ms,
    }
    return msgspec.json.encode(event | ({"placement": placement} if placement else {}))


@click.command(
    "simulate",
    epilog=examples(
        "freshet simulate --users 20 --rate 5",
        "freshet simulate --rate 100 --events 1000 --json",
    ),
)
@click.option("--users", type=click.IntRange(1), default=100, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=50.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--events", type=click.IntRange(1), help="End after so many events.")
@click.option(
    "--placement",
    default="home",
    show_default=True,
    help="The list they look at.",
    shell_complete=complete_placement,
)
@click.option("--json", "as_json", is_flag=True, help="Print each second as one JSON line.")
@with_settings
def command(
    settings: Settings,
    *,
    users: int,
    rate: float,
    seed: int,
    events: int | None,
    placement: str,
    as_json: bool,
) -> None:
    """Let shoppers with tastes of their own click, buy and browse, RATE events a second.

    Prints each second: events, lists, click-through of the lists, median event-to-list time.
    """
    topics = settings.topics
    with (
        open_consumer(Cluster.of(settings), [topics.items, topics.recommendations]) as consumer,
        open_producer(Cluster.of(settings), [topics.clicks, topics.purchases]) as producer,
    ):
        lists = ListReader(consumer, settings, topics.recommendations)
        if not lists.titles.items:
            raise UsageError(
                f"the topic {topics.items!r} holds no catalogue: produce one, or try `freshet demo`"
            )
        shop = Shop(lists.titles.items, users, seed)
        by_user = {shopper.user_id: shopper for shopper in shop.shoppers}
        click.echo(
            f"{users} shoppers over {len(lists.titles.items)} items; random lists would have "
            f"a click-through of {shop.chance_of_random_list():.1%}; Ctrl-C ends",
            err=True,
        )
        tally, since, second = Tally(), time.monotonic(), 1
        for number, due in enumerate(_times(rate, events)):
            while True:
                left_s = due - time.monotonic()
                for record in lists.poll(max(0.0, min(left_s, 0.1))):
                    _show(by_user, record, placement, tally)
                if time.monotonic() >= since + second:
                    _report(second, tally, as_json)
                    second, tally = second + 1, Tally()
                if left_s <= 0:
                    break
            shopper = shop.next_shopper()
            done, item_id, listed = shop.act(shopper, tally)
            producer.send(
                topics.purchases if done in PURCHASE_TYPES else topics.clicks,
                key=shopper.user_id.encode(),
                value=event_record(
                    shopper.user_id,
                    done,
                    item_id,
                    event_id=f"{seed}-{time.time_ns()}-{number}",
                    time_ms=time.time_ns() // 1_000_000,
                    placement=placement if listed else None,
                ),
            )
            tally.sent += 1
        producer.flush(timeout=10)
        _report(second, tally, as_json)


def _times(rate: float, events: int | None) -> Iterator[float]:
    """Yield when each event is due, on the monotonic clock; late ones are not skipped."""
    started = time.monotonic()
    number = 0
    while events is None or number < events:
        yield started + number / rate
        number += 1


def _show(by_user: Mapping[str, Shopper], record: Any, placement: str, tally: Tally) -> None:
    shopper = by_user.get((record.key or b"").decode(errors="replace"))
    if shopper is None or record.value is None:
        return
    try:
        recommendation = decode_recommendation(record.value)
    except RecordError:
        return
    if placement in recommendation.lists:
        shopper.shown = [item.item_id for item in recommendation.lists[placement].items]
    tally.lists += 1
    now_ms = time.time_ns() // 1_000_000
    tally.delays_ms.append(now_ms - recommendation.cause.event_time_ms)


def _report(second: int, tally: Tally, as_json: bool) -> None:
    found = tally.report()
    if as_json:
        print_json({"second": second, **found})
        return
    rate, delay = found["click_through"], found["event_to_list_ms"]
    click.echo(
        f"{second:4} s  {tally.sent:6} events  {tally.lists:6} lists  click-through "
        f"{'    -' if rate is None else f'{rate:5.1%}'} of {tally.looks:5}  event to list "
        f"{'-' if delay is None else f'{delay:.0f} ms'}"
    )
