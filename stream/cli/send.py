"""`freshet send`: one event by hand. In: options. Out: one record on clicks or purchases.

The example of how to produce: a JSON object, keyed by user_id, with kafka-python, whose partitioner
is the Java client's. With --wait also the user's list that reflects it (`reflected.py`).
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import Any

import click
import msgspec

from stream.cli.clients import open_producer
from stream.cli.common import (
    Wait,
    complete_placement,
    examples,
    print_json,
    printable,
    read_property,
    with_settings,
)
from stream.cli.reflected import Reflected, following_lists
from stream.config import Settings
from stream.contracts import EVENT_TYPES, PURCHASE_TYPES, Kind, decode_events
from stream.errors import UsageError
from stream.kafka.cluster import Cluster

SHOWN = 5  # items of the list that --wait shows


@click.command(
    "send",
    epilog=examples(
        "freshet send click --user u1 --item 85123A --wait",
        "freshet send purchase --user u1 --item 85123A --quantity 2 --price 2.55",
        "freshet send view --user u1 --item 85123A --property device=phone",
    ),
)
@click.argument("event_type", metavar="TYPE", type=click.Choice(list(EVENT_TYPES)))
@click.option("--user", required=True, help="user_id, which is also the record's key.")
@click.option("--item", required=True, help="item_id.")
@click.option("--event-id", help="Events with the same one count once (default: a fresh one).")
@click.option("--session", help="session_id.")
@click.option(
    "--placement", help="The list that the item was on.", shell_complete=complete_placement
)
@click.option("--list-name", help="The name of that list, as the list tells it.")
@click.option("--property", "properties", metavar="K=V", multiple=True, help="May be repeated.")
@click.option("--quantity", type=float, help="Of a purchase.")
@click.option("--price", type=float, help="unit_price of a purchase.")
@click.option("--currency", help="Of a purchase.")
@click.option("--time-ms", type=int, help="event_time_ms (default: now).")
@click.option("--wait", is_flag=True, help="Wait for the user's list that reflects the event.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Wait(),
    default=10.0,
    show_default=True,
    help="Seconds that --wait waits.",
)
@click.option("--json", "as_json", is_flag=True, help="Where the record stands (and the list).")
@with_settings
def command(
    settings: Settings,
    event_type: str,
    *,
    wait: bool,
    timeout_s: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Send one event by hand.

    TYPE: view, click, add_to_cart, remove_from_cart, like, dislike, impression, purchase, cancel.
    """
    kind: Kind = "purchases" if event_type in PURCHASE_TYPES else "clicks"
    topic = settings.topics.purchases if kind == "purchases" else settings.topics.clicks
    key, event = _event(kind, event_type, options)
    _check(kind, key, event)
    with contextlib.ExitStack() as stack:
        # Subscribed before the event is sent: its list may come at once.
        lists = stack.enter_context(following_lists(settings)) if wait else None
        producer = stack.enter_context(open_producer(Cluster.of(settings), [topic]))
        if options["time_ms"] is None:  # now that it is connected
            event["event_time_ms"] = _now_ms()
        value = json.dumps(event).encode()
        sent_at_s = time.monotonic()
        sent = producer.send(topic, key=key, value=value).get(timeout=20)
        _show_sent(sent, event, as_json=as_json)
        if lists is not None:
            answer = lists.await_list(key, sent, timeout_s)
            _show_list(answer, (answer.at_s - sent_at_s) * 1000, as_json=as_json)


def _show_sent(sent: Any, event: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset, **event}
        )
    else:
        click.echo(
            f"{event['type']} of {printable(event['user_id'])} on {printable(event['item_id'])}: "
            f"{sent.topic}, partition {sent.partition}, offset {sent.offset}"
        )


def _show_list(answer: Reflected, took_ms: float, *, as_json: bool) -> None:
    if as_json:
        print_json({"event_to_list_ms": took_ms, **msgspec.json.decode(answer.value)})
        return
    click.echo(f"new list in {took_ms:.1f} ms")
    for placement, ranked in answer.recommendation.lists.items():
        top = [f"{item.rank}. {printable(item.item_id)} {item.score:.2f}" for item in ranked.items]
        click.echo("  ".join([printable(placement), *top[:SHOWN]]))


def _event(kind: Kind, event_type: str, options: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Return the record's key and its fields."""
    amounts = {name: options[name] for name in ("quantity", "price", "currency")}
    if kind == "clicks" and any(given is not None for given in amounts.values()):
        raise UsageError("--quantity, --price and --currency belong to purchase and cancel")
    fields = {
        "event_id": options["event_id"] or uuid.uuid4().hex,
        "user_id": options["user"],
        "item_id": options["item"],
        "type": event_type,
        "event_time_ms": _now_ms() if options["time_ms"] is None else options["time_ms"],
        "session_id": options["session"],
        "placement": options["placement"],
        "list_name": options["list_name"],
        "properties": dict(map(read_property, options["properties"])) or None,
        "quantity": amounts["quantity"],
        "unit_price": amounts["price"],
        "currency": amounts["currency"],
    }
    try:
        key = options["user"].encode()
    except UnicodeEncodeError as error:
        raise UsageError("--user is not valid UTF-8") from error
    return key, {name: given for name, given in fields.items() if given is not None}


def _check(kind: Kind, key: bytes, event: dict[str, Any]) -> None:
    """Refuse here what the worker would only put among the dead letters."""
    value = json.dumps(event).encode()
    _, rejections = decode_events(kind, [key], [value], [0], _now_ms())
    for _, reason, field in rejections:
        where = f" in {field}" if field else ""
        raise UsageError(f"the event cannot be used: {reason}{where}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
