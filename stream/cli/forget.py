"""`freshet forget`: an erasure by hand. In: a user id. Out: records on erasures, their receipts.

Written to every partition, not only to that of the user's key: events that a producer put into
another one (see `freshet_misrouted_records_total`) left a state there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from stream.cli.clients import assign_all, open_consumer, open_producer, seek_to_end
from stream.cli.common import Wait, examples, print_json, printable, with_settings
from stream.config import Settings
from stream.contracts import Receipt, decode_erasures, decode_record
from stream.errors import FreshetError, RecordError, UsageError
from stream.kafka.cluster import Cluster
from stream.kafka.specs import ERASURES_WAIT_MS

_DAY_MS = 86_400_000
_YEAR_MS = 31_556_952_000  # on average

Place = tuple[int, int]  # partition, offset


@click.command(
    "forget",
    epilog=examples(
        "freshet forget u1",
        "freshet forget u1 --timeout 60 --json",
    ),
)
@click.argument("user", metavar="USER")
@click.option("--time-ms", type=int, help="Forget events up to this event_time_ms (default: now).")
@click.option(
    "--timeout",
    "timeout_s",
    type=Wait(),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the receipts.",
)
@click.option("--json", "as_json", is_flag=True, help="The receipts, one a line.")
@with_settings
def command(
    settings: Settings, user: str, *, time_ms: int | None, timeout_s: float, as_json: bool
) -> None:
    """Forget a user: states, lists, changelog; wait until it is done.

    Events of the user from before that time will not bring the user back; later ones begin anew.
    """
    now_ms = time.time_ns() // 1_000_000
    key, value = _record(user, now_ms if time_ms is None else time_ms, now_ms)
    topics = settings.topics
    with contextlib.ExitStack() as stack:
        # Subscribed before the erasure is sent: its receipt may come at once.
        consumer = stack.enter_context(open_consumer(Cluster.of(settings), [topics.receipts]))
        seek_to_end(consumer, assign_all(consumer, [topics.receipts])[topics.receipts])
        producer = stack.enter_context(open_producer(Cluster.of(settings), [topics.erasures]))
        began_s = time.monotonic()
        sent = [
            producer.send(topics.erasures, key=key, value=value, partition=partition)
            for partition in sorted(producer.partitions_for(topics.erasures))
        ]
        acknowledged = [future.get(timeout=20) for future in sent]
        wanted = {(place.partition, place.offset) for place in acknowledged}
        receipts = _await_receipts(consumer, topics.erasures, wanted, began_s + timeout_s)
    if len(receipts) < len(wanted):
        raise FreshetError(
            f"{len(wanted) - len(receipts)} of {len(wanted)} receipts did not come within "
            f"{timeout_s:g} s: is a worker running? The erasure stands on {topics.erasures!r} "
            f"and will be carried out once one reads it, for as long as that topic keeps it "
            f"({ERASURES_WAIT_MS // _DAY_MS} days, as `freshet topics create` makes it). Later, "
            f"forget the user again; `freshet doctor --bootstrap {settings.bootstrap}` looks for "
            f"what is wrong"
        )
    if as_json:
        for receipt in receipts:
            print_json(receipt)
    else:
        _show(user, receipts, time.monotonic() - began_s)


def _record(user: str, time_ms: int, now_ms: int) -> tuple[bytes, bytes]:
    """Key and value of the erasure; refuses what the worker would put among the dead letters."""
    try:
        key = user.encode()
    except UnicodeEncodeError as error:
        raise UsageError("USER is not valid UTF-8") from error
    value = json.dumps({"user_id": user, "event_time_ms": time_ms}).encode()
    _, rejections = decode_erasures([key], [value], now_ms)
    for _, reason, field in rejections:
        where = f" in {field}" if field else ""
        raise UsageError(f"the erasure cannot be used: {reason}{where}")
    return key, value


def _await_receipts(
    consumer: Any, topic: str, wanted: set[Place], deadline_s: float
) -> list[Receipt]:
    """Receipts of the erasures at these places, as many as came in time; one each."""
    found: dict[Place, Receipt] = {}
    while len(found) < len(wanted) and (left_s := deadline_s - time.monotonic()) > 0:
        polled = consumer.poll(timeout_ms=max(1, min(500, int(left_s * 1000))))
        for receipt in _decoded(one.value for records in polled.values() for one in records):
            cause = receipt.erasure
            place = (cause.partition, cause.offset)
            if cause.topic == topic and place in wanted:
                found[place] = receipt
    return [found[place] for place in sorted(found)]


def _decoded(values: Iterator[bytes | None]) -> Iterator[Receipt]:
    for value in values:
        with contextlib.suppress(RecordError):
            yield decode_record(Receipt, value)


def _show(user: str, receipts: list[Receipt], took_s: float) -> None:
    click.echo(
        f"{printable(user)} is forgotten in all {len(receipts)} partitions, after {took_s:.1f} s. "
        f"Events from before will not bring the user back."
    )
    for topics, what in (
        ([one.removed for one in receipts], "Removed from"),
        ([one.without_user_ids for one in receipts], "No id of a user stands on"),
    ):
        if names := dict.fromkeys(itertools.chain.from_iterable(topics)):
            click.echo(f"{what} {', '.join(map(printable, names))}.")
    click.echo("Until the topics' own settings let go of them, copies may stand in")
    until_ms: dict[str, int | None] = {}
    for receipt in receipts:
        for topic, at_ms in receipt.copies_until_ms.items():
            known = until_ms.get(topic, 0)
            until_ms[topic] = None if at_ms is None or known is None else max(known, at_ms)
    for topic, at_ms in until_ms.items():
        until = "for ever" if at_ms is None else f"until {_day(at_ms)}"
        click.echo(f"  {printable(topic):<32} {until}")
    for topic in dict.fromkeys(topic for one in receipts for topic in one.copies_unknown):
        if topic not in until_ms:
            untold = "for how long is not known: the brokers do not tell its settings"
            click.echo(f"  {printable(topic):<32} {untold}")


def _day(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):  # a topic may keep for a million years
        return f"the year {at_ms // _YEAR_MS + 1970}"
