"""`freshet simulate`: shoppers who react to their lists. In: the catalogue and lists. Out: events.

Who the shoppers are says `shoppers.py`. What they do depends on when lists arrive, so a seed fixes
tastes and dice, not the exact run. New items go to the items topic while it runs, and are taken
out again at its end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec
from kafka import KafkaProducer

from stream.cli.clients import open_consumer, open_producer
from stream.cli.common import (
    Number,
    Wait,
    complete_placement,
    end_when_alone,
    examples,
    print_json,
    with_settings,
)
from stream.cli.lists import ListReader
from stream.cli.shoppers import Shop, Shopper, Tally, to_choose_from
from stream.config import Settings
from stream.contracts import PURCHASE_TYPES, decode_recommendation, encode_record
from stream.errors import RecordError, UsageError
from stream.kafka.cluster import Cluster


def event_record(
    user_id: str, done: str, item_id: str, *, event_id: str, time_ms: int, on: Mapping[str, str]
) -> bytes:
    """Return the value of the record that tells what a shopper did; `on` says on which list."""
    event = {
        "event_id": event_id,
        "user_id": user_id,
        "item_id": item_id,
        "type": done,
        "event_time_ms": time_ms,
    }
    return msgspec.json.encode({**event, **on})


@click.command(
    "simulate",
    epilog=examples(
        "freshet simulate --users 20 --rate 5",
        "freshet simulate --drift 0.01 --new-items 5 --impressions",
        "freshet simulate --rate 100 --events 1000 --json",
    ),
)
@click.option("--users", type=click.IntRange(1), default=100, show_default=True)
@click.option("--rate", type=Number(0, 1e6, min_open=True), default=50.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--events", type=click.IntRange(1), help="End after so many events.")
@click.option(
    "--placement",
    default="home",
    show_default=True,
    help="The list they look at.",
    shell_complete=complete_placement,
)
@click.option(
    "--drift",
    type=Number(0, 1),
    default=0.0,
    show_default=True,
    help="Chance that a step begins with another taste.",
)
@click.option(
    "--new-items",
    "new_every_s",
    type=Wait(),
    metavar="SECONDS",
    help="A new item arrives this often (default: none).",
)
@click.option("--impressions", is_flag=True, help="Send what came into view, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line each second, and one of all.")
@click.option("--end-with-parent", is_flag=True, hidden=True)
@with_settings
def command(
    settings: Settings,
    *,
    users: int,
    rate: float,
    seed: int,
    events: int | None,
    placement: str,
    drift: float,
    new_every_s: float | None,
    impressions: bool,
    as_json: bool,
    end_with_parent: bool,
) -> None:
    """Let shoppers with tastes of their own click, buy and browse, RATE events a second.

    Prints each second, and of all at the end: events, lists, click-through of the lists, how much
    less that is to be expected to be than of the best lists for these tastes (regret), the share
    of new items among those in view, median event-to-list time.
    """
    if end_with_parent:
        end_when_alone()
    topics = settings.topics
    written = [topics.clicks, topics.purchases, *([topics.items] if new_every_s else [])]
    with (
        open_consumer(Cluster.of(settings), [topics.items, topics.recommendations]) as consumer,
        open_producer(Cluster.of(settings), written) as producer,
    ):
        lists = ListReader(consumer, settings, topics.recommendations)
        if not lists.titles.items:
            raise UsageError(
                f"the topic {topics.items!r} holds no catalogue: produce one, or try `freshet demo`"
            )
        items = to_choose_from(lists.titles.items)
        shop = Shop(items, users, seed, drift)
        click.echo(
            f"{users} shoppers over {len(items)} items; random lists would have "
            f"a click-through of {shop.chance_of_random_list():.1%}; Ctrl-C ends",
            err=True,
        )
        run = _Run(settings, lists, producer, shop, placement, as_json)
        try:
            run.go(_times(rate, events), new_every_s, impressions=impressions)
        finally:
            for item_id in shop.arrived:
                producer.send(topics.items, key=item_id.encode(), value=None)
            producer.flush(timeout=10)
            run.end()


class _Run:
    """One run: sends what is due, takes in what arrives, reports each second."""

    def __init__(
        self,
        settings: Settings,
        lists: ListReader,
        producer: KafkaProducer,
        shop: Shop,
        placement: str,
        as_json: bool,
    ) -> None:
        self._topics = settings.topics
        self._lists = lists
        self._producer = producer
        self._shop = shop
        self._by_user = {shopper.user_id: shopper for shopper in shop.shoppers}
        self._placement = placement
        self._as_json = as_json
        self._sent = 0
        self._second, self._tally, self._total = 1, Tally(), Tally()

    def go(self, due: Iterator[float], new_every_s: float | None, *, impressions: bool) -> None:
        """Let an event happen whenever one is due."""
        since = time.monotonic()
        for at in due:
            while True:
                left_s = at - time.monotonic()
                for record in self._lists.poll(max(0.0, min(left_s, 0.1))):
                    _show(self._by_user, record, self._placement, self._tally)
                if time.monotonic() >= since + self._second:
                    self._report()
                if left_s <= 0:
                    break
            gone_s = time.monotonic() - since
            while new_every_s and len(self._shop.arrived) < int(gone_s / new_every_s):
                item = self._shop.arrive()
                value = encode_record(item)
                self._producer.send(self._topics.items, key=item.item_id.encode(), value=value)
            shopper = self._shop.next_shopper()
            done, item_id, listed = self._shop.act(shopper, self._tally)
            on = {"placement": self._placement}
            if shopper.list_name is not None:
                on["list_name"] = shopper.list_name
            for seen in shopper.saw if impressions else ():
                self._send(shopper.user_id, "impression", seen, on)
            self._send(shopper.user_id, done, item_id, on if listed else {})

    def _send(self, user_id: str, done: str, item_id: str, on: Mapping[str, str]) -> None:
        self._producer.send(
            self._topics.purchases if done in PURCHASE_TYPES else self._topics.clicks,
            key=user_id.encode(),
            value=event_record(
                user_id,
                done,
                item_id,
                event_id=f"{user_id}-{time.time_ns()}-{self._sent}",
                time_ms=time.time_ns() // 1_000_000,
                on=on,
            ),
        )
        self._sent += 1
        self._tally.sent += 1

    def _report(self) -> None:
        told = {"second": self._second, **self._tally.report()}
        if self._as_json:
            print_json(told)
        else:
            click.echo(f"{self._second:4} s  {_line(self._tally)}")
        self._total.add(self._tally)
        self._second, self._tally = self._second + 1, Tally()

    def end(self) -> None:
        """Report the rest of the last second, and the whole run."""
        self._report()
        arrived, shown = len(self._shop.arrived), len(self._shop.shown_new)
        if self._as_json:
            new = {"new_items_arrived": arrived, "new_items_shown": shown}
            print_json({"total": {**self._total.report(), **new}})
            return
        click.echo(f"   all  {_line(self._total)}")
        if arrived:
            click.echo(f"{shown} of {arrived} new items were shown to somebody")


def _line(tally: Tally) -> str:
    found = tally.report()
    rate, regret, delay = found["click_through"], found["regret"], found["event_to_list_ms"]
    new = f"  new {found['new_items']:.1%}" if tally.seen_new else ""
    return (
        f"{tally.sent:6} events  {tally.lists:6} lists  click-through "
        f"{'    -' if rate is None else f'{rate:5.1%}'} of {tally.looks:5}  regret "
        f"{'    -' if regret is None else f'{regret:5.1%}'}{new}  event to list "
        f"{'-' if delay is None else f'{delay:.0f} ms'}"
    )


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
    ranked = recommendation.lists.get(placement)
    if ranked is not None:
        shopper.shown = [item.item_id for item in ranked.items]
        shopper.shown_name = ranked.name or None
    tally.lists += 1
    now_ms = time.time_ns() // 1_000_000
    tally.delays_ms.append(now_ms - recommendation.cause.event_time_ms)
